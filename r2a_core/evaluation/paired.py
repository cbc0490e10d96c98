"""With reasoning against without, item by item: scored rows of both settings -> one flat record of means and tests.

Scores are arrays of shape (n_items,), 0 or 1 for graded answers, 1..10 for judged ones. Means have Wilson's
interval for scores of 0 and 1, else percentile bootstrap intervals over items (Student's t for few); tests are
McNemar's exact test, for scores of 0 and 1, and the paired t-test (paper section 3).
Items that all differ alike have no t, but a McNemar p. Where a number does not exist it is None, with the reason in
words; a NaN is an error, never a result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS

NO_SCORES = "the items have no scores"
ONE_SETTING = "without reasoning was not run"


def compare_settings(rows: pl.DataFrame, draws: int, seed: int, settings: Sequence[str] = SETTINGS) -> dict[str, Any]:
    """Compares both settings over `rows` (item_id, setting, score) of the common items, which have a row in each.

    settings: those that ran; with one alone there is its accuracy, and nothing to compare it with.
    An item's score is its mean over runs. Keys: n (items); accuracy_with, low_with, high_with and the same _without
    (the 95% interval); difference and its interval low_difference, high_difference; t, p and reason (why there is no
    t); only_with, only_without and mcnemar_p (null unless the scores are 0 and 1); win, tie, loss.
    """
    if rows.height and rows["score"].null_count() == rows.height:
        return _record(np.empty(0), np.empty(0), draws, seed) | {"reason": NO_SCORES, "n": rows["item_id"].n_unique()}
    means = rows.sort("item_id").group_by("item_id", "setting", maintain_order=True).agg(pl.col("score").mean())
    sides = [means.filter(pl.col("setting") == setting) for setting in settings]
    if len(sides) == 1:
        return _alone(sides[0]["score"], draws, seed)
    if sides[0]["item_id"].to_list() != sides[1]["item_id"].to_list():
        raise R2AError("the two settings hold different items", "pass the common items only")
    scores = [side["score"].cast(pl.Float64).fill_null(math.nan).to_numpy() for side in sides]
    return _record(scores[0], scores[1], draws, seed)


def _alone(scores: pl.Series, draws: int, seed: int) -> dict[str, Any]:
    """The flat record of the scores with reasoning alone."""
    own = accuracy_with_interval(scores.cast(pl.Float64).fill_null(math.nan).to_numpy(), draws, seed)
    record = _record(np.empty(0), np.empty(0), draws, seed) | dict.fromkeys(("win", "tie", "loss"))
    accuracy = {"n": own.n, "accuracy_with": own.mean, "low_with": own.low, "high_with": own.high}
    return record | accuracy | {"reason": ONE_SETTING}


def _record(ours: np.ndarray, theirs: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """The flat record of two aligned score arrays, shape (n_items,)."""
    with_, without = (
        accuracy_with_interval(scores, draws, seed, where=f"scores {setting}")
        for scores, setting in zip((ours, theirs), SETTINGS, strict=True)
    )
    test, tally = paired_t(ours, theirs), win_tie_loss(ours, theirs)
    gap = difference_with_interval(ours, theirs, draws, seed)
    exact = mcnemar(ours, theirs) if ours.size and is_binary(ours, theirs) else None
    return {
        "n": test.n,
        "accuracy_with": with_.mean,
        "low_with": with_.low,
        "high_with": with_.high,
        "accuracy_without": without.mean,
        "low_without": without.low,
        "high_without": without.high,
        "difference": gap.mean,
        "low_difference": gap.low,
        "high_difference": gap.high,
        "t": test.t,
        "p": test.p,
        "reason": test.reason,
        "only_with": exact.only_with if exact else None,
        "only_without": exact.only_without if exact else None,
        "mcnemar_p": exact.p if exact else None,
        "win": tally.win,
        "tie": tally.tie,
        "loss": tally.loss,
    }


CELLS_AT_ONCE = 4_000_000  # resampled scores held in memory: 32 MB of indices
Bounds = tuple[float, float]
UNBOUNDED = (-math.inf, math.inf)
LEAST, FEW = 3, 10  # values of an interval; of one by resamples
NORMAL_95 = 1.959963984540054  # standard deviations of a normal distribution that bound its central 95%


@dataclass(frozen=True)
class MeanWithInterval:
    """A mean score, or difference of scores, and its 95% interval; None where there is none."""

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
    scores: ArrayLike, draws: int, seed: int, where: str = "scores", bounds: Bounds = UNBOUNDED
) -> MeanWithInterval:
    """Returns the mean score with its 95% interval over items.

    Scores of 0 and 1: Wilson's interval, which has a width where all items are alike. Others: as `mean_with_interval`.
    """
    values = _checked(scores, where)
    if not values.size or not is_binary(values):
        return mean_with_interval(values, draws, seed, where, bounds)
    n, share, z2 = values.size, float(values.mean()), NORMAL_95**2
    middle, half = share + z2 / (2 * n), NORMAL_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low, high = ((middle + side * half) / (1 + z2 / n) for side in (-1, 1))
    return MeanWithInterval(n, share, low if share else 0.0, high if share < 1 else 1.0)


def mean_with_interval(
    values: ArrayLike, draws: int, seed: int, where: str = "values", bounds: Bounds = UNBOUNDED
) -> MeanWithInterval:
    """Returns the mean with its 95% interval over items, which fewer than LEAST do not have.

    Of fewer than FEW values Student's t, cut at `bounds`, since resamples of so few are too much alike; else the
    percentile bootstrap. bounds: the least and the most that a mean can be. draws: resamples, the same for the same
    seed. Raises R2AError when a value is NaN; `where` says which these are.
    """
    values = _checked(values, where)
    mean = float(values.mean()) if values.size else None
    if mean is None or values.size < LEAST:
        return MeanWithInterval(values.size, mean, None, None)
    if values.size < FEW:
        from scipy.stats import t

        half = float(t.ppf(0.975, values.size - 1) * values.std(ddof=1)) / math.sqrt(values.size)
        return MeanWithInterval(values.size, mean, max(bounds[0], mean - half), min(bounds[1], mean + half))
    rng = np.random.default_rng(seed)
    step = max(1, CELLS_AT_ONCE // values.size)
    means = np.concatenate(
        [
            values[rng.integers(0, values.size, (min(step, draws - done), values.size))].mean(axis=1)
            for done in range(0, draws, step)
        ]
    )  # (draws,)
    low, high = np.quantile(means, [0.025, 0.975])
    return MeanWithInterval(values.size, mean, float(low), float(high))


def difference_with_interval(
    with_scores: ArrayLike, without_scores: ArrayLike, draws: int, seed: int
) -> MeanWithInterval:
    """Returns the mean difference, with minus without, and its 95% interval over items.

    Scores of 0 and 1: Bonett and Price's interval for paired proportions (Wald's, after one item is added to either
    kind of disagreement and two to n). A bootstrap cannot be used there: where all items differ alike, or none does,
    every resample is the same and the interval has no width, though ten items do not show a difference of exactly 1.
    Other scores: that of the mean of the items' differences. Raises R2AError at a NaN or unequal lengths.
    """
    ours, theirs = _checked_pairs(with_scores, without_scores)
    if not ours.size or not is_binary(ours, theirs):
        return mean_with_interval(ours - theirs, draws, seed)
    n = ours.size
    gained, lost = ((int(side.sum()) + 1) / (n + 2) for side in (ours > theirs, ours < theirs))
    half = NORMAL_95 * math.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2))
    middle = gained - lost
    return MeanWithInterval(n, float((ours - theirs).mean()), max(-1.0, middle - half), min(1.0, middle + half))


def paired_t(with_scores: ArrayLike, without_scores: ArrayLike) -> PairedT:
    """Tests the paired differences over items (paper section 3). Raises R2AError at a NaN or unequal lengths."""
    ours, theirs = _checked_pairs(with_scores, without_scores)
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
    from scipy.stats import ttest_rel  # most of what imports this module needs no test, and this takes half a second

    result = ttest_rel(ours, theirs)
    return PairedT(n, mean, float(result.statistic), float(result.pvalue), None)


def mcnemar(with_scores: ArrayLike, without_scores: ArrayLike) -> McNemar:
    """Runs McNemar's exact test on scores of 0 and 1; p is 1 when no item differs. Raises R2AError for other scores."""
    ours, theirs = _checked_pairs(with_scores, without_scores)
    if not is_binary(ours, theirs):
        raise R2AError("McNemar's test takes scores of 0 and 1 only", "use the paired t-test")
    only_with, only_without = int((ours > theirs).sum()), int((ours < theirs).sum())
    differing = only_with + only_without
    from scipy.stats import binomtest

    p = float(binomtest(only_with, differing, 0.5).pvalue) if differing else 1.0
    return McNemar(only_with, only_without, p)


