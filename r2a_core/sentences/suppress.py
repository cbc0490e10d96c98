"""Runs a trace with one sentence of its reasoning hidden from all later rows, in all heads and layers.

model, TokenTrace -> BaseRun, the unchanged run; a sentence -> RowEffects of the rows behind it: divergence of their
next-token distributions from the unchanged ones. Rows up to the sentence's end are the same with and without it, so
their keys and values are taken from the unchanged run: exact, only rounding differs from one whole pass with the mask.
Logits exist for a block of rows at a time, never for all rows.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.hooks import every_residual, logits_of, model_shape
from r2a_core.activations.layer_attention import MaskSpec
from r2a_core.activations.suffix import SuffixAttention
from r2a_core.infra.checks import check_finite
from r2a_core.infra.memory import MIB
from r2a_core.perturb.packed import Cache, PackedPlan, packed_pass
from r2a_core.trace import TokenTrace

LOGIT_BYTES = 24  # of a row and entry of the vocabulary: two logits, their logarithms and exponentials in float32


@dataclass(frozen=True)
class BaseRun:
    """The unchanged run of one trace, to its answer's last token but one."""

    trace: TokenTrace
    streams: Tensor  # (row, d_model), leaving the last layer
    cache: Cache


@dataclass(frozen=True)
class RowEffects:
    """What hiding tokens does to the rows from `first` on; each (row,) float32 on the CPU."""

    first: int  # token
    kl: Tensor  # nats, of the unchanged from the changed next-token distribution, over the whole vocabulary
    log_prob: Tensor  # nats, of the token that follows in the trace
    log_prob_base: Tensor

    def rows(self, tokens: range) -> slice:
        """Return the place of tokens among the rows."""
        return slice(tokens.start - self.first, tokens.stop - self.first)


def run_base(model: Any, trace: TokenTrace) -> BaseRun:
    """Run a trace as it is, once."""
    streams, cache = run_behind(model, trace, 0, {}, range(0))
    return BaseRun(trace, streams, cache)


def hide(model: Any, base: BaseRun, hidden: range, start: int, memory_mib: int) -> RowEffects:
    """Run the rows from `start` on without the keys of `hidden`, which end there or before.

    memory_mib: MiB on the device for the logits of a block of rows.
    """
    assert hidden.stop <= start
    streams, _ = run_behind(model, base.trace, start, base.cache, hidden)
    step = max(1, memory_mib * MIB // (LOGIT_BYTES * model_shape(model).n_vocab))
    ids = torch.tensor(base.trace.token_ids, device=streams.device)
    parts = []
    for low in range(0, len(streams), step):
        block = streams[low : low + step]
        rows = slice(start + low, start + low + len(block))
        pair = logits_of(model, torch.stack([base.streams[rows], block])).float().log_softmax(-1)
        kl = (pair[0].exp() * (pair[0] - pair[1])).sum(-1)
        following = ids[rows.start + 1 : rows.stop + 1]
        parts.append(torch.stack([kl, *pair[[1, 0]].gather(2, following.expand(2, -1)[..., None])[..., 0]]).cpu())
    found = torch.cat(parts, 1)
    check_finite(found, f"{base.trace.item_id!r} without tokens {hidden.start}..{hidden.stop}", ("number", "row"))
    return RowEffects(start, *found)


@torch.no_grad()
def run_behind(model: Any, trace: TokenTrace, start: int, cache: Cache, hidden: range) -> tuple[Tensor, Cache]:
    """Run the rows from `start` on, which do not see `hidden`: streams leaving the last layer, and keys and values."""
    shape, stop, found = model_shape(model), trace.segments.answer.stop - 1, list[Tensor]()
    positions = torch.arange(stop, device=shape.device)
    seen = (positions < hidden.start) | (positions >= hidden.stop) if hidden else None

    def record(layer: int, stream: Tensor) -> Tensor:
        if layer == shape.n_layers:
            found.append(stream[0])
        return stream

    plan = PackedPlan(cache, [start], [stop - start], SuffixAttention(MaskSpec(positions, seen)), [{}])
    with every_residual(shape, record):
        packed_pass(model, plan, [trace.token_ids[start:stop]], [start], [0])
    return found[0], plan.grown[0]
