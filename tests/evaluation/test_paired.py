"""Statistics against closed forms, scipy and sums done by hand."""

# pyright: reportOptionalOperand=false, reportOperatorIssue=false

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from r2a_core.evaluation.paired import (
    accuracy_with_interval,
    compare_settings,
    deciding_p,
    difference_with_interval,
    mcnemar,
    mean_with_interval,
    paired_t,
    stars,
    win_tie_loss,
    words_of_tests,
)
from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS


def test_shares_have_wilsons_interval_and_others_a_bootstrap() -> None:
    scores = np.repeat([1.0, 0.0], [160, 40])
    found = accuracy_with_interval(scores, draws=100, seed=0)
    exact = stats.binomtest(160, 200).proportion_ci(0.95, "wilson")
    assert (found.mean, found.low, found.high) == pytest.approx((0.8, exact.low, exact.high))
    # and graded scores the normal limit
    scores = np.random.default_rng(1).normal(7, 2, size=2_000)
    found = accuracy_with_interval(scores, draws=5_000, seed=0)
    half = 1.96 * scores.std() / math.sqrt(2_000)
    assert found.high is not None
    assert found.low is not None
    assert found.high - found.low == pytest.approx(2 * half, rel=0.03)


def test_many_items_are_resampled_in_blocks_with_the_same_result() -> None:
    scores = np.random.default_rng(5).normal(size=30_000)  # 150 draws are 4.5 million scores, more than one block
    found = accuracy_with_interval(scores, draws=150, seed=3)
    means = scores[np.random.default_rng(3).integers(0, 30_000, (150, 30_000))].mean(axis=1)
    assert (found.low, found.high) == tuple(np.quantile(means, [0.025, 0.975]))
    assert accuracy_with_interval(scores, draws=150, seed=4) != found
    perfect, nothing = (accuracy_with_interval(given, draws=100, seed=0) for given in ([1, 1, 1], []))
    assert (perfect.mean, perfect.low, perfect.high) == pytest.approx((1, 3 / (3 + 1.959964**2), 1))
    one = accuracy_with_interval([0.5], draws=100, seed=0)
    assert (one.n, one.mean, one.low, one.high) == (1, 0.5, None, None)
    assert (nothing.n, nothing.mean, nothing.low, nothing.high) == (0, None, None, None)


def test_few_values_have_students_interval_and_two_have_none() -> None:
    few = [0.1, 0.7, 0.2, 0.4]
    found, expected = mean_with_interval(few, draws=100, seed=0), stats.ttest_1samp(few, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    two = mean_with_interval(few[:2], draws=100, seed=0)
    assert (two.n, two.mean, two.low, two.high) == (2, pytest.approx(0.4), None, None)


def test_paired_t_by_hand() -> None:
    # differences 1, 0, 1, 0: mean 1/2, sample variance 1/3, t = (1/2) / sqrt(1/3 / 4) = sqrt(3)
    found = paired_t([1, 1, 1, 0], [0, 1, 0, 0])
    assert found.n == 4
    assert found.difference == pytest.approx(0.5)
    assert found.t == pytest.approx(math.sqrt(3))
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(3), df=3))
    # the size of the study:
    # 355 items, 55 right only with reasoning, 6 only without (paper, Llama-8B: 93.5% against 79.7%, t 6.30, n 355)
    ours = np.repeat([1, 1, 0, 0], [277, 55, 6, 17])
    theirs = np.repeat([1, 0, 1, 0], [277, 55, 6, 17])
    found = paired_t(ours, theirs)
    d = (55 - 6) / 355
    variance = (61 / 355 - d**2) * 355 / 354
    assert found.t == pytest.approx(d / math.sqrt(variance / 355))
    assert found.t == pytest.approx(6.7, abs=0.5)


NO_VARIANCE = [
    ([], [], "no common items"),
    ([1], [0], "one item"),
    ([1, 0, 1], [1, 0, 1], "no item differs"),
    ([1, 1, 1], [0, 0, 0], "same amount"),
    ([0.1 + 0.2, 0.6], [0.1, 0.4], "same amount"),  # the same but for rounding
]


@pytest.mark.parametrize(("ours", "theirs", "why"), NO_VARIANCE)
def test_no_t_without_variance(ours: list[float], theirs: list[float], why: str) -> None:
    found = paired_t(ours, theirs)
    assert (found.t, found.p) == (None, None)
    assert why in (found.reason or "")


def test_mcnemar_is_the_exact_binomial() -> None:
    # 6 items right only with, 1 only without: p = 2 (C(7,0) + C(7,1)) / 2^7 = 16/128
    found = mcnemar([1] * 6 + [0] + [1] * 5, [0] * 6 + [1] + [1] * 5)
    assert (found.only_with, found.only_without) == (6, 1)
    assert found.p == pytest.approx(16 / 128)
    swapped = mcnemar([0] * 6 + [1], [1] * 6 + [0])
    assert swapped.p == pytest.approx(16 / 128)
    assert mcnemar([1, 0], [1, 0]).p == 1
    with pytest.raises(R2AError, match="0 and 1"):
        mcnemar([0.5, 1], [0, 1])
    found = win_tie_loss([1, 0, 1, 0.5, 7], [0, 1, 1, 0.5, 2])
    assert (found.win, found.tie, found.loss) == (2, 2, 1)


