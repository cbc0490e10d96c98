"""Runs one trace with the view of chosen heads cut: teacher-forced, or with the answer written anew.

PrefixRun (the unchanged run), Arms (which heads are cut, and how) -> log-probabilities of the tokens that the rows from
the first cut one on write, or answers. knockout.prefix says which rows lose which keys, knockout.cut what a cut is.

Rows before the cut ones are the same in every arm, and so are the layers below the lowest cut head: an arm takes their
keys and values from the unchanged run, and enters at that layer with its residual stream. Arms are rows of one batch.
All of it is exact; only rounding differs from one full forward pass per arm.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.hooks import ModelShape, every_residual, model_shape, skipped
from r2a_core.infra.checks import check_finite
from r2a_core.infra.memory import MIB, retry_with_half
from r2a_core.knockout.cut import CutPlan, MeanOutputs
from r2a_core.knockout.prefix import LOGIT_ROWS, PrefixRun, token_log_probs
from r2a_core.knockout.sets import Arm
from r2a_core.trace import TokenTrace

HINT = "use a device with more memory, or shorter traces"


def run_arms(
    model: Any, run: PrefixRun, arms: Sequence[Arm], memory_mib: int, means: MeanOutputs | None = None
) -> dict[Arm, Tensor]:
    """Return the log-probabilities of the tokens of the run under each arm, (token,) float64, in any order of `arms`.

    memory_mib: MiB on the device for the rows of one pass; halved while the device runs out. means: for mean_head.
    """
    shape, ordered = model_shape(model), sorted(set(arms))
    one_arm = arm_bytes(shape, run)

    def compute(mib: int) -> dict[Arm, Tensor]:
        size = max(1, mib * MIB // one_arm)
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        values = torch.cat([forced_pass(model, shape, run, part, means or {}) for part in parts])
        return dict(zip(ordered, values, strict=True))

    smallest = -(-one_arm // MIB)
    return retry_with_half(compute, max(memory_mib, smallest), smallest, f"{run.trace.item_id}, MiB of arms", HINT)


def arm_bytes(shape: ModelShape, run: PrefixRun) -> int:
    """Return the device memory of one arm of a pass.

    A row counts 6 residual streams, 3 MLP widths, 6 query widths and, in a block of LOGIT_ROWS, its logits; keys and
    values of the whole trace are alive three times, for one layer.
    """
    width = 6 * shape.d_model + 3 * shape.d_mlp + 6 * shape.n_heads * shape.head_dim
    n_rows = len(run.log_probs)
    numbers = n_rows * width + min(n_rows, LOGIT_ROWS) * shape.n_vocab
    return numbers * shape.dtype.itemsize + 3 * run.trace.segments.n_tokens * shape.kv_bytes


@torch.no_grad()
def forced_pass(model: Any, shape: ModelShape, run: PrefixRun, arms: Sequence[Arm], means: MeanOutputs) -> Tensor:
    """Run arms, which ascend by first layer, in one pass: log-probabilities (arm, token)."""
    starts = [arm.first_layer for arm in arms]
    rows = range(run.view.first, run.trace.segments.answer.stop - 1)
    plan, left = CutPlan.of(run, arms, shape, means, len(rows)), list[Tensor]()

    def enter(layer: int, hidden: Tensor) -> Tensor:
        if layer == shape.n_layers:
            left.append(hidden)
        if layer not in (0, *starts):
            return hidden
        before = hidden[:0] if layer == 0 else hidden  # the embeddings: residuals[0] holds them
        return torch.cat([before, run.residuals[layer].expand(starts.count(layer), -1, -1)])

    below = skipped(shape.layers[: starts[0]])
    with planned_attention(model, plan), every_residual(shape, enter), below:
        model.get_decoder()(
            input_ids=torch.tensor([run.trace.token_ids[rows.start : rows.stop]], device=shape.device),
            position_ids=torch.arange(rows.start, rows.stop, device=shape.device)[None],
            use_cache=False,
        )
    return token_log_probs(model, left[0], run.trace)


@torch.no_grad()
def write_anew(
    model: Any,
    run: PrefixRun,
    arms: Sequence[Arm],
    ends: Sequence[int],
    max_new_tokens: int,
    means: MeanOutputs | None = None,
) -> dict[Arm, tuple[int, ...]]:
    """Write the answer anew after `</think>` under each arm, greedily: token ids without the one that ended it."""
    shape, ordered = model_shape(model), sorted(set(arms))
    plan = CutPlan.of(run, ordered, shape, means or {}, max_new_tokens)
    plan.grown = {}
    answers: dict[Arm, list[int]] = {arm: [] for arm in ordered}
    alive, tokens = ordered, [run.trace.token_ids[run.view.first]] * len(ordered)
    tensor = partial(torch.tensor, device=shape.device)
    with planned_attention(model, plan):
        for position in range(run.view.first, run.view.first + max_new_tokens):
            ids, places = tensor(tokens)[:, None], tensor([[position]] * len(alive))
            logits = model(input_ids=ids, position_ids=places, use_cache=False).logits[:, -1]
            check_finite(logits, f"logits of {run.trace.item_id!r}, written anew", ("arm", "token"))
            chosen = logits.argmax(-1).tolist()
            going = [row for row, token in enumerate(chosen) if token not in ends]
            if len(going) < len(alive):
                plan.keep(going)
            alive, tokens = [alive[row] for row in going], [chosen[row] for row in going]
            for arm, token in zip(alive, tokens, strict=True):
                answers[arm].append(token)
            if not alive:
                break
    return {arm: tuple(answer) for arm, answer in answers.items()}


@torch.no_grad()
def writes(model: Any, trace: TokenTrace, answer: Sequence[int]) -> bool:
    """Tell whether one whole pass, alone, would write the same answer greedily after `</think>`.

    Where it would not, rounding in a batch has decided between two tokens.
    """
    ids = [*trace.token_ids[: trace.segments.answer.start], *answer]
    logits = model(torch.tensor([ids], device=model.device), use_cache=False, logits_to_keep=len(answer) + 1).logits[0]
    return logits[:-1].argmax(-1).tolist() == [*answer]
