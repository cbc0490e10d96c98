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


def two_sided(strata: Sequence[Groups]) -> list[Groups]:
    """Keep the strata in which there is something to compare."""
    return [each for each in strata if len(each.ours) and len(each.theirs)]


def model_auc(strata: Sequence[Groups]) -> Estimate:
    """Share of the pairs within strata in which ours is greater; ids name models, each in several strata.

    The interval is Newcombe's for as many values as there are models a side; none where a side has fewer than
    LEAST_MODELS.
    """
    both = two_sided(strata)
    if not both:
        return Estimate()
    value = float(np.concatenate([wins(each.ours, each.theirs).ravel() for each in both]).mean())
    n, m = (len(set().union(*names)) for names in ([each.our_ids for each in both], [each.their_ids for each in both]))
    return Estimate(value, *newcombe(value, n, m)) if min(n, m) >= LEAST_MODELS else Estimate(value)


def item_auc(strata: Sequence[Groups]) -> Estimate:
    """Share of the pairs within strata in which ours is greater; ids name items, which both sides may have.

    The interval is Newcombe's, wider where the items themselves vary more than it supposes.
    """
    both = two_sided(strata)
    if not both:
        return Estimate()
    won = [wins(each.ours, each.theirs) for each in both]
    value = float(np.concatenate([each.ravel() for each in won]).mean())
    n, m = sum(len(each.ours) for each in both), sum(len(each.theirs) for each in both)
    effects = np.concatenate([item_sums(each, own - value) for each, own in zip(both, won, strict=True)])
    effects /= sum(own.size for own in won)
    variance = float((effects**2).sum()) * len(effects) / max(len(effects) - 1, 1)
    return Estimate(value, *newcombe(value, n, m, variance))


def item_sums(group: Groups, over: Floats) -> Floats:
    """Sum what each item adds, as one of ours and as one of theirs; over: (n, m), around the share of pairs won."""
    _, item = np.unique([*group.our_ids, *group.their_ids], return_inverse=True)
    return np.bincount(item, weights=np.concatenate([over.sum(1), over.sum(0)])).astype(np.float64)


def newcombe(value: float, n: int, m: int, variance: float = 0.0) -> tuple[float, float]:
    """Interval of an AUC over n times m pairs (Newcombe 2006, method 5): it has a width where all pairs are won too.

    variance: of the AUC, as estimated; where it is more than the method supposes at this AUC, it supposes as much more.
    """

    def supposed(theta: float) -> float:
        spread = 1 + ((n + m) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return theta * (1 - theta) * spread / (n * m)

    more = max(1.0, variance / supposed(value)) if 0 < value < 1 else 1.0

    def low(at: float) -> float:
        def gap(theta: float) -> float:
            return (at - theta) ** 2 - NORMAL_95**2 * more * supposed(theta)

        root: Any = brentq(gap, 0, min(at, 1 - 1e-9)) if at > 0 else 0
        return float(root)

    return low(value), 1 - low(1 - value)


def resamples(n: int, draws: int, generator: np.random.Generator) -> Floats:
    """Count how often each item is drawn; row 0 is the sample itself; (1 + draws, n)."""
    drawn = generator.multinomial(n, np.full(n, 1 / n), draws)
    return np.vstack([np.ones(n), drawn]).astype(np.float64)


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
