"""Curves over pairs and their crossing, on tables made by hand."""

import numpy as np
import polars as pl
import pytest

from r2a_core.config import CrossingParams
from r2a_core.infra.errors import R2AError
from r2a_core.patching.summary import crossing, crossing_layer, layer_curves


def table(pairs):
    """pairs: pair_id -> {(position, role): NLD by layer}."""
    rows = [
        (p, "plain", "resid_pre", layer, at, role, float(nld))
        for p, cells in pairs.items()
        for (at, role), curve in cells.items()
        for layer, nld in enumerate(curve)
    ]
    columns = ["pair_id", "probe", "component", "layer", "position", "role", "nld"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def cells(flip, final):
    rest = {(6, "think_close"): [0.0] * len(flip), (8, "answer_end"): [0.1] * len(flip)}
    return {(5, "flip"): flip, **rest, (9, "answer_end"): final}


def crossing_of(frame, draws=10, seed=0, probe="plain"):
    return crossing(frame, probe, CrossingParams(bootstrap_draws=draws, confidence=0.95, seed=seed))


def test_mean_and_sample_sd_over_pairs():
    frame = table({"a": cells([0.4, 0.2], [0.0, 0.8]), "b": cells([0.8, 0.0], [0.2, 1.0])})
    curves = layer_curves(frame)
    flip = curves.filter(curve="flip")
    np.testing.assert_allclose(flip["mean"], [0.6, 0.1])
    np.testing.assert_allclose(flip["sd"], [0.4 / 2**0.5, 0.2 / 2**0.5])
    assert flip["n_pairs"].to_list() == [2, 2]
    np.testing.assert_allclose(curves.filter(curve="final")["mean"], [0.1, 0.9])
    ends = curves.filter(curve="answer_end")
    np.testing.assert_allclose(ends["mean"], [0.1, 0.1], err_msg="the last position has a curve of its own")


def test_flips_in_the_answer_do_not_join_those_before_think_close_but_stand_alone():
    curves = layer_curves(table({"a": cells([0.4, 0.2], [0.0, 0.8]) | {(7, "flip"): [1.0, 1.0]}}))
    np.testing.assert_allclose(curves.filter(curve="flip")["mean"], [0.4, 0.2])
    assert curves["sd"].null_count() == len(curves)
    late = {(6, "think_close"): [0.0, 0.0], (7, "flip"): [0.7, 0.1], (9, "answer_end"): [0.0, 0.9]}
    curves = layer_curves(table({"a": late}))
    np.testing.assert_allclose(curves.filter(curve="flip")["mean"], [0.7, 0.1])
    assert set(curves["curve"]) == {"flip", "think_close", "final"}  # the last position is all of the answer's end


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
    found = crossing_of(frame, 400, seed=1)
    assert (found.n_pairs, found.n_resamples, found.share_crossing) == (8, 400, 1.0)
    assert (found.low, found.high) == (1, 4)
    assert crossing_of(frame, 400, seed=1) == found
    assert len({crossing_of(frame, 1, seed) for seed in range(9)}) > 1


def test_equal_pairs_cross_between_two_layers_and_curves_that_do_not_cross_are_said_not_to():
    found = crossing_of(table({p: cells([1, 1, 0], [0, 0, 1]) for p in "abc"}))
    assert (found.layer, found.low, found.high) == (1.5, 1, 2)
    at_a_layer = crossing_of(table({p: cells([0.5, 0.5, 0.5], [0, 0.5, 1]) for p in "abc"}))
    assert (at_a_layer.layer, at_a_layer.low, at_a_layer.high) == (1.0, 0, 1)
    apart = table({"a": cells([1, 1], [0, 0.5])})
    found = crossing_of(apart)
    assert (found.layer, found.low, found.high, found.share_crossing) == (None, None, None, 0.0)
    with pytest.raises(R2AError, match="probe 'boxed' has 0 pairs"):
        crossing_of(apart, probe="boxed")
