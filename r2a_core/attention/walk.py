"""The walk of a head along the reasoning: where in it each row looks, and how well that goes with the row's own place.

PatternBlock -> ReasoningWalk (mass, centroid, spread and evenness of each row) -> its correlation with the rows, plain
and weighted by mass, beside what chance gives (docs/methods.md has the formulas).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from r2a_core.attention.patterns import PatternBlock

LEAST_WEIGHT = 1e-30  # attention weight

LEAST_MOVE = 1e-6  # fraction of the reasoning: a centroid that moves less stays put


@dataclass(frozen=True)
class ReasoningWalk:
    """Attention inside the reasoning of each row: its mass, and what it is with weights scaled to sum 1.

    Positions are token centres as fractions 0..1 of the reasoning. NaN, and a mass of 0, where a row sees no reasoning
    token (sliding windows). Rows are those of the answer; walks/part_reading.py has others, and other tokens.
    """

    mass: Tensor  # (head, row), attention weight on the reasoning
    centroid: Tensor  # (head, row), mean position
    spread: Tensor  # (head, row), standard deviation of the position
    evenness: Tensor  # (head, row), exp(entropy) / reasoning tokens seen: 1 = uniform, 1/n = one token


def block_walk(block: PatternBlock, reasoning: range, log_sums: Tensor | None = None) -> ReasoningWalk:
    """Computes the walk of the rows of one block.

    log_sums: log-sum-exp (head, row) of the logits of each row, sinks' included, where it is known.
    """
    inside = block.place(reasoning)
    keys = block.keys[inside]
    if not len(keys):
        nothing = block.logits.new_full(block.logits.shape[:2], torch.nan)
        return ReasoningWalk(torch.zeros_like(nothing), nothing, nothing, nothing)
    logits, weights = block.logits[:, :, inside], block.weights[:, :, inside]
    place = (torch.arange(keys.start, keys.stop, device=logits.device) - reasoning.start + 0.5) / len(reasoning)
    middle = place.mean()  # moments about the middle lose less to rounding
    moments = torch.stack([torch.ones_like(place), place - middle, (place - middle) ** 2])
    beside = (inside.start, len(block.keys) - inside.start - len(keys))
    sums = pad(moments, beside) @ block.weights.flatten(0, 1).mT  # over all keys, which spares a copy
    mass, first, second = sums.unflatten(1, block.weights.shape[:2])
    total, scale = mass, log_sums  # a weight is exp(logit - scale)
    if (mass < LEAST_WEIGHT).any():  # too little to be scaled up from float32
        scale = logits.amax(dim=-1)
        weights = (logits - scale[..., None]).exp()
        total, first, second = linear(weights, moments).unbind(-1)
    elif scale is None:
        scale = block.logits.amax(dim=-1) - block.weights.amax(dim=-1).log()
    first, second = first / total, second / total
    entropy = total.log() + scale - torch.linalg.vecdot(weights, logits) / total
    count = block.seen[:, inside].sum(-1)
    walk = (first + middle, (second - first**2).clamp(min=0).sqrt(), (entropy.exp() / count).clamp(max=1))
    return ReasoningWalk(mass, *(torch.where(count > 0, part, torch.nan) for part in walk))


def join_walks(walks: list[ReasoningWalk]) -> ReasoningWalk:
    """Joins the walks of consecutive blocks, on the CPU."""
    parts = ([getattr(walk, name) for walk in walks] for name in ("mass", "centroid", "spread", "evenness"))
    return ReasoningWalk(*(torch.cat(part, dim=1).cpu() for part in parts))


def walk_correlation(centroid: Tensor) -> Tensor:
    """Computes Pearson's r between answer row and centroid, (head,), over rows that see the reasoning: all count alike.

    centroid (head, answer row). NaN with fewer than 3 such rows or where the centroid stays put.
    """
    seen = ~centroid.isnan()
    count = seen.sum(dim=1, keepdim=True)
    row = torch.arange(centroid.shape[1], dtype=torch.float64).expand(centroid.shape)

    def centred(values: Tensor) -> Tensor:
        values = torch.where(seen, values.double(), 0.0)
        return torch.where(seen, values - values.sum(dim=1, keepdim=True) / count, 0.0)

    x, y = centred(row), centred(centroid)
    scale = (x.pow(2).sum(dim=1) * y.pow(2).sum(dim=1)).sqrt()
    still = (count[:, 0] < 3) | (y.abs().amax(dim=1) < LEAST_MOVE)
    return torch.where(still, torch.nan, (x * y).sum(dim=1) / scale)


@dataclass(frozen=True)
class WeightedWalk:
    """Pearson's r of answer row and centroid, each row counted by its mass on the reasoning, and its null; (head,).

    The null: all circular shifts of the rows (centroid and mass together) against their positions, the shift by 0 among
    them. It keeps what neighbouring rows share, and loses where in the answer they stand. NaN, save for
    `effective_rows`, with fewer than 3 effective rows or where the centroid stays put.
    """

    correlation: Tensor
    effective_rows: Tensor  # (sum of masses)^2 / sum of squared masses: how many rows look at the reasoning
    null_mean: Tensor  # of r over the shifts
    null_sd: Tensor
    p: Tensor  # share of the shifts whose r is as high; 1 / rows at least


ROUNDING = 1e-9  # below it two correlations, or two numbers of rows, are the same


def weighted_walk(centroid: Tensor, mass: Tensor) -> WeightedWalk:
    """Computes the weighted walk of each head. centroid, mass: (head, answer row), see ReasoningWalk."""
    seen = ~centroid.isnan()
    weight, y = (torch.where(seen, values.double(), 0.0) for values in (mass, centroid))
    effective = (weight.sum(dim=1) ** 2 / weight.pow(2).sum(dim=1)).nan_to_num(0.0)
    weight = weight / weight.sum(dim=1, keepdim=True)
    y = y - (weight * y).sum(dim=1, keepdim=True)
    deviation = (weight * y.pow(2)).sum(dim=1, keepdim=True).sqrt()
    x = torch.linspace(-1, 1, centroid.shape[1], dtype=torch.float64)
    rows = torch.stack([weight, weight, weight * y])  # (moment, head, row)
    places = torch.stack([x, x * x, x])[:, None]
    spectra = torch.fft.rfft(places).conj() * torch.fft.rfft(rows)
    first, second, product = torch.fft.irfft(spectra, n=len(x))  # (head, shift), sums over rows
    r = (product / ((second - first**2).clamp(min=0).sqrt() * deviation)).clamp(-1, 1)
    still = (effective < 3 - ROUNDING) | ~(deviation[:, 0] >= LEAST_MOVE)
    as_high = (r >= r[:, :1] - ROUNDING).double().mean(dim=1)
    found = (r[:, 0], r.mean(dim=1), r.std(dim=1, correction=0), as_high)
    correlation, *null = (torch.where(still, torch.nan, values) for values in found)
    return WeightedWalk(correlation, effective, *null)