DIFFERENCES = [  # right with only, right without only, alike; difference and interval by hand, 1.96 the normal's bound
    (10, 0, 0, 1.0, 10 / 12 - 1.95996 * math.sqrt((1 - (10 / 12) ** 2) / 12), 1.0),
    (0, 0, 198, 0.0, -1.95996 * math.sqrt(2 / 200 / 200), 1.95996 * math.sqrt(2 / 200 / 200)),
    (6, 1, 13, 5 / 20, 5 / 22 - 0.24982, 5 / 22 + 0.24982),  # sqrt((9/22 - (5/22)^2) / 22) = .12746
]


@pytest.mark.parametrize(("gained", "lost", "alike", "mean", "low", "high"), DIFFERENCES)
def test_a_difference_of_shares_has_an_interval_of_some_width(
    gained: int, lost: int, alike: int, mean: float, low: float, high: float
) -> None:
    ours, theirs = [1] * gained + [0] * lost + [1] * alike, [0] * gained + [1] * lost + [1] * alike
    found = difference_with_interval(ours, theirs, draws=100, seed=0)
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    turned = difference_with_interval(theirs, ours, draws=100, seed=0)
    assert (turned.low, turned.high) == (-found.high, -found.low)


def test_the_interval_of_a_difference_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.choice(3, (2_000, 40), p=[0.3, 0.1, 0.6])  # gained, lost, alike: the true difference is .2
    found = [difference_with_interval(row == 0, row == 1, draws=1, seed=0) for row in kinds]
    assert np.mean([each.low <= 0.2 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)
    # other scores: the bootstrap of the differences, near its normal limit
    ours, noise = rng.normal(7, 2, 2_000), rng.normal(0.5, 1, 2_000)
    found = difference_with_interval(ours, ours - noise, draws=2_000, seed=0)
    half = 1.96 * noise.std() / math.sqrt(2_000)
    assert (found.low, found.high) == pytest.approx((noise.mean() - half, noise.mean() + half), abs=0.01)
    nothing = difference_with_interval([], [], draws=10, seed=0)
    assert (nothing.n, nothing.mean, nothing.low) == (0, None, None)


def test_ten_of_ten_against_none_is_a_difference_though_it_has_no_t() -> None:
    rows = [(name, setting, float(side == 0)) for name in "abcdefghij" for side, setting in enumerate(SETTINGS)]
    found = compare_settings(pl.DataFrame(rows, schema=["item_id", "setting", "score"], orient="row"), 100, 0)
    assert (found["difference"], found["t"], found["p"]) == (1, None, None)
    assert found["mcnemar_p"] == pytest.approx(2 / 2**10)
    assert stars(deciding_p(found)) == "**"
    assert words_of_tests(found) == "exact McNemar p = 0.002; no paired t: every item differs by the same amount"
    judged = {"p": 0.04, "t": 2.1, "reason": None}
    assert (deciding_p(judged), words_of_tests(judged)) == (0.04, "paired t = 2.10, p = 0.04")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_cannot_be_compared_are_named_not_averaged(bad: float) -> None:
    for statistic in (paired_t, mcnemar, win_tie_loss):
        with pytest.raises(R2AError, match=r"scores without: 1 of 3 .* position 2"):
            statistic([1, 0, 1], [0, 1, bad])
        with pytest.raises(R2AError, match=r"scores with: 1 of 2 .* position 0"):
            statistic([bad, 0], [0, 1])
        with pytest.raises(R2AError, match="2 scores with reasoning, 3 without"):
            statistic([1, 0], [1, 0, 1])
    with pytest.raises(R2AError, match=r"judge: 1 of 2 .* position 0") as caught:
        accuracy_with_interval([bad, 1], draws=100, seed=0, where="judge")
    assert "grade or judge every item" in caught.value.hint


def test_a_comparison_is_over_the_same_items_with_a_score_each() -> None:
    rows = pl.DataFrame({"item_id": ["a", "a", "b", "b"], "setting": [*SETTINGS] * 2, "score": [1.0, None, 1.0, 0.0]})
    with pytest.raises(R2AError, match="scores without_reasoning: 1 of 2 scores are not numbers"):
        compare_settings(rows, 100, 0)
    with pytest.raises(R2AError, match="the two settings hold different items"):
        compare_settings(rows.head(3), 100, 0)
    assert [stars(p) for p in (8.6e-10, 0.001, 0.0099, 0.049, 0.05, None)] == ["***", "**", "**", "*", "n.s.", ""]
