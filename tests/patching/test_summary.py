"""Curves over pairs and their crossing, on tables made by hand."""

import numpy as np
import polars as pl
import pytest

from r2a_core.config import CrossingParams
from r2a_core.infra.errors import R2AError
from r2a_core.patching.summary import crossing, crossing_layer, layer_curves


def table(pairs, probe="plain"):
    """pairs: pair_id -> {(position, role): NLD by layer}."""
    rows = [
        {
            "pair_id": p,
            "probe": probe,
            "component": "resid_pre",
            "layer": layer,
            "position": at,
            "role": role,
            "nld": nld,
        }
        for p, cells in pairs.items()
        for (at, role), curve in cells.items()
        for layer, nld in enumerate(curve)
    ]
    return pl.DataFrame(rows)


def cells(flip, final, second_flip=None):
    found = {(5, "flip"): flip, (6, "think_close"): [0.0] * len(flip), (8, "answer_end"): [0.1] * len(flip)}
    if second_flip is not None:
        found[(7, "flip")] = second_flip
    return {**found, (9, "answer_end"): final}


def test_mean_and_sample_sd_over_pairs():
    frame = table({"a": cells([0.4, 0.2], [0.0, 0.8]), "b": cells([0.8, 0.0], [0.2, 1.0])})
    curves = layer_curves(frame)
    flip = curves.filter(curve="flip")
    np.testing.assert_allclose(flip["mean"], [0.6, 0.1])
    np.testing.assert_allclose(flip["sd"], [0.4 / 2**0.5, 0.2 / 2**0.5])
    assert flip["n_pairs"].to_list() == [2, 2]
    np.testing.assert_allclose(curves.filter(curve="final")["mean"], [0.1, 0.9])
    ends = curves.filter(curve="answer_end")
    np.testing.assert_allclose(ends["mean"], [0.1, 0.5], err_msg="the mean of both last tokens")


def test_flips_in_the_answer_do_not_join_those_before_think_close():
    frame = table({"a": cells([0.4, 0.2], [0.0, 0.8], second_flip=[1.0, 1.0])})
    curves = layer_curves(frame)
    np.testing.assert_allclose(curves.filter(curve="flip")["mean"], [0.4, 0.2])
    assert curves["sd"].null_count() == len(curves)


def test_a_probe_in_the_answer_alone_still_has_its_curve():
    late = {(6, "think_close"): [0.0, 0.0], (7, "flip"): [0.7, 0.1], (9, "answer_end"): [0.0, 0.9]}
    np.testing.assert_allclose(layer_curves(table({"a": late})).filter(curve="flip")["mean"], [0.7, 0.1])


@pytest.mark.parametrize(
    ("rising", "falling", "expected"),
    [
        ([0, 0, 1], [1, 1, 0], 1.5),
        ([0, 0.2, 0.8], [0.4, 0.3, 0.0], 1 + 0.1 / 0.9),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 2.5),  # the last crossing counts
        ([0, 0.5, 1], [0.5, 0.5, 0.5], 1.0),
        ([0, 0, 0], [1, 1, 1], None),
        ([1, 1, 1], [0, 0, 0], None),
    ],
)
def test_crossing_layer_by_hand(rising, falling, expected):
    found = crossing_layer(np.array(rising, float), np.array(falling, float))
    assert found == (None if expected is None else pytest.approx(expected))


def test_bootstrap_interval_spans_the_pairs_and_repeats_with_its_seed():
    early = cells([1, 1, 0, 0, 0], [0, 0, 1, 1, 1])  # crosses at 1.5
    late = cells([1, 1, 1, 1, 0], [0, 0, 0, 0, 1])  # crosses at 3.5
    frame = table({f"{kind}{i}": c for i in range(4) for kind, c in (("e", early), ("l", late))})
    found = crossing(frame, "plain", CrossingParams(bootstrap_draws=400, confidence=0.95, seed=1))
    assert (found.n_pairs, found.n_resamples, found.share_crossing) == (8, 400, 1.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low == pytest.approx(1.5, abs=0.6)
    assert found.high == pytest.approx(3.5, abs=0.2)
    assert crossing(frame, "plain", CrossingParams(bootstrap_draws=400, confidence=0.95, seed=1)) == found
    assert crossing(frame, "plain", CrossingParams(bootstrap_draws=50, confidence=0.95, seed=1)) != crossing(
        frame, "plain", CrossingParams(bootstrap_draws=50, confidence=0.95, seed=2)
    )


def test_equal_pairs_leave_no_spread():
    frame = table({p: cells([1, 1, 0], [0, 0, 1]) for p in "abc"})
    found = crossing(frame, "plain", CrossingParams(bootstrap_draws=20, confidence=0.95, seed=0))
    assert (found.layer, found.low, found.high) == (1.5, 1.5, 1.5)


def test_curves_that_do_not_cross_are_said_not_to():
    found = crossing(
        table({"a": cells([1, 1], [0, 0.5])}), "plain", CrossingParams(bootstrap_draws=10, confidence=0.95, seed=0)
    )
    assert (found.layer, found.low, found.high, found.share_crossing) == (None, None, None, 0.0)


def test_a_probe_without_pairs_is_refused():
    with pytest.raises(R2AError, match="probe 'boxed' has 0 pairs"):
        crossing(
            table({"a": cells([1, 1], [0, 0.5])}), "boxed", CrossingParams(bootstrap_draws=10, confidence=0.95, seed=0)
        )
