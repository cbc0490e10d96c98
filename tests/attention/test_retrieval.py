"""Retrieval scores against heads that are known to copy, and the needle tests themselves."""

import pytest
import torch

from r2a_core.attention.retrieval import (
    NeedleRecorder,
    NeedleTest,
    question_tests,
    retrieval_scores,
    sentence_tests,
    sequence_tests,
)
from r2a_core.config import NeedleParams
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments
from tests.attention.cases import pointing


def test_retrieval_hits_by_hand():
    #        0  1  2  3  4  5 |6  7  8   prompt of 6 tokens with needle 2..3, then three generated tokens
    ids = torch.tensor([9, 7, 1, 2, 5, 6, 1, 2, 4])
    recorder = NeedleRecorder(ids, rows=range(5, 8), needle=range(2, 4))
    recorder.attention(*pointing(9, {5: 2, 6: 3, 7: 2}))  # third step looks at 1 but generates 4
    assert recorder.hits[0].tolist() == [2]
    outside = NeedleRecorder(torch.tensor([1, 2, 1, 2, 5, 6, 1, 2, 4]), rows=range(5, 8), needle=range(2, 4))
    outside.attention(*pointing(9, {5: 0, 6: 1, 7: 0}))  # the right tokens, but not in the needle
    assert outside.hits[0].tolist() == [0]


def test_retrieval_scores_average_over_tests(tiny_model):
    model = tiny_model("llama")
    params = NeedleParams(needle="sequence", tests=3, context=60, needle_tokens=8, seed=0)
    tests = sequence_tests(list(range(3, 64)), 1, params)
    found = retrieval_scores(model, tests)
    alone = [retrieval_scores(model, [test]).heads["retrieval"] for test in tests]
    assert found.heads["retrieval"].to_list() == pytest.approx([sum(s) / 3 for s in zip(*alone, strict=True)])
    assert found.heads.select("layer", "head").rows() == [(layer, head) for layer in (0, 1) for head in range(6)]
    assert 0 <= found.copied <= 1
    given = NeedleTest((1, 5, 6, 7, 8), range(1, 4), 2, continuation=(5, 40))  # in place of what is generated
    assert retrieval_scores(model, [given]).copied == pytest.approx(0.5)
    with pytest.raises(R2AError, match="has no tests"):
        retrieval_scores(model, [])


def test_sequence_tests_hide_a_needle_found_nowhere_else():
    params = NeedleParams(needle="sequence", tests=6, context=50, needle_tokens=12, seed=1)
    for test in sequence_tests(list(range(10, 90)), 1, params):
        ids, needle = test.token_ids, test.token_ids[test.needle.start : test.needle.stop]
        assert len(set(needle)) == 12
        assert ids[-2:] == needle[:2]
        assert ids[0] == 1
        assert test.steps == 10
        rest = ids[: test.needle.start] + ids[test.needle.stop : -2]
        assert not set(rest) & set(needle)
    assert len(ids) == 51


def test_sentence_tests_hide_the_fact_that_the_question_asks_for():
    class Letters:
        def encode(self, text, add_special_tokens):
            return [ord(letter) for letter in text]

    config = NeedleParams(needle="sentence", tests=5, context=900, needle_tokens=3, seed=2)
    for number, test in enumerate(sentence_tests(Letters(), None, config)):
        text = "".join(map(chr, test.token_ids))
        fact = text[test.needle.start : test.needle.stop]
        assert text[: test.needle.start].endswith(" is")
        assert text.count(text[: test.needle.start].rsplit(". ", 1)[-1]) == 2
        assert len(fact.split()) == 3
        assert text.endswith(" is")
        assert test.steps == len(fact)
        assert len(text) <= max(180 * (number + 1), 200)


def test_question_tests_take_query_and_reasoning_of_traces():
    segments = TraceSegments(think_open=3, think_close=7, n_tokens=10)
    empty = TraceSegments(think_open=3, think_close=4, n_tokens=10)
    ids = list(range(50, 60))
    assert question_tests([(ids, empty), (ids, segments), (ids, segments)], 1) == [
        NeedleTest((50, 51, 52, 53), range(1, 3), 3, (54, 55, 56))
    ]
