"""Rankings by hand and on the published data; induction and retrieval against models that are known to copy."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core import paper
from r2a_core.activations.attention import LayerAttention
from r2a_core.attention.heads import HEAD_SCHEMA, rank_heads
from r2a_core.attention.induction import InductionRecorder, induction_scores, ordinary_tokens
from r2a_core.attention.retrieval import (
    NeedleRecorder,
    NeedleTest,
    question_tests,
    retrieval_scores,
    sentence_tests,
    sequence_tests,
)
from r2a_core.attention.tables import ATTENTION_SCHEMA
from r2a_core.config import InductionParams, NeedleParams
from r2a_core.infra.errors import R2AError
from r2a_core.results import head_sets
from r2a_core.trace import TraceSegments

STEPS = 65535  # of the published masses


def no_scores(attention: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    heads = attention.select("layer", "head").unique(maintain_order=True)
    zero = pl.lit(0.0)
    return heads.with_columns(induction=zero, induction_match=zero), heads.with_columns(retrieval=zero)


@pytest.mark.parametrize("model", ["r1_llama_8b", "r1_qwen_7b"])
def test_the_published_masses_give_the_papers_heads(published, model):
    masses = published("head_masses").filter(pl.col("model") == model).explode("reasoning")
    trace, mass = pl.int_range(pl.len()).over("layer", "head").cast(pl.String), pl.col("reasoning") / STEPS
    attention = with_nulls(masses.with_columns(item_id=trace, source=pl.lit("answer"), reasoning=mass))
    heads = rank_heads({"math500": attention}, *no_scores(attention), top=10)
    assert set(heads["n_traces"]) == {100}
    assert head_sets(heads, 10).rfh == paper.REASONING_FOCUS_HEADS[model]
    assert heads["answer_to_reasoning"].max() == pytest.approx(paper.FIRST_HEAD_MASS[model], abs=5e-4)
    assert heads["top10_count"].sum() == 1000


def with_nulls(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in ATTENTION_SCHEMA; columns they lack are null."""
    absent = [pl.lit(None, kind).alias(name) for name, kind in ATTENTION_SCHEMA.items() if name not in rows.columns]
    return rows.with_columns(absent).select(list(ATTENTION_SCHEMA)).cast(ATTENTION_SCHEMA)  # type: ignore[arg-type]


def attention_rows(values: dict[str, list[float]]) -> pl.DataFrame:
    """Answer rows of 1 layer and as many heads as there are values of a trace."""
    rows = [
        {"item_id": item, "layer": 0, "head": head, "source": "answer", "reasoning": mass, "uniform_share": 0.25}
        for item, masses in values.items()
        for head, mass in enumerate(masses)
    ]
    return with_nulls(pl.DataFrame(rows))


def test_rankings_by_hand():
    attention = attention_rows({"a": [0.9, 0.5, 0.1], "b": [0.0, 0.25, 0.125], "c": [0.0, 0.25, 0.125]})
    induction, retrieval = no_scores(attention)
    induction = induction.with_columns(induction=pl.Series([0.0, 0.2, 0.4]))
    heads = rank_heads({"d": attention}, induction, retrieval, top=1)
    assert dict(heads.schema) == HEAD_SCHEMA
    assert heads["answer_to_reasoning"].to_list() == pytest.approx([0.3, 1 / 3, 0.35 / 3])
    assert heads["rank"].to_list() == [2, 1, 3]
    assert heads["top10_count"].to_list() == [1, 2, 0]
    assert heads["count_rank"].to_list() == [2, 1, 3]
    assert heads["above_uniform"].to_list() == pytest.approx([0.05, 1 / 3 - 0.25, 0.35 / 3 - 0.25])
    sets = head_sets(heads, 2)
    assert sets.rfh == sets.rfh_by_count == ((0, 1), (0, 0))
    assert sets.induction == ((0, 2), (0, 1))
    assert sets.retrieval == ()
    assert sets.overlaps()["rfh_and_induction"] == 1
    assert sets.overlaps()["induction_and_retrieval"] == 0