def win_tie_loss(with_scores: ArrayLike, without_scores: ArrayLike) -> WinTieLoss:
    """Counts the items that score higher, equal and lower with reasoning."""
    ours, theirs = _checked_pairs(with_scores, without_scores)
    return WinTieLoss(int((ours > theirs).sum()), int((ours == theirs).sum()), int((ours < theirs).sum()))


def is_binary(*scores: np.ndarray) -> bool:
    """Tells whether all scores are 0 or 1."""
    return bool(np.isin(np.concatenate(scores), (0, 1)).all())


def deciding_p(record: Mapping[str, Any]) -> float | None:
    """Returns the p that marks a comparison: McNemar's where scores are 0 and 1, else the t-test's; None without."""
    exact = record.get("mcnemar_p")
    return record["p"] if exact is None else exact


def deciding_test(record: Mapping[str, Any]) -> str:
    """Names the test that `deciding_p` takes."""
    return "paired t-test" if record.get("mcnemar_p") is None else "exact McNemar test"


def words_of_tests(record: Mapping[str, Any]) -> str:
    """Says what the tests of a comparison found, or why there is none."""
    found = [] if record.get("mcnemar_p") is None else [f"exact McNemar p = {record['mcnemar_p']:.2g}"]
    if record["p"] is not None:
        found.append(f"paired t = {record['t']:.2f}, p = {record['p']:.2g}")
    else:
        found.append(f"no paired t: {record['reason']}")
    return "; ".join(found)


def stars(p: float | None) -> str:
    """Marks significance in a figure: *** below 0.001, ** below 0.01, * below 0.05, n.s. above, nothing without a p."""
    if p is None:
        return ""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else "n.s."


def _checked(scores: ArrayLike, where: str) -> np.ndarray:
    """Returns the scores as float64, shape (n,). Raises R2AError at a NaN or an infinity, naming the first."""
    values = np.asarray(scores, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise R2AError(
            f"{where}: {bad.size} of {values.size} scores are not numbers, the first at position {bad[0]}",
            "grade or judge every item that counts, or leave the item out",
        )
    return values


def _checked_pairs(with_scores: ArrayLike, without_scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns both settings' scores, checked, of equal length."""
    ours, theirs = _checked(with_scores, "scores with"), _checked(without_scores, "scores without")
    if ours.shape != theirs.shape:
        raise R2AError(f"{ours.size} scores with reasoning, {theirs.size} without", "compare the same items in both")
    return ours, theirs
