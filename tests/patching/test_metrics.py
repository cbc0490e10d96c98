"""Metrics and the patching table on numbers worked out by hand."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.infra.errors import R2AError
from r2a_core.patching import metrics as module
from r2a_core.patching.metrics import AnswerMetrics, Sweep, answer_metrics, patching_frame


def test_metrics_of_one_run_by_hand():
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.125])
    found = answer_metrics(probabilities.log() + 3, answer_a=1, answer_b=3)
    assert found.logit_diff.shape == ()
    assert found.logit_diff == pytest.approx(math.log(2), abs=1e-6)
    assert found.log_prob_diff == pytest.approx(math.log(2), abs=1e-6)
    assert found.prob_diff == pytest.approx(0.125, abs=1e-6)
    assert found.rank_diff == 1 - 2, "one token beats A, two beat B; the tie with token 2 does not count"
    logits = torch.tensor([[10.0, 9.0, 1.0]], dtype=torch.bfloat16)  # widened before the softmax
    expected = (math.exp(10) - math.exp(9)) / (math.exp(10) + math.exp(9) + math.exp(1))
    assert answer_metrics(logits, 0, 1).prob_diff[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n_rows", [1, 63, 64, 65, 130])
def test_metrics_of_many_rows_are_those_of_each_row(n_rows):
    logits = torch.randn(n_rows, 2, 11, generator=torch.Generator().manual_seed(n_rows))
    found = answer_metrics(logits, 4, 9)
    assert found.rank_diff.shape == (n_rows, 2)
    row = logits[-1, 1].double()
    order = row.argsort(descending=True).tolist()
    probs = row.softmax(0)
    assert found.logit_diff[-1, 1] == pytest.approx((row[4] - row[9]).item(), abs=1e-6)
    assert found.prob_diff[-1, 1] == pytest.approx((probs[4] - probs[9]).item(), abs=1e-6)
    assert found.rank_diff[-1, 1] == order.index(4) - order.index(9)


def test_nld_is_zero_at_the_corrupted_and_one_at_the_clean_run():
    found = module.normalised_logit_diff(np.array([-6.0, 4.0, -1.0, 9.0]), ld_clean=4, ld_corrupted=-6)
    np.testing.assert_allclose(found, [0, 1, 0.5, 1.5])
    with pytest.raises(R2AError, match="NLD has no scale"):
        module.normalised_logit_diff(np.array([1.0]), 2, 2)


def sweep(component, shape, pair_id="p1"):
    cells = np.arange(math.prod(shape), dtype=float).reshape(shape)
    metrics = AnswerMetrics(cells, cells + 0.25, cells / 100, cells.astype(int) - 3)
    tokens = (" is", "5"), (" is", "6")
    return Sweep(pair_id, "plain", component, (7, 9), ("probe", "flip"), *tokens, metrics, 10.0, -10.0)


def test_table_rows_name_layer_head_and_position_of_each_cell():
    frame = patching_frame([sweep("z", (2, 3, 2)), sweep("resid_pre", (2, 2)), sweep("resid_pre", (2, 2), "p0")])
    assert dict(frame.schema) == module.FRAME_SCHEMA
    assert frame["pair_id"].to_list() == ["p0"] * 4 + ["p1"] * 16
    head_cell = frame.filter(component="z", layer=1, head=2, position=9).row(0, named=True)
    assert head_cell["logit_diff"] == 1 * 6 + 2 * 2 + 1
    assert head_cell["nld"] == pytest.approx(21 / 20)
    assert (head_cell["role"], head_cell["clean_token"], head_cell["corrupted_token"]) == ("flip", "5", "6")
    resid_cell = frame.filter(pair_id="p1", component="resid_pre", layer=1, position=7).row(0, named=True)
    assert (resid_cell["head"], resid_cell["logit_diff"], resid_cell["rank_diff"]) == (None, 2.0, -1)
    assert (resid_cell["log_prob_diff"], resid_cell["prob_diff"]) == (2.25, 0.02)
    assert (resid_cell["ld_clean"], resid_cell["ld_corrupted"]) == (10.0, -10.0)
    assert patching_frame([]).equals(pl.DataFrame(schema=module.FRAME_SCHEMA))
