"""Induction scores against heads that are known to copy and against eager attention."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from r2a_core.attention.induction import InductionRecorder, induction_scores, ordinary_tokens
from r2a_core.config import InductionParams
from r2a_core.infra.errors import R2AError
from tests.attention.cases import eager_patterns, pointing


def test_a_perfect_induction_head_by_hand():
    tokens = torch.tensor([9, 1, 2, 3, 1, 2, 3])  # BOS and a period of 3
    recorder = InductionRecorder(tokens, first=4, period=3, offset={}, match={})
    recorder.attention(*pointing(7, {4: 2, 5: 3, 6: 4}))
    assert recorder.offset[0].tolist() == pytest.approx([1.0])
    assert recorder.match[0].tolist() == pytest.approx([3 / 7])  # 3 of 7 rows; the others look at themselves
    shifted = InductionRecorder(tokens, first=4, period=3, offset={}, match={})
    shifted.attention(*pointing(7, {4: 1, 5: 2, 6: 3}))
    assert shifted.offset[0].tolist() == pytest.approx([0.0], abs=1e-6)
    assert shifted.match[0].tolist() == pytest.approx([0.0], abs=1e-6)


def test_induction_scores_equal_eager_attention(tiny_model):
    model = tiny_model("gemma2")
    config = InductionParams(sequences=1, period=20, seed=3)
    found = induction_scores(model, list(range(3, 64)), 1, config)
    again = induction_scores(model, list(range(3, 64)), 1, config)
    assert found.equals(again)
    generator = np.random.default_rng(3)
    repeat = generator.choice(range(3, 64), 20, replace=False).tolist()
    tokens = torch.tensor([1, *repeat, *repeat])
    patterns = eager_patterns(model, tokens.tolist())
    rows = torch.arange(21, 41)
    expected = patterns[:, :, rows, rows - 19].mean(-1).flatten()
    assert found["induction"].to_list() == pytest.approx(expected.tolist(), abs=1e-5)
    duplicate = (tokens[:, None] == tokens[None]).float().tril(-1)
    detection = torch.cat([torch.zeros(41, 1), duplicate[:, :-1]], dim=1).tril()
    expected = ((patterns * detection).sum((2, 3)) / patterns.sum((2, 3))).flatten()
    assert found["induction_match"].to_list() == pytest.approx(expected.tolist(), abs=1e-5)


def test_ordinary_tokens_leave_out_tags_and_must_suffice_for_a_period(tiny_model):
    with pytest.raises(R2AError, match="a period of 20 tokens needs as many ordinary tokens, found 5"):
        induction_scores(tiny_model("llama"), [1, 2, 3, 4, 5], None, InductionParams(sequences=1, period=20, seed=0))
    tokenizer = SimpleNamespace(
        get_added_vocab=lambda: {"<think>": 3},
        all_special_ids=[0],
        get_vocab=lambda: {"<s>": 0, "b": 2, "a": 1, "<think>": 3, "c": 4, "d": 5},
    )
    assert ordinary_tokens(tokenizer, n_embeddings=5) == [1, 2, 4]
