"""What each head of a layer makes of the reasoning: its mass on it, the shape of its reading, its walk.

queries and keys of one layer of a trace -> by view, what its rows make of what they look back at: the answer's of the
reasoning, a LayerReading; the reasoning's own of the question and of earlier reasoning, a PartReading. One value a
head, from two passes over the answer's rows, one over the last of the reasoning, and one over all of these for its own
views, a block at a time (docs/methods.md has the formulas).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.patterns import PatternBlock, pattern_blocks
from r2a_core.attention.walk import LEAST_MOVE, ROUNDING, ReasoningWalk, weighted_walk
from r2a_core.results import LOOKS
from r2a_core.trace import TraceSegments
from r2a_core.walks.part_reading import PartReading, PartRows, distance_profile, read_parts, sink_tokens
from r2a_core.walks.ridges import LONG, most_parallel, walking_paths

PROFILE_ROWS = 512  # reasoning rows, the last, from which a head's reading by distance is taken

CELLS = 64  # of the reasoning, at most, for the ridges of a map

SHIFTS = 64  # circular shifts of the rows, at most, for the chance of a diagonal


@dataclass(frozen=True)
class LayerReading(PartReading):
    """Measures of the answer rows of one layer, each (head,); NaN where there is none."""

    walk: Tensor  # weighted correlation of row and centroid
    walk_null: Tensor  # its mean over circular shifts
    diagonal: Tensor
    diagonal_null: Tensor
    local_cover: Tensor
    covered: Tensor
    question_walk: Tensor  # as walk, on the question
    parallel: list[int]  # paths side by side at most
    ends: list[list[int]]  # tokens of the reasoning, from 0, at which paths end


def layer_readings(
    queries: Tensor,
    keys: Tensor,
    first_row: int,
    layer: LayerAttention,
    segments: TraceSegments,
    peak: float,
    views: Sequence[str],
) -> dict[str, PartReading]:
    """Measure one layer, by view. Query row 0 is token `first_row`; peak: times even reading that make a ridge.

    Where the reasoning's rows were not captured, excess by distance is NaN and there are no views of theirs; nor is
    there one of the question where there is none.
    """
    reasoning, query = segments.reasoning, segments.query
    profile_rows = range(max(reasoning.start + len(reasoning) // 2, reasoning.stop - PROFILE_ROWS), reasoning.stop)

    def blocks(rows: range) -> Iterable[PatternBlock]:
        return pattern_blocks(queries, keys, first_row, layer, rows)

    sinks = sink_tokens(blocks(segments.answer), segments.n_tokens).to(keys.device)
    captured = first_row <= reasoning.start
    profile = distance_profile(blocks(profile_rows), sinks) if captured else None
    read, shares = [], []
    for block in blocks(segments.answer):
        read.append(read_parts(block, (reasoning, query) if query else (reasoning,), sinks, profile))
        shares.append(cell_shares(block, reasoning))
    own, *asked = map(PartRows.joined, zip(*read, strict=True))
    found: dict[str, PartReading] = {"answer": answer_reading(own, asked, torch.cat(shares, 1), len(reasoning), peak)}
    looked_at = {"question": query, "earlier_reasoning": reasoning}
    looked_at = {view: tokens for view, tokens in looked_at.items() if view in views and tokens and captured}
    if looked_at:
        own_rows = (read_parts(block, list(looked_at.values()), sinks, profile) for block in blocks(reasoning))
        rows = map(PartRows.joined, zip(*own_rows, strict=True))
        found |= {view: each.reading() for view, each in zip(looked_at, rows, strict=True)}
    return found


def answer_reading(
    own: PartRows, asked: Sequence[PartRows], shares: Tensor, n_reasoning: int, peak: float
) -> LayerReading:
    """Measure the answer's rows. own: on the reasoning; asked: on the question, where there is one."""
    walk = own.walk
    weighted = weighted_walk(walk.centroid, walk.mass)
    still = weighted.effective_rows < 3 - ROUNDING
    diagonal, chance, local = (torch.where(still, torch.nan, each) for each in (*diagonals(walk), local_cover(walk)))
    parallel, ends = ridges(shares, walk.mass, n_reasoning, peak)
    on_question = [weighted_walk(each.walk.centroid, each.walk.mass).correlation for each in asked]
    return LayerReading(
        **vars(own.reading()),
        walk=weighted.correlation,
        walk_null=weighted.null_mean,
        diagonal=diagonal,
        diagonal_null=chance,
        local_cover=local,
        covered=covered(walk),
        question_walk=on_question[0] if on_question else weighted.correlation * torch.nan,
        parallel=parallel,
        ends=ends,
    )


def cell_shares(block: PatternBlock, reasoning: range) -> Tensor:
    """Compute the share of each cell in a row's mass on the reasoning, (head, row, cell), on the CPU."""
    weights = block.weights[:, :, block.place(reasoning)]
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


def seen_walk(walk: ReasoningWalk) -> tuple[Tensor, Tensor]:
    """Return centroid and mass of each row, both 0 where a row sees no reasoning; (head, row)."""
    unseen = walk.centroid.isnan()
    return torch.where(unseen, 0.0, walk.centroid.double()), torch.where(unseen, 0.0, walk.mass.double())


def diagonals(walk: ReasoningWalk) -> tuple[Tensor, Tensor]:
    """Compute how close the centroid is to the row's own place in the answer, and that over circular shifts; (head,).

    1: on the diagonal; 0: as far as two places drawn at random, a third, or farther. Rows count by their mass.
    """
    centroid, mass = seen_walk(walk)
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
    centroid, mass = seen_walk(walk)
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
