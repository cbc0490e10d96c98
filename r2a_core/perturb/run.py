"""Forces the answer after each changed trace: log-probability of the original answer, and what is written instead.

model, Reading, Arms -> Forced. The unchanged trace is run once, up to `</think>`; every arm takes the keys and values
of the tokens that it shares with its beginning, and runs the rest. Arms lie one behind the other in one row of a
forward pass, each with its own positions and attention, so that no padding is computed. All of it is exact; only
rounding differs from one full forward pass per arm.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch

from r2a_core.activations.hooks import ModelShape, model_shape
from r2a_core.infra.checks import check_finite
from r2a_core.infra.memory import MIB, retry_with_half
from r2a_core.perturb.arms import Arm
from r2a_core.perturb.packed import Cache, PackedPlan, packed_pass, suffix_attention
from r2a_core.perturb.reading import Reading

HINT = "use a device with more memory, or shorter traces"


@dataclass(frozen=True)
class Forced:
    """The answer that one arm is forced to give."""

    log_prob: float  # of the whole result of the trace, nats
    n_run: int  # tokens that were computed
    written: tuple[int, ...]  # greedily behind the open brace; the trace's own result where `same`
    same: bool  # the result of the trace is what would be written greedily
    whole: bool  # it came to its end, and was not cut off


@torch.no_grad()
def trace_cache(model: Any, reading: Reading) -> Cache:
    """Run the unchanged trace up to `</think>`, once: keys and values."""
    ids = reading.trace.token_ids[: reading.trace.segments.think_close]
    plan = PackedPlan({}, [0], [len(ids)], suffix_attention(model, len(ids)), [{}])
    packed_pass(model, plan, [ids], [0], [0])
    return plan.grown[0]


def shared_tokens(reading: Reading, ids: Sequence[int]) -> int:
    """Count the tokens with which a changed and the unchanged trace begin alike, up to `</think>`."""
    own = reading.trace.token_ids[: reading.trace.segments.think_close]
    pairs = enumerate(zip(ids, own, strict=False))
    return next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(ids), len(own)))


def run_arms(
    model: Any,
    reading: Reading,
    cache: Cache,
    arms: Sequence[Arm],
    ended: Callable[[Sequence[int]], bool],
    answer_tokens: int,
    memory_mib: int,
) -> list[Forced]:
    """Force an answer after each arm, in their order.

    ended: tells whether what was written behind the open brace is a whole answer. memory_mib: MiB on the device for the
    arms of a pass; halved while the device runs out.
    """
    shape = model_shape(model)
    sizes = [arm_bytes(shape, reading, arm) for arm in arms]

    def compute(mib: int) -> list[Forced]:
        packs = [arms[pack.start : pack.stop] for pack in filled(sizes, mib * MIB)]
        return [each for pack in packs for each in forced_pack(model, reading, cache, pack, ended, answer_tokens)]

    smallest = -(-max(sizes, default=1) // MIB)
    name = f"{reading.trace.item_id}, MiB of arms"
    return retry_with_half(compute, max(memory_mib, smallest), smallest, name, HINT)


def filled(sizes: Sequence[int], room: int) -> list[range]:
    """Cut a sequence into runs that fit into the room, each of one at least."""
    starts, taken = list[int](), 0
    for at, size in enumerate(sizes):
        if not starts or taken + size > room:
            starts.append(at)
            taken = 0
        taken += size
    return [range(*ends) for ends in pairwise([*starts, len(sizes)])]


def arm_bytes(shape: ModelShape, reading: Reading, arm: Arm) -> int:
    """Return the device memory of one arm of a pass.

    A token counts 6 residual streams, 3 MLP widths, 6 query widths, and its keys and values in every layer; those of
    the whole arm are alive twice, for one layer; a token of the result has logits, three times.
    """
    new = len(arm.ids) - shared_tokens(reading, arm.ids) + len(reading.stem) + len(reading.result)
    width = 6 * shape.d_model + 3 * shape.d_mlp + 6 * shape.n_heads * shape.head_dim
    whole = len(arm.ids) + len(reading.stem) + len(reading.result)
    cached = (new * shape.n_layers + 2 * whole) * shape.kv_bytes
    return cached + (new * width + 3 * len(reading.result) * shape.n_vocab) * shape.dtype.itemsize


@torch.no_grad()
def forced_pack(
    model: Any,
    reading: Reading,
    cache: Cache,
    arms: Sequence[Arm],
    ended: Callable[[Sequence[int]], bool],
    answer_tokens: int,
) -> list[Forced]:
    """Force the answers of some arms in one pass, then write on where they differ from the trace's own."""
    common = [shared_tokens(reading, arm.ids) for arm in arms]
    ids = [[*arm.ids[start:], *reading.stem, *reading.result[:-1]] for arm, start in zip(arms, common, strict=True)]
    lengths, width = [len(each) for each in ids], len(reading.result)
    whole = [start + length for start, length in zip(common, lengths, strict=True)]
    suffix = suffix_attention(model, max(whole) + answer_tokens)
    plan = PackedPlan(cache, common, lengths, suffix, [{} for _ in arms])
    rows = [stop - width + offset for stop in accumulate(lengths) for offset in range(width)]
    logits = packed_pass(model, plan, ids, common, rows).reshape(len(arms), width, -1)
    target = torch.tensor(reading.result, device=logits.device)
    picked = torch.stack([each.float().log_softmax(-1).gather(1, target[:, None])[:, 0] for each in logits])
    log_probs = picked.double().sum(1).cpu()
    check_finite(log_probs, f"log-probabilities of {reading.trace.item_id!r}", ("arm",))
    best = logits.argmax(-1)
    same = (best == target).all(1).tolist()
    starts = [stop - width + 1 for stop in whole]  # of what is written
    first = {}
    for row in (row for row, each in enumerate(same) if not each):  # the stem stays, the result given does not
        keep, first[row] = lengths[row] - width + 1, int(best[row, 0])
        plan.grown[row] = {layer: (k[:, :, :keep], v[:, :, :keep]) for layer, (k, v) in plan.grown[row].items()}
    check = f"logits of {reading.trace.item_id!r}"
    written = complete_answers(model, plan, first, starts, ended, answer_tokens, check)
    texts = [tuple(written.get(row, reading.result)) for row in range(len(arms))]
    return [
        Forced(float(log_prob), length, text, each, each or ended(text))
        for log_prob, length, text, each in zip(log_probs, lengths, texts, same, strict=True)
    ]


def complete_answers(
    model: Any,
    plan: PackedPlan,
    first: Mapping[int, int],
    starts: Sequence[int],
    ended: Callable[[Sequence[int]], bool],
    answer_tokens: int,
    what: str,
) -> dict[int, list[int]]:
    """Write greedily the rest of the answers of some arms of a plan, by row.

    first: their first tokens; starts: the places of these; what: the name of the logits in errors.
    """
    written: dict[int, list[int]] = {row: [] for row in first}
    going, tokens = [*first], dict(first)
    for step in range(answer_tokens):
        for row in going:
            written[row].append(tokens[row])
        going = [row for row in going if not ended(written[row])]
        if not going or step == answer_tokens - 1:
            break
        commons, grown = [plan.common[row] for row in going], [plan.grown[row] for row in going]
        some = PackedPlan(plan.shared, commons, [1] * len(going), plan.suffix, grown)
        ids, places = [[tokens[row]] for row in going], [starts[row] + step for row in going]
        logits = packed_pass(model, some, ids, places, range(len(going)))
        check_finite(logits, what, ("arm", "token"))
        tokens = dict(zip(going, logits.argmax(-1).tolist(), strict=True))
    return written
