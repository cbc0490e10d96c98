"""What each head of a layer makes of the reasoning: its mass beyond even and beyond near reading, its shape, its walk.

queries and keys of one layer of a trace -> LayerReading, one value a head, from two passes over the answer rows and one
over the last reasoning rows, a block at a time (docs/methods.md has the formulas).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r2a_core.activations.attention import LayerAttention
from r2a_core.attention.masses import (
    LEAST_MOVE,
    MASKED_LOGIT,
    ROUNDING,
    SINK_MASS,
    PatternBlock,
    ReasoningWalk,
    block_walk,
    join_walks,
    pattern_blocks,
    weighted_walk,
)
from r2a_core.results import LOOKS
from r2a_core.trace import TraceSegments
from r2a_core.walks.ridges import LONG, most_parallel, walking_paths

PROFILE_ROWS = 512  # reasoning rows, the last, from which a head's reading by distance is taken

NEAR = 16  # tokens: distances below have a bin each; above, OCTAVE bins each doubling

OCTAVE = 8

CELLS = 64  # of the reasoning, at most, for the ridges of a map

READS = 0.01  # attention mass on the reasoning from which on a row's entropy counts

SHIFTS = 64  # circular shifts of the rows, at most, for the chance of a diagonal


@dataclass(frozen=True)
class LayerReading:
    """Measures of the answer rows of one layer, each (head,); NaN where there is none."""

    mass: Tensor
    even_excess: Tensor  # mass beyond even reading of what is no sink
    excess: Tensor  # mass beyond what the head's reading by distance gives
    entropy: Tensor  # on the reasoning, over that of even reading
    effective_tokens: Tensor  # exp(entropy)
    walk: Tensor  # weighted correlation of row and centroid
    walk_null: Tensor  # its mean over circular shifts
    diagonal: Tensor
    diagonal_null: Tensor
    local_cover: Tensor
    covered: Tensor
    question_walk: Tensor  # as walk, on the question
    parallel: list[int]  # paths side by side at most
    ends: list[list[int]]  # tokens of the reasoning, from 0, at which paths end


def layer_reading(
    queries: Tensor, keys: Tensor, first_row: int, layer: LayerAttention, segments: TraceSegments, peak: float
) -> LayerReading:
    """Measure one layer. Query row 0 is token `first_row`; peak: times even reading that make a ridge.

    Excess by distance is NaN where the reasoning rows were not captured.
    """
    reasoning = segments.reasoning
    profile_rows = range(max(reasoning.start + len(reasoning) // 2, reasoning.stop - PROFILE_ROWS), reasoning.stop)
    captured = len(profile_rows) > 0 and first_row <= profile_rows.start

    def blocks(rows: range) -> Iterable[PatternBlock]:
        return pattern_blocks(queries, keys, first_row, layer, rows)

    sinks = sink_tokens(blocks(segments.answer), segments.n_tokens).to(keys.device)
    profile = distance_profile(blocks(profile_rows), sinks) if captured else None
    rows = answer_rows(blocks(segments.answer), segments, sinks, profile, layer.window)
    walk, asked = rows.walk, rows.question
    weighted = weighted_walk(walk.centroid, walk.mass)
    still = weighted.effective_rows < 3 - ROUNDING
    diagonal, chance, local = (torch.where(still, torch.nan, each) for each in (*diagonals(walk), local_cover(walk)))
    effective = walk.evenness * rows.seen
    reads = (walk.mass >= READS) & (rows.seen > 1)
    parallel, ends = ridges(rows.shares, walk.mass, len(reasoning), peak)
    return LayerReading(
        mass=walk.mass.double().mean(1),
        even_excess=rows.even_excess,
        excess=rows.excess,
        entropy=mean_where(effective.log() / rows.seen.log(), reads),
        effective_tokens=mean_where(effective, reads),
        walk=weighted.correlation,
        walk_null=weighted.null_mean,
        diagonal=diagonal,
        diagonal_null=chance,
        local_cover=local,
        covered=covered(walk),
        question_walk=weighted_walk(asked.centroid, asked.mass).correlation if asked else rows.excess * torch.nan,
        parallel=parallel,
        ends=ends,
    )


@dataclass(frozen=True)
class AnswerRows:
    """What the answer's rows of one layer give, on the CPU; excess (head,), mean over the rows."""

    even_excess: Tensor
    excess: Tensor  # NaN without a profile of distances
    walk: ReasoningWalk
    question: ReasoningWalk | None  # None: without a question
    seen: Tensor  # (row,) tokens of the reasoning that a row sees
    shares: Tensor  # (head, row, cell)


def answer_rows(
    blocks: Iterable[PatternBlock], segments: TraceSegments, sinks: Tensor, profile: Tensor | None, window: int | None
) -> AnswerRows:
    """Gather them in one pass."""
    reasoning, query = segments.reasoning, segments.query
    even, near, walks, questions, seen, shares = ([] for _ in range(6))
    for block in blocks:
        even.append(excess(block, reasoning, sinks, None))
        near.append(even[-1] * torch.nan if profile is None else excess(block, reasoning, sinks, profile))
        walks.append(block_walk(block, reasoning, window))
        if len(query):
            questions.append(block_walk(block, query, window))
        seen.append(visible(block)[:, inside(block, reasoning)].sum(-1).cpu())
        shares.append(cell_shares(block, reasoning))
    even_excess, by_distance = (torch.stack(each).sum(0).cpu() / len(segments.answer) for each in (even, near))
    asked = join_walks(questions) if questions else None
    walk, cells = join_walks(walks), torch.cat(shares, dim=1)
    return AnswerRows(even_excess, by_distance, walk, asked, torch.cat(seen), cells)


