"""The difference of two numbers that stand side by side, and its 95% interval.

two values -> second less first: over the items that both have, where most are the same, else as of independent numbers.
"""

from collections.abc import Sequence
from math import hypot

import numpy as np
from numpy.typing import NDArray

from r2a_core.config import EvaluateParams
from r2a_core.evaluation.paired import (
    FEW,
    MeanWithInterval,
    difference_with_interval,
    is_binary,
    mcnemar,
)
from r2a_core.report.values import Value

MOST = 0.5  # of the items of either number; where fewer are shared, they stand for neither


def difference(first: Value, second: Value, params: EvaluateParams) -> dict[str, float | None]:
    """Subtracts the first from the second. n: shared items, where it is paired; p: McNemar's, of right and wrong."""
    shared = sorted(first.items.keys() & second.items.keys())
    if not shared or len(shared) < MOST * max(len(first.items), len(second.items)):
        return independent(first, second) | {"n": None, "p": None}
    sides = [np.array([one.items[each] for each in shared]) for one in (first, second)]
    if first.is_median:
        gap = difference_of_medians(sides, params)
    else:
        gap = difference_with_interval(sides[1], sides[0], params.bootstrap_draws, params.seed)
    ends = {"value": gap.mean, "low": gap.low, "high": gap.high}
    scaled = {name: None if end is None else first.scale * end for name, end in ends.items()}
    is_right = not first.is_median and is_binary(*sides)
    return scaled | {"n": gap.n, "p": mcnemar(sides[1], sides[0]).p if is_right else None}


def difference_of_medians(sides: Sequence[NDArray[np.float64]], params: EvaluateParams) -> MeanWithInterval:
    """Subtracts medians over the same items; the interval is the percentile bootstrap's, none of few items."""
    both, rng = np.stack(sides), np.random.default_rng(params.seed)  # (side, item)
    n, (first, second) = both.shape[1], np.median(both, axis=1).tolist()
    if n < FEW:
        return MeanWithInterval(n, second - first, None, None)
    drawn = [np.median(both[:, rng.integers(0, n, n)], axis=1) for _ in range(params.bootstrap_draws)]
    low, high = np.quantile(np.diff(drawn), [0.025, 0.975]).tolist()
    return MeanWithInterval(n, second - first, low, high)


def independent(first: Value, second: Value) -> dict[str, float | None]:
    """Subtracts independent numbers, with Newcombe's interval: its ends are as far away as both distances of a number
    to its own end together, by their squares.
    """
    assert first.value is not None
    assert second.value is not None
    apart = second.value - first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return {"value": apart, "low": None, "high": None}
    down = hypot(second.value - second.low, first.high - first.value)
    up = hypot(second.high - second.value, first.value - first.low)
    return {"value": apart, "low": apart - down, "high": apart + up}
