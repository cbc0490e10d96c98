"""Runs one trace with the view of chosen heads cut: teacher-forced, or with the answer written anew.

model, TokenTrace -> PrefixRun: the unchanged run by one forward pass; Arms -> log-probabilities of the tokens that the
rows from the first cut one on write, or answers. A token is written by the row before it. In a chosen head the rows of
a View, and no others, lose its keys R (tags apart):

    answer              `</think>` and all that follow lose the reasoning
    question            `<think>` to the row before `</think>` lose the question
    earlier_reasoning   the same rows lose the reasoning before them

    mask        a(i, j) for j in R is left out of the softmax: the rest takes its share; a row still sees itself
    zero        a(i, j) for j in R, also j = i, becomes 0 after the softmax
    zero_head   z, the head's output and input of o_proj, becomes 0
    mean_head   z becomes its mean over the cut rows of other traces

Rows before the cut ones are the same in every arm, and so are the layers below the lowest cut head: an arm takes their
keys and values from the unchanged run, and enters at that layer with its residual stream. Arms are rows of one batch.
All of it is exact; only rounding differs from one full forward pass per arm. Logits exist for a few rows at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.hooks import ModelShape, every_residual, logits_of, model_shape, skipped
from r2a_core.activations.layer_attention import LayerCall, MaskSpec, attend, check_inputs
from r2a_core.activations.suffix import SuffixAttention
from r2a_core.config import KnockoutKind
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import MIB, retry_with_half
from r2a_core.knockout.sets import Arm
from r2a_core.trace import TokenTrace, TraceSegments

MeanOutputs = Mapping[int, Tensor]  # layer -> z (head, head_dim), mean over the rows that are cut

LOGIT_ROWS = 256  # of an arm, whose logits exist at a time
CACHED_ROWS = 32  # of these, in float32 at a time: what a processor's cache holds

HINT = "use a device with more memory, or shorter traces"


@dataclass(frozen=True)
class View:
    """Which rows lose which keys. Arms compute the rows from `first` on; those behind `stop` read what changed."""

    first: int
    stop: int | None  # of the rows that are cut; None: to the end, also of an answer that is written anew
    hidden: range

    @classmethod
    def of(cls, name: str, segments: TraceSegments) -> "View":
        """Find rows and keys of a view in a trace."""
        if name == "answer":
            return cls(segments.think_close, None, segments.reasoning)
        hidden = segments.query if name == "question" else segments.reasoning
        return cls(segments.think_open, segments.think_close, hidden)

    @property
    def unread(self) -> range:
        """Return the hidden tokens that no cut row sees, not even as itself: all, where they lie before the rows."""
        return self.hidden if self.hidden.stop <= self.first else range(0)


@dataclass(frozen=True)
class PrefixRun:
    """The unchanged run of one trace, as far as its arms share it (model's dtype and device)."""

    trace: TokenTrace
    view: View
    residuals: Tensor  # (layer, row, d_model), entering each layer; rows: the first cut one to the last token but one
    keys: dict[int, Tensor]  # layer -> (1, kv_head, token, head_dim), after RoPE, of the tokens before these rows
    values: dict[int, Tensor]
    mean_z: dict[int, Tensor]  # layer -> (head, head_dim) float32, mean over the cut rows
    log_probs: Tensor  # (token,) float64, of the tokens that the rows write

    def part(self, tokens: range) -> slice:
        """Return the place of tokens among those that the rows write."""
        return slice(tokens.start - self.view.first - 1, tokens.stop - self.view.first - 1)


@dataclass
class PrefixPlan:
    """The model's own attention over one whole sequence; keeps what arms need."""

    view: View
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)
    mean_z: dict[int, Tensor] = field(default_factory=dict)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        check_inputs(call, query, key)
        layer = call.layer.layer
        out = attend(call, query, key, value, MaskSpec(torch.arange(query.shape[2], device=query.device), None))
        first, stop = self.view.first, self.view.stop
        self.keys[layer], self.values[layer] = key[:, :, :first], value[:, :, :first]
        self.mean_z[layer] = out[0, first:stop].float().mean(0)
        return out


@torch.no_grad()
def run_prefix(model: Any, trace: TokenTrace, view: str = "answer") -> PrefixRun:
    """Run a trace as it is, once."""
    shape, cut = model_shape(model), View.of(view, trace.segments)
    plan, found = PrefixPlan(cut), list[Tensor]()

    def record(layer: int, hidden: Tensor) -> Tensor:
        found.append(hidden[0, cut.first :])
        return hidden

    ids = torch.tensor([trace.token_ids[: trace.segments.answer.stop - 1]], device=shape.device)
    with planned_attention(model, plan), every_residual(shape, record):
        model.get_decoder()(input_ids=ids, use_cache=False)
    log_probs = token_log_probs(model, found.pop()[None], trace)[0]
    return PrefixRun(trace, cut, torch.stack(found), plan.keys, plan.values, plan.mean_z, log_probs)


