"""What rows of a layer make of some tokens: their mass beyond even and beyond near reading, and its entropy.

PatternBlocks of the rows, tokens that they may read -> PartRows, by row -> PartReading, one value a head. The formulas
are in docs/methods.md. A row's own token never counts among those it reads.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from r2a_core.attention.masses import SINK_MASS
from r2a_core.attention.patterns import PatternBlock
from r2a_core.attention.walk import ReasoningWalk, block_walk, join_walks

NEAR = 16  # tokens: distances below have a bin each; above, OCTAVE bins each doubling

OCTAVE = 8

READS = 0.01  # attention mass on the tokens from which on a row's entropy counts


@dataclass(frozen=True)
class PartReading:
    """How the rows of one layer read some tokens, each (head,), mean over rows; NaN where there is none."""

    mass: Tensor
    even_excess: Tensor  # mass beyond even reading of what is no sink
    excess: Tensor  # mass beyond what the head's reading by distance gives
    entropy: Tensor  # on the tokens, over that of even reading
    effective_tokens: Tensor  # exp(entropy)


@dataclass(frozen=True)
class PartRows:
    """How each row reads some tokens; on the CPU."""

    even_excess: Tensor  # (head, row)
    excess: Tensor  # (head, row); NaN without a profile of distances
    seen: Tensor  # (row,) of the tokens, those that a row sees
    walk: ReasoningWalk  # on these tokens

    @classmethod
    def joined(cls, parts: Sequence["PartRows"]) -> "PartRows":
        """Join consecutive blocks."""
        names = ("even_excess", "excess", "seen")
        even, near, seen = (torch.cat([getattr(part, name) for part in parts], dim=-1) for name in names)
        return cls(even, near, seen, join_walks([part.walk for part in parts]))

    def reading(self) -> PartReading:
        """Average over the rows."""
        effective, mass = self.walk.evenness * self.seen, self.walk.mass
        reads = (mass >= READS) & (self.seen > 1)
        return PartReading(
            mass=mass.double().mean(1),
            even_excess=self.even_excess.double().mean(1),
            excess=self.excess.double().mean(1),
            entropy=mean_where(effective.log() / self.seen.log(), reads),
            effective_tokens=mean_where(effective, reads),
        )


def mean_where(values: Tensor, rows: Tensor) -> Tensor:
    """Average over chosen rows, (head,); NaN without any."""
    return torch.where(rows, values.double(), 0.0).sum(1) / rows.sum(1)


def read_parts(block: PatternBlock, parts: Sequence[range], sinks: Tensor, profile: Tensor | None) -> list[PartRows]:
    """Measure how the rows of a block read each of these ranges of tokens."""
    even, near = excesses(block, parts, sinks, profile)
    blind = block.without_own() if any(block.rows.start < part.stop for part in parts) else block
    seen = [blind.seen[:, blind.place(part)].sum(-1).cpu() for part in parts]
    walks = [block_walk(blind, part) for part in parts]
    return [PartRows(*each) for each in zip(even, near, seen, walks, strict=True)]


def excesses(
    block: PatternBlock, parts: Sequence[range], sinks: Tensor, profile: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute the mass of each part beyond the expected one, (part, head, row), on the CPU, sinks left out of both.

    The expected mass shares what a row gives to all that is no sink evenly (the first tensor), or by `profile`, by
    distance (the second; NaN without it).
    """
    kept = (~sinks[block.keys.start : block.keys.stop]).float()
    columns = kept.repeat(1 + len(parts), 1)  # the whole, then each part
    for column, part in zip(columns[1:], parts, strict=True):
        column[: block.place(part).start] = column[block.place(part).stop :] = 0

    def sums(values: Tensor) -> Tensor:
        """Sum values (..., row, key) over the whole and over the parts."""
        own = columns[1:, block.place(block.rows)].T
        total = linear(values, columns)
        total[..., 1:] -= block.own(values)[..., None] * own
        return total

    def beyond(expected: Tensor) -> Tensor:
        whole, of_parts = expected[..., :1], expected[..., 1:]
        share = torch.where(whole > 0, of_parts / whole, 0.0)
        return (mass[..., 1:] - mass[..., :1] * share).movedim(-1, 0).cpu()

    mass, seen = sums(block.weights), block.seen
    even = beyond(sums(seen.float()))
    return even, even * torch.nan if profile is None else beyond(sums(profile[:, distance_bins(block)] * seen))


def sink_tokens(blocks: Iterable[PatternBlock], n_tokens: int) -> Tensor:
    """Mark BOS and each token with more than SINK_MASS of the attention, mean over rows and heads: (token,)."""
    total, rows = torch.zeros(n_tokens, dtype=torch.float64), 0
    for block in blocks:
        total[block.keys.start : block.keys.stop] += block.weights.mean(0).sum(0).double().cpu()
        rows += len(block.rows)
    sinks = total > SINK_MASS * max(rows, 1)
    sinks[0] = True
    return sinks


def distance_bins(block: PatternBlock) -> Tensor:
    """Number the distance of each row and key, (row, key): one bin a token when near, logarithmic when far."""
    rows, keys = (torch.arange(each.start, each.stop, device=block.logits.device) for each in (block.rows, block.keys))
    distance = (rows[:, None] - keys).clamp(min=0)
    far = NEAR + (OCTAVE * (distance.clamp(min=NEAR) / NEAR).log2()).long()
    return torch.where(distance < NEAR, distance, far)


def distance_profile(blocks: Iterable[PatternBlock], sinks: Tensor) -> Tensor:
    """Compute how much more than even reading a head gives each distance, (head, bin), sinks left out.

    Bins beyond the longest distance seen are like the last one.
    """
    found: Tensor | None = None
    for block in blocks:
        seen = block.seen & ~sinks[block.keys.start : block.keys.stop]
        weights = block.weights * seen
        even = (weights.sum(-1) / seen.sum(-1).clamp(min=1))[..., None] * seen
        bins = distance_bins(block).flatten()
        if found is None:
            n_bins = NEAR + OCTAVE * max(1, math.ceil(math.log2(max(len(sinks), NEAR) / NEAR)) + 1)
            found = weights.new_zeros((2, len(weights), n_bins), dtype=torch.float64)
        for target, values in zip(found, (weights, even), strict=True):
            target.index_add_(1, bins, values.flatten(1).double())
    assert found is not None
    own, even = found
    known = (even > 0).any(0)
    last = torch.cummax(torch.where(known, torch.arange(len(known), device=known.device), 0), 0).values
    return torch.where(known, own / even.clamp(min=torch.finfo(torch.float64).tiny), 0.0)[:, last].float()
