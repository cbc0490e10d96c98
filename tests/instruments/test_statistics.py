"""AUC and rank correlation against counting by hand and scipy's tests."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr

from r2a_core.instruments.statistics import (
    Groups,
    chance,
    holm,
    item_auc,
    item_sums,
    model_auc,
    newcombe,
    rank_correlation,
    rank_moments,
    wins,
)
from tests.instruments.cases import params


def groups(ours: list[float], theirs: list[float], shared: bool = False) -> Groups:
    """One stratum; shared: the same items under two models."""
    names = [[f"{side}{at}" for at in range(len(own))] for side, own in (("a", ours), ("a" if shared else "b", theirs))]
    return Groups(np.array(ours), np.array(theirs), *names)


def test_pairs_are_counted_within_their_dataset_and_ties_are_half() -> None:
    first, second = groups([3, 1], [2]), groups([10, 10], [10, 9])  # 1 of 2 won; 2 wins and 2 ties of 4
    assert item_auc([first, second]).value == pytest.approx((1 + 3) / (2 + 4))
    far = groups([100, 101], [102, 103])  # a dataset of high values: pooled, they would count as above the first's
    assert item_auc([groups([1.0], [2.0]), far]).value == 0
    assert item_auc([groups([1.0], [])]).value is None


def test_auc_is_mann_whitney_over_the_number_of_pairs() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = generator.integers(0, 9, 23), generator.integers(0, 7, 31)
    expected = mannwhitneyu(ours, theirs).statistic / (23 * 31)
    assert model_auc([groups(ours.tolist(), theirs.tolist())]).value == pytest.approx(expected)
    assert item_auc([groups(ours.tolist(), theirs.tolist())]).value == pytest.approx(expected)


def test_an_interval_is_wider_where_items_vary_more_than_newcombe_supposes() -> None:
    half = item_auc([groups([9.0] * 12 + [-9.0] * 12, [float(at) / 24 for at in range(24)])])  # 12 win all, 12 none
    assert half.value == 0.5
    low, _ = newcombe(0.5, 24, 24)
    assert half.low is not None
    assert half.low < low - 0.02
    assert newcombe(0.5, 24, 24, variance=1e-9) == newcombe(0.5, 24, 24)


def test_the_spread_of_items_is_that_of_drawing_each_with_all_that_it_has() -> None:
    """Against slow resampling of the items by name; items of both models go against one another."""
    generator = np.random.default_rng(2)
    theirs = generator.normal(0, 1, 40)
    ours = 0.5 - theirs
    group = groups(ours.tolist(), theirs.tolist(), shared=True)
    over = wins(ours, theirs)
    sums = item_sums(group, over - over.mean()) / over.size
    slow = [over[np.ix_(drawn, drawn)].mean() for drawn in generator.integers(0, 40, (2000, 40))]
    assert (sums**2).sum() ** 0.5 == pytest.approx(np.std(slow), rel=0.1)


def test_an_interval_has_a_width_where_every_pair_is_won() -> None:
    low, high = newcombe(1.0, 1, 1)
    assert (low, high) == (pytest.approx(1 / (1 + 1.96**2), abs=1e-4), 1.0)  # 1 - t = 1.96^2 t
    assert newcombe(0.0, 1, 1) == pytest.approx((0, 1 - low))
    won = item_auc([groups([2, 3, 4], [0, 1])])
    assert (won.value, won.high) == (1, 1)
    assert won.low == pytest.approx(newcombe(1.0, 3, 2)[0])
    assert 0.3 < newcombe(1.0, 3, 2)[0] < 0.7
    low, high = newcombe(0.5, 40, 40)
    assert low + high == pytest.approx(1)
    assert 0.1 < high - 0.5 < 0.14  # 1.96 sqrt((m + n) / (12 m n)) = 0.127


def test_rank_correlation_is_spearmans_and_ranks_within_datasets() -> None:
    generator = np.random.default_rng(3)
    x = generator.integers(0, 8, 30).astype(float)
    y = x + generator.normal(0, 3, 30)
    found = rank_correlation([rank_moments(x, y, params(bootstrap_draws=2000), np.random.default_rng(0))])
    assert found.value == pytest.approx(spearmanr(x, y)[0])
    slow = [spearmanr(x[at], y[at])[0] for at in generator.integers(0, 30, (1000, 30))]
    assert [found.low, found.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.05)
    up = np.arange(5.0)
    shifted = [rank_moments(up + shift, -up + shift, params(), np.random.default_rng(0)) for shift in (0, 100)]
    assert rank_correlation(shifted).value == pytest.approx(-1)  # pooled, the shift alone would make it positive
    assert rank_correlation(shifted[:1]).value is None  # of 5 items
    assert rank_correlation([rank_moments(np.ones(9), x[:9], params(), np.random.default_rng(0))]).value is None


def test_chance_deals_items_anew_within_their_dataset() -> None:
    x = np.arange(4.0)
    y = np.array([0.0, 1.0, 3.0, 2.0])  # rho 0.8; of 24 orders 4 have |rho| of 0.8 or more a side
    own = [rank_moments(x, y, params(permutations=20_000), np.random.default_rng(0))]
    assert chance(own) == pytest.approx(8 / 24, abs=0.01)
    two = [rank_moments(x + far, x + far, params(permutations=20_000), np.random.default_rng(far)) for far in (0, 9)]
    assert chance(two) == pytest.approx(2 / 24**2, abs=0.002)  # all in order, or all reversed, in both


def test_holm_by_hand_and_what_was_not_tested_does_not_count() -> None:
    found = holm(np.array([0.03, 0.01, np.nan, 0.04, 0.02]))
    assert found == pytest.approx([0.06, 0.04, np.nan, 0.06, 0.06], nan_ok=True)  # 4 x .01, 3 x .02, 2 x .03, .04


def test_models_count_once_however_many_datasets_they_answer() -> None:
    strata = [groups([3.0, 4.0], [1.0, 3.5])] * 5  # 3 of 4 pairs of two models a side
    found = model_auc(strata)
    assert (found.value, found.low, found.high) == pytest.approx((0.75, *newcombe(0.75, 2, 2)))
    assert model_auc([groups([3.0], [1.0])] * 5).low is None  # one a side
    assert model_auc([groups([3.0], [])]).value is None