def visible(block: PatternBlock) -> Tensor:
    """Tell which keys each row sees, (row, key)."""
    return block.logits[0] > MASKED_LOGIT / 2


def inside(block: PatternBlock, tokens: range) -> slice:
    """Return the place of tokens among a block's keys."""
    return slice(max(tokens.start - block.keys.start, 0), max(tokens.stop - block.keys.start, 0))


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
        seen = visible(block) & ~sinks[block.keys.start : block.keys.stop]
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


def excess(block: PatternBlock, reasoning: range, sinks: Tensor, profile: Tensor | None) -> Tensor:
    """Sum over a block's rows the mass on the reasoning beyond the expected one, (head,), sinks left out of both.

    A row's expected mass shares what it gives to all that is no sink by `profile` (by distance), None: evenly.
    """
    seen = visible(block) & ~sinks[block.keys.start : block.keys.stop]
    weights, place = block.weights * seen, inside(block, reasoning)
    expected = seen[None].float() if profile is None else profile[:, distance_bins(block)] * seen
    total = expected.sum(-1)
    share = torch.where(total > 0, expected[..., place].sum(-1) / total, 0.0)
    return (weights[..., place].sum(-1) - weights.sum(-1) * share).sum(-1, dtype=torch.float64)


def cell_shares(block: PatternBlock, reasoning: range) -> Tensor:
    """Compute the share of each cell in a row's mass on the reasoning, (head, row, cell), on the CPU."""
    weights = block.weights[:, :, inside(block, reasoning)]
    first = max(block.keys.start, reasoning.start) - reasoning.start
    width = cell_width(len(reasoning))
    cells = torch.arange(first, first + weights.shape[-1], device=weights.device) // width
    pooled = weights.new_zeros((*weights.shape[:2], -(-len(reasoning) // width)))
    pooled.index_add_(2, cells, weights)
    return (pooled / pooled.sum(-1, keepdim=True).clamp(min=1e-30)).cpu()


def cell_width(n_tokens: int) -> int:
    """Return the tokens of a cell, of which the last may have fewer."""
    return -(-n_tokens // CELLS)


def ridges(shares: Tensor, mass: Tensor, n_tokens: int, peak: float) -> tuple[list[int], list[list[int]]]:
    """Find each head's walking paths: how many run side by side at most, and the tokens at which they end."""
    width = cell_width(n_tokens)
    starts = np.arange(0, n_tokens, width)
    stops = np.minimum(starts + width, n_tokens)
    parallel, ends = [], []
    for own, looks in zip(shares.numpy(), (mass >= LOOKS).numpy(), strict=True):
        paths = walking_paths(own, looks, (stops - starts) / n_tokens, peak) if looks.sum() >= LONG else []
        parallel.append(most_parallel(paths))
        ends.append([int(starts[path.cells[-1]] + stops[path.cells[-1]]) // 2 for path in paths])
    return parallel, ends


def mean_where(values: Tensor, rows: Tensor) -> Tensor:
    """Average over chosen rows, (head,); NaN without any."""
    return torch.where(rows, values.double(), 0.0).sum(1) / rows.sum(1)


def parts(walk: ReasoningWalk) -> tuple[Tensor, Tensor]:
    """Return centroid and mass of each row, both 0 where a row sees no reasoning; (head, row)."""
    unseen = walk.centroid.isnan()
    return torch.where(unseen, 0.0, walk.centroid.double()), torch.where(unseen, 0.0, walk.mass.double())


def diagonals(walk: ReasoningWalk) -> tuple[Tensor, Tensor]:
    """Compute how close the centroid is to the row's own place in the answer, and that over circular shifts; (head,).

    1: on the diagonal; 0: as far as two places drawn at random, a third, or farther. Rows count by their mass.
    """
    centroid, mass = parts(walk)
    n_rows = centroid.shape[1]
    place = torch.linspace(0, 1, n_rows, dtype=torch.float64)
    shifts = torch.linspace(0, n_rows - 1, min(n_rows, SHIFTS)).round().long()
    places = place[(torch.arange(n_rows) - shifts[:, None]) % n_rows]  # (shift, row)
    away = (mass[:, None] * (centroid[:, None] - places).abs()).sum(-1) / mass.sum(1, keepdim=True)
    values = (1 - 3 * away).clamp(0, 1)  # (head, shift)
    return values[:, 0], values.mean(1)


def local_cover(walk: ReasoningWalk) -> Tensor:
    """Compute the share of windows of rows in which the centroid moves forward, each counted by its mass; (head,).

    A window has a tenth of the rows, at least 8; chance gives about a half. NaN for shorter answers.
    """
    centroid, mass = parts(walk)
    width = max(8, -(-centroid.shape[1] // 10))
    if centroid.shape[1] < width:
        return torch.full(centroid.shape[:1], torch.nan, dtype=torch.float64)
    c, m = (each.unfold(1, width, 1) for each in (centroid, mass))  # (head, window, row)
    t = torch.arange(width, dtype=torch.float64)
    total = m.sum(-1)
    weight = m / total.clamp(min=1e-30)[..., None]
    mean_t = (weight * t).sum(-1, keepdim=True)
    covariance, variance = (weight * (t - mean_t) * c).sum(-1), (weight * (t - mean_t) ** 2).sum(-1)
    forward = covariance > LEAST_MOVE * variance
    return (total * forward).sum(-1) / total.sum(-1)


def covered(walk: ReasoningWalk) -> Tensor:
    """Compute the fraction of the reasoning between the least and the greatest centroid of rows that look; (head,)."""
    looks = walk.mass >= LOOKS
    least, most = (torch.where(looks, walk.centroid, end).double() for end in (torch.inf, -torch.inf))
    return torch.where(looks.sum(1) > 1, most.amax(1) - least.amin(1), torch.nan)