def test_equal_heads_rank_by_layer_and_head():
    attention = attention_rows({"a": [0.5, 0.5, 0.5]})
    heads = rank_heads({"d": attention, "e": attention}, *no_scores(attention), top=2)
    assert heads["rank"].to_list() == [1, 2, 3] * 2
    assert heads["top10_count"].to_list() == [1, 1, 0] * 2
    assert heads["dataset"].to_list() == ["d"] * 3 + ["e"] * 3


def test_scores_of_another_model_are_refused():
    attention = attention_rows({"a": [0.5, 0.4]})
    induction, retrieval = no_scores(attention_rows({"a": [0.5]}))
    with pytest.raises(R2AError, match="layer 0, head 1 has no induction or retrieval score"):
        rank_heads({"d": attention}, induction, retrieval)


def pointing(n_tokens: int, targets: dict[int, int], n_heads: int = 1):
    """query, key and layer of heads whose row i looks at token targets[i] alone, and at itself elsewhere."""
    keys = 60 * torch.eye(n_tokens)[None]
    query = torch.eye(n_tokens)[[targets.get(row, row) for row in range(n_tokens)]][None].repeat(n_heads, 1, 1)
    return LayerAttention(0, n_heads, 1, n_tokens, 1.0), query, keys


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
    with torch.no_grad():
        patterns = torch.stack(model(input_ids=tokens[None], output_attentions=True).attentions)[:, 0]
    rows = torch.arange(21, 41)
    expected = patterns[:, :, rows, rows - 19].mean(-1).flatten()
    assert found["induction"].to_list() == pytest.approx(expected.tolist(), abs=1e-5)
    duplicate = (tokens[:, None] == tokens[None]).float().tril(-1)
    detection = torch.cat([torch.zeros(41, 1), duplicate[:, :-1]], dim=1).tril()
    expected = ((patterns * detection).sum((2, 3)) / patterns.sum((2, 3))).flatten()
    assert found["induction_match"].to_list() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_vocabulary_without_room_for_a_period_is_refused(tiny_model):
    with pytest.raises(R2AError, match="a period of 20 tokens needs as many ordinary tokens, found 5"):
        induction_scores(tiny_model("llama"), [1, 2, 3, 4, 5], None, InductionParams(sequences=1, period=20, seed=0))


def test_ordinary_tokens_leave_out_tags():
    tokenizer = SimpleNamespace(
        get_added_vocab=lambda: {"<think>": 3},
        all_special_ids=[0],
        get_vocab=lambda: {"<s>": 0, "b": 2, "a": 1, "<think>": 3, "c": 4, "d": 5},
    )
    assert ordinary_tokens(tokenizer, n_embeddings=5) == [1, 2, 4]


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
    tests = sequence_tests(
        list(range(3, 64)), 1, NeedleParams(needle="sequence", tests=3, context=60, needle_tokens=8, seed=0)
    )
    found = retrieval_scores(model, tests)
    alone = [retrieval_scores(model, [test]).heads["retrieval"] for test in tests]
    assert found.heads["retrieval"].to_list() == pytest.approx([sum(s) / 3 for s in zip(*alone, strict=True)])
    assert found.heads.select("layer", "head").rows() == [(layer, head) for layer in (0, 1) for head in range(6)]
    assert 0 <= found.copied <= 1


def test_given_continuations_are_scored_instead_of_generated_ones(tiny_model):
    test = NeedleTest((1, 5, 6, 7, 8), range(1, 4), 2, continuation=(5, 40))
    assert retrieval_scores(tiny_model("llama"), [test]).copied == pytest.approx(0.5)
    with pytest.raises(R2AError, match="has no tests"):
        retrieval_scores(tiny_model("llama"), [])


def test_sequence_tests_hide_a_needle_found_nowhere_else():
    for test in sequence_tests(
        list(range(10, 90)), 1, NeedleParams(needle="sequence", tests=6, context=50, needle_tokens=12, seed=1)
    ):
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
