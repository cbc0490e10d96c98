"""Sentence matrices against whole attention matrices, and scores of matrices written down."""

import numpy as np
import pytest
import torch

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.sentences.receivers import excess_kurtosis, receivers, row_ranks, sentence_matrix, vertical_scores

SENTENCES = (range(4, 9), range(9, 10), range(10, 17), range(17, 22))
NO_NUMBERS = np.random.default_rng(0)


@pytest.mark.parametrize("window", [None, 6])
def test_a_sentence_matrix_is_the_mean_of_the_whole_matrix_over_its_blocks(window: int | None) -> None:
    torch.manual_seed(0)
    queries, keys = torch.randn(6, 20, 8), torch.randn(2, 26, 8)  # the first row is token 4
    layer = LayerAttention(0, 6, 2, 8, 0.5, window=window)
    row, key = torch.arange(4, 24)[:, None], torch.arange(26)
    seen = (key <= row) & (row - key < (window or 26))
    logits = 0.5 * queries.double() @ keys.double().repeat_interleave(3, 0).transpose(1, 2)
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    expected = [
        [weights[:, s.start - 4 : s.stop - 4, t.start : t.stop].mean((1, 2)) for t in SENTENCES] for s in SENTENCES
    ]
    found = sentence_matrix(queries, keys, 4, layer, SENTENCES)
    whole = torch.stack([torch.stack(each, -1) for each in expected], 1)
    np.testing.assert_allclose(found, whole.numpy(), atol=1e-6)


def test_scores_ranks_and_kurtosis_are_those_worked_out_by_hand() -> None:
    matrix = np.array([[9, 9, 9, 9], [0.5, 9, 9, 9], [0.2, 0.4, 9, 9], [0.2, 0.6, 0.1, 9]])
    assert vertical_scores(matrix, 1) == pytest.approx([0.3, 0.5, 0.1])
    assert vertical_scores(matrix, 2) == pytest.approx([0.2, 0.6])
    ranks = row_ranks(matrix[None], 1)[0]
    assert ranks[1:, :3].tolist() == [[0.5, 0, 0], [0.25, 0.75, 0], [0.5, pytest.approx(5 / 6), pytest.approx(1 / 6)]]
    assert excess_kurtosis(np.array([0.0, 0.0, 0.0, 4.0])) == pytest.approx(21 / 9 - 3)
    assert np.isnan(excess_kurtosis(np.ones(4)))


def test_a_head_that_gathers_on_one_sentence_is_found_and_short_traces_are_left_out() -> None:
    n = 24
    matrix = np.random.default_rng(1).random((2, n, n))
    matrix[1, :, 5] = 4  # the other columns are noise
    found = receivers(matrix, 2, 4, 50, np.random.default_rng(0))
    most = n - 2 - 5 + 1 / (n - 3)
    assert most - 1.5 < found.kurtosis[1] < most
    assert found.ranked[1] > found.chance[1] + 0.5
    assert abs(found.ranked[0] - found.chance[0]) < 1
    spread = vertical_scores(matrix, 2)[:, [1, 8, 14, 21]]  # of the sentences after the first
    assert found.matched == pytest.approx(excess_kurtosis(spread))
    assert np.isnan(receivers(matrix[:, :6, :6], 2, 4, 5, NO_NUMBERS).matched).all()
    short = receivers(matrix[:, :5, :5], 2, 4, 5, NO_NUMBERS)
    assert all(np.isnan(values).all() for values in vars(short).values())
