"""Links of answer tokens against a full attention matrix."""

import numpy as np
import pytest
import torch

from r2a_core.activations.capture import capture_trace
from r2a_core.attention.maps import LINK_SCHEMA, HeadGroup, link_rows, strongest_links
from r2a_core.config import CaptureConfig
from r2a_core.trace import TraceSegments

SEGMENTS = TraceSegments(think_open=6, think_close=22, n_tokens=33)


@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])
def test_links_equal_eager_attention(tiny_model, kind):
    model = tiny_model(kind)
    ids = torch.randint(1, 64, (33,), generator=torch.Generator().manual_seed(5)).tolist()
    trace = capture_trace(
        model,
        ids,
        SEGMENTS,
        CaptureConfig(
            rows="answer", dtype="float32", layers=None, residual_layers=(), z_layers=(), stream_rows="answer"
        ),
    )
    with torch.no_grad():
        pattern = torch.stack(model(input_ids=torch.tensor([ids]), output_attentions=True).attentions)[:, 0].numpy()
    views = [
        HeadGroup("head", ((1, 4),)),
        HeadGroup("rfh_mean", ((0, 2), (1, 5))),
        HeadGroup("head_mean", tuple(np.ndindex(2, 6))),
    ]
    expected = [pattern[1, 4], (pattern[0, 2] + pattern[1, 5]) / 2, pattern.mean(axis=(0, 1))]
    rows = link_rows("i", trace, views, 3, "cpu")
    assert [row["kind"] for row in rows] == ["head"] * 9 + ["rfh_mean"] * 9 + ["head_mean"] * 9
    assert set(rows[0]) == set(LINK_SCHEMA)
    for number, row in enumerate(rows):
        place = 23 + number % 9
        weights = expected[number // 9][place, 7:22]
        best = sorted(range(15), key=lambda token: (-weights[token], token))[:3]
        assert row["row"] == place
        assert row["tokens"] == [7 + token for token in best]
        assert row["weights"] == pytest.approx(weights[best].tolist(), abs=1e-5)
        assert row["reasoning"] == pytest.approx(weights.sum(), abs=1e-5)
        assert row["outside"] == pytest.approx(weights.sum() - weights[best].sum(), abs=1e-5)


def test_ties_go_to_the_earlier_token_and_a_short_reasoning_is_whole():
    (link,) = strongest_links(np.array([[0.25, 0.5, 0.25]], np.float32), 10, 2)
    assert link == {"tokens": [11, 10], "weights": [0.5, 0.25], "reasoning": 1.0, "outside": 0.25}
    (whole,) = strongest_links(np.array([[0.1, 0.2]], np.float32), 4, 8)
    assert whole["tokens"] == [5, 4]
    assert whole["outside"] == 0.0
