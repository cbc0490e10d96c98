"""The unchanged run of one trace, as far as runs with cut heads share it.

model, TokenTrace, name of a view -> PrefixRun: residual streams, keys, values and log-probabilities, by one forward
pass. A token is written by the row before it. A View says which rows lose which keys R, tags apart:

    answer              `</think>` and all that follow lose the reasoning
    question            `<think>` to the row before `</think>` lose the question
    earlier_reasoning   the same rows lose the reasoning before them

Logits exist for a few rows at a time.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.hooks import every_residual, logits_of, model_shape
from r2a_core.activations.layer_attention import LayerCall, MaskSpec, attend, check_inputs
from r2a_core.infra.checks import check_finite
from r2a_core.trace import TokenTrace, TraceSegments

LOGIT_ROWS = 256  # of an arm, whose logits exist at a time

CACHED_ROWS = 32  # of these, in float32 at a time: what a processor's cache holds


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