def token_log_probs(model: Any, streams: Tensor, trace: TokenTrace) -> Tensor:
    """Return the natural log-probability of each token that the last rows of a trace write, (arm, token) float64.

    streams: (arm, row, d_model) leaving the last layer, to the answer's last token but one. Computed in float32. Raises
    R2AError where one is not finite.
    """
    stop = trace.segments.answer.stop
    targets = torch.tensor(trace.token_ids[stop - streams.shape[1] : stop], device=streams.device)[:, None]
    parts = []
    for rows, some in zip(streams.split(LOGIT_ROWS, 1), targets.split(LOGIT_ROWS), strict=True):
        logits, own = logits_of(model, rows).flatten(0, 1), some.repeat(len(rows), 1)
        blocks = zip(logits.split(CACHED_ROWS), own.split(CACHED_ROWS), strict=True)
        chosen = [each.float().log_softmax(-1).gather(1, mine) for each, mine in blocks]
        parts.append(torch.cat(chosen).view(rows.shape[:2]))
    found = torch.cat(parts, 1).double().cpu()
    check_finite(found, f"log-probabilities of {trace.item_id!r}", ("arm", "token"))
    return found


@dataclass
class CutPlan:
    """Attention of the rows from the first cut one on, each with the heads of its arm cut."""

    run: PrefixRun
    cuts: dict[int, dict[KnockoutKind, Tensor]]  # layer -> (arm, head) bool, for each kind that cuts there
    means: MeanOutputs
    plain: SuffixAttention
    blind: SuffixAttention  # sees nothing of what is hidden; of sequences without `View.unread`
    grown: dict[int, tuple[Tensor, Tensor]] | None = None  # keys and values of what arms wrote; None: nothing is kept

    @classmethod
    def of(cls, run: PrefixRun, arms: Sequence[Arm], shape: ModelShape, means: MeanOutputs, n_new: int) -> "CutPlan":
        """Make the plan of these arms, for `n_new` tokens from the first cut one on."""
        cuts: dict[int, dict[KnockoutKind, Tensor]] = {}
        for row, arm in enumerate(arms):
            for layer, head in arm.heads:
                if not (0 <= layer < shape.n_layers and 0 <= head < shape.n_heads):
                    raise R2AError(f"the model has no head {head} in layer {layer}", "rank its heads: dvc repro heads")
                empty = torch.zeros(len(arms), shape.n_heads, dtype=torch.bool, device=shape.device)
                cuts.setdefault(layer, {}).setdefault(arm.kind, empty)[row, head] = True
        positions = torch.arange(run.view.first + n_new, device=shape.device)
        seen, shown = (
            (positions < hidden.start) | (positions >= hidden.stop) for hidden in (run.view.hidden, run.view.unread)
        )
        blind = SuffixAttention(MaskSpec(positions[shown], seen[shown]))
        return cls(run, cuts, means, SuffixAttention(MaskSpec(positions, None)), blind)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        check_inputs(call, query, key)
        layer, n_rows = call.layer.layer, len(query)
        if self.grown is not None:
            before = self.grown.get(layer, (key[:, :, :0], value[:, :, :0]))
            key, value = (torch.cat(pair, 2) for pair in zip(before, (key, value), strict=True))
            self.grown[layer] = (key, value)
        prefix = (self.run.keys[layer], self.run.values[layer])
        keys, values = (
            torch.cat([old.expand(n_rows, -1, -1, -1), new], 2) for old, new in zip(prefix, (key, value), strict=True)
        )
        z = self.plain.by_blocks(call, keys.shape[2] - query.shape[2], query, keys, values)
        if layer in self.cuts:
            self.replace(call, z, query, keys, values)
        return z

    def replace(self, call: LayerCall, z: Tensor, query: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put into z what the cut heads write. Heads that share keys are computed together, no other head is."""
        n_parts = 1 if call.eager else keys.shape[1]  # a model's own function takes all heads
        stop, first = self.run.view.stop, keys.shape[2] - query.shape[2]
        own = slice(stop and stop - first)
        query, keys, values = (
            each.unflatten(1, (n_parts, -1)) for each in (query[:, :, own], keys[:, :, :stop], values[:, :, :stop])
        )
        z = z[:, own].unflatten(2, (n_parts, -1))
        for kind, heads in self.cuts[call.layer.layer].items():
            heads = heads[: len(z)].unflatten(1, (n_parts, -1))  # arms above start at a higher layer
            chosen = rows, parts = heads.any(2).nonzero(as_tuple=True)
            if len(rows):
                cut = self.cut(kind, call, chosen, query, keys, values)
                z[rows, :, parts] = torch.where(heads[chosen][:, None, :, None], cut, z[rows, :, parts])

    def cut(
        self, kind: KnockoutKind, call: LayerCall, chosen: Any, query: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Return z (chosen, token, head, head_dim), or what broadcasts to it, as if all heads of these parts were cut.

        chosen: indices of row and part. query, keys, values: (row, part, head, token, head_dim), of the cut tokens
        alone and up to the last of them.
        """
        if kind == "zero_head":
            return values.new_zeros(())
        if kind == "mean_head":
            return self.means[call.layer.layer].to(values).unflatten(0, (query.shape[1], -1))[chosen[1], None]
        hidden, first = self.run.view.hidden, keys.shape[3] - query.shape[3]
        if kind == "zero":
            values = values[chosen]
            values[:, :, hidden.start : hidden.stop] = 0
            return self.plain.by_blocks(call, first, query[chosen], keys[chosen], values)
        gap = self.run.view.unread
        keys, values = (
            torch.cat([each[..., : gap.start, :][chosen], each[..., gap.stop :, :][chosen]], 2)
            for each in (keys, values)
        )
        return self.blind.by_blocks(call, first - len(gap), query[chosen], keys, values)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave only these arms."""
        assert self.grown is not None
        self.cuts = {
            layer: {kind: chosen[rows] for kind, chosen in kinds.items()} for layer, kinds in self.cuts.items()
        }
        self.grown = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.grown.items()}


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
