"""AUC and rank correlation within strata, each with a 95% interval over items that several strata or models share.

values of two groups, or of two instruments, by stratum -> Estimate. Strata are datasets: no value is compared with one
of another dataset. Needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from r2a_core.config import InstrumentsParams
from r2a_core.evaluation.paired import NORMAL_95

LEAST_ITEMS = 8  # without which ranks are not compared

LEAST_MODELS = 2  # a side, without which nothing is said of further models

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval; None where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Groups:
    """The values of one stratum: of items whose answer depends on the trace, and of others; ids say which are one."""

    ours: Floats  # (n,)
    theirs: Floats  # (m,)
    our_ids: Sequence[str]  # (n,)
    their_ids: Sequence[str]  # (m,)


def wins(ours: ArrayLike, theirs: ArrayLike) -> Floats:
    """Compare every pair: 1 where ours is greater, 0.5 where both are equal, else 0; (n, m)."""
    return (np.sign(np.subtract.outer(np.asarray(ours, float), np.asarray(theirs, float))) + 1) / 2


def model_auc(strata: Sequence[Groups]) -> Estimate:
    """Share of the pairs within strata in which ours is greater; ids name models, each in several strata.

    The interval is Newcombe's for as many values as there are models a side; none where a side has fewer than
    LEAST_MODELS.
    """
    both = [each for each in strata if len(each.ours) and len(each.theirs)]
    if not both:
        return Estimate()
    value = float(np.concatenate([wins(each.ours, each.theirs).ravel() for each in both]).mean())
    n, m = (len(set().union(*names)) for names in ([each.our_ids for each in both], [each.their_ids for each in both]))
    return Estimate(value, *newcombe(value, n, m)) if min(n, m) >= LEAST_MODELS else Estimate(value)


def newcombe(value: float, n: int, m: int) -> tuple[float, float]:
    """Interval of an AUC over n times m pairs (Newcombe 2006, method 5): it has a width where all pairs are won too."""

    def low(at: float) -> float:
        def gap(theta: float) -> float:
            spread = 1 + ((n + m) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
            return (at - theta) ** 2 - NORMAL_95**2 * theta * (1 - theta) * spread / (n * m)

        root: Any = brentq(gap, 0, min(at, 1 - 1e-9)) if at > 0 else 0
        return float(root)

    return low(value), 1 - low(1 - value)


def stratified_auc(strata: Sequence[Groups], draws: int, seed: int) -> Estimate:
    """Share of the pairs within strata in which ours is greater; interval over items, which are drawn whole.

    An item under several models is one: all its values come and go together. Where no pair, or every one, is won, all
    resamples are alike, and the interval is Newcombe's, with as many values as there are items.
    """
    generator = np.random.default_rng(seed)
    won, pairs = np.zeros(1 + draws), np.zeros(1 + draws)
    sizes = np.zeros(2, dtype=int)
    for each in strata:
        items = sorted({*each.our_ids, *each.their_ids})
        ours, theirs = (one_hot(ids, items) for ids in (each.our_ids, each.their_ids))
        counts = resamples(len(items), draws, generator)
        won += sum_pairs(counts, ours.T @ wins(each.ours, each.theirs) @ theirs)
        pairs += sum_pairs(counts, np.outer(ours.sum(0), theirs.sum(0)))
        sizes += len(set(each.our_ids)), len(set(each.their_ids))
    if not pairs[0]:
        return Estimate()
    value = float(won[0] / pairs[0])
    if value in (0, 1):
        return Estimate(value, *newcombe(value, *sizes.tolist()))
    return Estimate(value, *bounds(won[1:], pairs[1:]))


def one_hot(ids: Sequence[str], items: Sequence[str]) -> Floats:
    """Say which item each value is of; (value, item)."""
    return (np.asarray(ids)[:, None] == np.asarray(items)[None]).astype(float).reshape(len(ids), len(items))


def resamples(n: int, draws: int, generator: np.random.Generator) -> Floats:
    """Count how often each item is drawn; row 0 is the sample itself; (1 + draws, n)."""
    drawn = generator.multinomial(n, np.full(n, 1 / n), draws)
    return np.vstack([np.ones(n), drawn]).astype(np.float64)


def sum_pairs(counts: Floats, pairs: Floats) -> Floats:
    """Sum `pairs` (item, item) over each resample; an item drawn twice is compared with itself, not with its copy."""
    return ((counts @ pairs) * counts).sum(1) - (counts * (counts - 1)) @ np.diag(pairs)


def bounds(tops: Floats, bottoms: Floats) -> tuple[float | None, float | None]:
    """Central 95% of the quotients that exist; None where fewer than half do."""
    found = tops[bottoms > 1e-12] / bottoms[bottoms > 1e-12]
    if len(found) < len(tops) / 2 or not len(found):
        return None, None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class Moments:
    """Sums over items of a stratum, of each resample, of two ranks around their means; row 0 is the sample itself."""

    both: Floats
    first: Floats
    second: Floats
    dealt: Floats  # as row 0 of both, with the items of one instrument dealt anew, for each permutation
    n: int


def rank_moments(first: Floats, second: Floats, params: InstrumentsParams, generator: np.random.Generator) -> Moments:
    """Rank the items of each resample anew by both instruments, ties shared, as fractions of the items."""
    n = len(first)
    counts = resamples(n, params.bootstrap_draws, generator)
    x, y = (centred_ranks(values, counts) for values in (first, second))
    dealt = generator.permuted(np.tile(y[0], (params.permutations, 1)), axis=1) @ x[0]
    return Moments((counts * x * y).sum(1), (counts * x * x).sum(1), (counts * y * y).sum(1), dealt, n)


def centred_ranks(values: Floats, counts: Floats) -> Floats:
    """Mean rank of each value in each resample, as a fraction of its items, around the mean rank; (draw, item)."""
    n = counts.shape[1]
    ranks = counts @ wins(values, values).T / n
    return ranks - (counts * ranks).sum(1, keepdims=True) / n


def rank_correlation(strata: Sequence[Moments]) -> Estimate:
    """Spearman's rho of items ranked within their stratum, interval over items; none below LEAST_ITEMS."""
    if sum(each.n for each in strata) < LEAST_ITEMS:
        return Estimate()
    both, first, second = (
        np.sum([getattr(each, name) for each in strata], axis=0) for name in ("both", "first", "second")
    )
    scale = np.sqrt(first * second)
    if scale[0] < 1e-12:
        return Estimate()
    return Estimate(float(both[0] / scale[0]), *bounds(both[1:], scale[1:]))


def chance(strata: Sequence[Moments]) -> float:
    """Share of permutations, the order that there is included, whose rank correlation is as far from 0."""
    found = abs(sum(each.both[0] for each in strata))
    dealt = np.abs(np.sum([each.dealt for each in strata], axis=0))
    return float(1 + (dealt >= found - 1e-9).sum()) / (1 + len(dealt))


def holm(p: Floats) -> Floats:
    """Adjust p for as many tests as there are (Holm 1979): where nothing is there, one is below 0.05 in one of twenty
    such families at most. NaN: no test, and stays.
    """
    order = np.argsort(p)  # NaN last
    left = np.isfinite(p).sum() - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * left), 1)
    return adjusted
