"""Statistics of a comparison with and without reasoning: scores of the same items -> means, intervals and tests.

Scores are arrays of shape (n_items,), 0 or 1 for graded answers, 1..10 for judged ones. Where a number does not exist
(no items, no variance) it is None, with the reason in words; a NaN is an error, never a result.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, ttest_rel

from r2a_core.errors import R2AError

CELLS_AT_ONCE = 4_000_000  # resampled scores held in memory: 32 MB of indices


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean score and its bootstrap interval; all None when there are no items."""

    n: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PairedT:
    """Two-sided paired t-test of scores with reasoning minus without; t and p are None where `reason` says why."""

    n: int
    difference: float | None  # mean of with - without
    t: float | None
    p: float | None
    reason: str | None


@dataclass(frozen=True)
class McNemar:
    """Exact McNemar test: items right in one setting only, and the two-sided probability of so uneven a split."""

    only_with: int
    only_without: int
    p: float


@dataclass(frozen=True)
class WinTieLoss:
    """Items whose score with reasoning is above, equal to or below the one without."""

    win: int
    tie: int
    loss: int


def accuracy_with_interval(
    scores: ArrayLike, draws: int = 10_000, seed: int = 0, level: float = 0.95, where: str = "scores"
) -> MeanWithInterval:
    """Mean score with its percentile bootstrap interval over items, the same for the same seed.

    Raises R2AError when a score is NaN; `where` says which scores these are.
    """
    values = _checked(scores, where)
    if not values.size:
        return MeanWithInterval(0, None, None, None)
    rng = np.random.default_rng(seed)
    step = max(1, CELLS_AT_ONCE // values.size)
    means = np.concatenate(
        [
            values[rng.integers(0, values.size, (min(step, draws - done), values.size))].mean(axis=1)
            for done in range(0, draws, step)
        ]
    )  # (draws,)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return MeanWithInterval(values.size, float(values.mean()), float(low), float(high))


def paired_t(with_scores: ArrayLike, without_scores: ArrayLike, where: str = "scores") -> PairedT:
    """Paired t-test over items (paper section 3). Raises R2AError when a score is NaN or the items do not match."""
    ours, theirs = _checked_pairs(with_scores, without_scores, where)
    n = ours.size
    if n == 0:
        return PairedT(0, None, None, None, "no common items")
    differences = ours - theirs
    mean = float(differences.mean())
    if n == 1:
        return PairedT(n, mean, None, None, "one item has no variance")
    if np.ptp(differences) < 1e-12:
        same = "no item differs between the settings" if abs(mean) < 1e-12 else "every item differs by the same amount"
        return PairedT(n, mean, None, None, same)
    result = ttest_rel(ours, theirs)
    return PairedT(n, mean, _number(result.statistic, f"t of {where}"), _number(result.pvalue, f"p of {where}"), None)


def mcnemar(with_scores: ArrayLike, without_scores: ArrayLike, where: str = "scores") -> McNemar:
    """Exact McNemar test on scores of 0 and 1; p is 1 when no item differs. Raises R2AError for any other score."""
    ours, theirs = _checked_pairs(with_scores, without_scores, where)
    if not np.isin(np.concatenate([ours, theirs]), (0, 1)).all():
        raise R2AError(f"McNemar's test takes scores of 0 and 1, {where} holds others", "use the paired t-test")
    only_with, only_without = int((ours > theirs).sum()), int((ours < theirs).sum())
    differing = only_with + only_without
    p = float(binomtest(only_with, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_with, only_without, p)


def win_tie_loss(with_scores: ArrayLike, without_scores: ArrayLike, where: str = "scores") -> WinTieLoss:
    """How many items score higher, equal and lower with reasoning."""
    ours, theirs = _checked_pairs(with_scores, without_scores, where)
    return WinTieLoss(int((ours > theirs).sum()), int((ours == theirs).sum()), int((ours < theirs).sum()))


def stars(p: float | None) -> str:
    """Significance marks of a figure: *** below 0.001, ** below 0.01, * below 0.05, n.s. above, nothing without a p."""
    if p is None:
        return ""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."


def _checked(scores: ArrayLike, where: str) -> np.ndarray:
    """Scores as float64, shape (n,). Raises R2AError at a NaN or an infinity, naming the first."""
    values = np.asarray(scores, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise R2AError(
            f"{where}: {bad.size} of {values.size} scores are not numbers, the first at position {bad[0]}",
            "grade or judge every item that counts, or leave the item out",
        )
    return values


def _checked_pairs(with_scores: ArrayLike, without_scores: ArrayLike, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Both settings' scores, checked, of equal length."""
    ours, theirs = _checked(with_scores, f"{where} with"), _checked(without_scores, f"{where} without")
    if ours.shape != theirs.shape:
        raise R2AError(
            f"{where}: {ours.size} scores with reasoning, {theirs.size} without", "compare the same items in both"
        )
    return ours, theirs


def _number(value: float, where: str) -> float:
    """A statistic as a float. Raises R2AError when it is NaN."""
    if not np.isfinite(value):
        raise R2AError(f"{where} is {value}", "look at the scores of data/evaluation")
    return float(value)
