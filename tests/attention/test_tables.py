"""The attention and sentence tables: schema, sums, order, from disk and from a forward pass, and of published texts."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from r2a_core.activations.capture import capture_trace
from r2a_core.attention.tables import (
    ATTENTION_SCHEMA,
    SENTENCE_SCHEMA,
    concat_tables,
    copied_share,
    tables_from_activations,
    tables_in_forward,
)
from r2a_core.tokenizer import token_pieces
from r2a_core.trace import SEGMENTS, TokenTrace, TraceSegments
from tests.attention.cases import IDS, THOUGHT, eager_patterns
from tests.attention.cases import SEGMENTS as BOUNDS
from tests.small_models import EVERY_KIND, kept, stored_reader

PHRASES = ("wait", "alternatively")
PIECES = [*THOUGHT, *"nopqrstuv", "</s>"]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_forward_pass_gives_what_stored_activations_give(tiny_model, kind):
    """6 query heads share 2 KV heads; with windows, softcap and sinks too."""
    trace = capture_trace(tiny_model(kind), IDS, BOUNDS, kept("answer_and_reasoning"))
    stored = tables_from_activations("x", trace, PIECES, PHRASES)
    live = tables_in_forward(tiny_model(kind), TokenTrace("x", tuple(IDS), BOUNDS), PIECES, PHRASES)
    for found, expected in ((live.attention, stored.attention), (live.sentences, stored.sentences)):
        assert_frame_equal(found, expected, check_exact=False, rel_tol=0, abs_tol=1e-5)


@pytest.fixture
def frames(tiny_model, tmp_path):
    """Tables of two traces of a tiny model, in two shards."""
    trace = capture_trace(tiny_model("qwen2"), IDS, BOUNDS, kept("answer_and_reasoning"))
    stored = stored_reader(tmp_path, *([trace.record(item_id, IDS)] for item_id in ("b", "a")))
    return concat_tables(tables_from_activations(trace.item_id, trace, PIECES, PHRASES) for trace in stored)


def test_frames_have_their_schema_and_order(frames):
    assert dict(frames.attention.schema) == ATTENTION_SCHEMA
    assert dict(frames.sentences.schema) == SENTENCE_SCHEMA
    keys = list(frames.attention.select("item_id", "layer", "head", "source").iter_rows())
    assert keys == [(i, la, h, s) for i in "ba" for la in (0, 1) for h in range(6) for s in ("answer", "reasoning")]
    np.testing.assert_allclose(frames.attention.select(pl.sum_horizontal(SEGMENTS)), 1.0, atol=1e-5)
    counts = frames.attention.group_by("source", maintain_order=True).agg(pl.col("n_source_tokens").unique())
    assert counts.rows() == [("answer", [9]), ("reasoning", [15])]
    answers = frames.attention.filter(source="answer")
    assert answers["centroid"].list.len().unique().to_list() == [9]
    assert answers["walk_correlation"].is_between(-1, 1).all()
    assert answers["uniformity"].is_between(1 / 15, 1).all()
    by_row = answers.select(pl.col("row_mass").list.mean() - pl.col("reasoning")).to_series()
    assert by_row.abs().max() < 1e-6  # type: ignore[operator]
    assert answers["walk_correlation_weighted"].is_between(-1, 1).all()
    assert answers["walk_p"].is_between(1 / 9 - 1e-6, 1).all()
    assert answers["effective_rows"].is_between(1, 9 + 1e-5).all()
    walk_columns = [name for name in ATTENTION_SCHEMA if name.startswith("walk_")]
    walk_columns += ["focus", "effective_rows", "row_mass", "centroid", "spread", "uniformity"]
    assert set(frames.attention.filter(source="reasoning").select(walk_columns).null_count().row(0)) == {24}


def test_sentences_share_out_the_mass_on_the_reasoning_and_reflection_is_that_of_its_tokens(frames, tiny_model):
    by_head = frames.sentences.group_by("item_id", "layer", "head", maintain_order=True).agg(pl.col("mass").sum())
    answers = frames.attention.filter(source="answer").join(by_head, on=["item_id", "layer", "head"])
    np.testing.assert_allclose(answers["mass"], answers["reasoning"], atol=1e-6)
    first = frames.sentences.filter(item_id="b", layer=0, head=0).select("start", "end", "text", "reflection")
    assert first.rows() == [
        (7, 12, "\nabc.", False),
        (12, 16, " Wait de.\n", True),
        (16, 20, "fgh.", False),
        (20, 22, " k\n", False),
    ]
    patterns = eager_patterns(tiny_model("qwen2"), IDS)
    for source, rows in (("answer", BOUNDS.answer), ("reasoning", BOUNDS.reasoning)):
        expected = patterns[:, :, rows.start : rows.stop, 12].mean(-1).flatten()
        found = frames.attention.filter(source=source, item_id="a")["reflection"]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("reasoning", "answer", "expected"),
    [
        ("abcdefghijkl.", "abcdefgh xy.", 8 / 12),
        ("abcdefghijkl.", "abcdefg xyz.", 0),  # a run of 7
        ("abcdefgh ijklmnop.", "abcdefghijklmnop", 1),  # two runs, one after the other
        ("abcdefghijkl.", "xyzuv.\nbcdefghij = \\boxed{a}.", 0),  # the result is left out
        ("abcdefghijkl.", "So \\boxed{a}.", None),
        ("", "abcdefghijkl.", 0),
    ],
)
def test_copied_share_by_hand(reasoning, answer, expected):
    """One token a character."""
    pieces = ["<s>", "<think>", *reasoning, "</think>", *answer, "</s>"]
    bounds = TraceSegments(think_open=1, think_close=2 + len(reasoning), n_tokens=len(pieces))
    assert copied_share(bounds, pieces) == (None if expected is None else pytest.approx(expected))


def test_without_reasoning_or_its_rows_there_are_answer_rows_only(tiny_model):
    bounds = TraceSegments(think_open=6, think_close=7, n_tokens=33)
    trace = capture_trace(tiny_model("qwen2"), IDS, bounds, kept("answer_and_reasoning", layers=(1,)))
    pieces = [*"abcdef", "<think>", "</think>", *"ghijklmnopqrstuvwxyzabcd", "</s>"]
    frames = tables_from_activations("x", trace, pieces, PHRASES)
    assert frames.attention["source"].unique().to_list() == ["answer"]
    assert frames.attention["layer"].unique().to_list() == [1]
    assert frames.attention["reasoning"].to_list() == [0.0] * 6
    assert frames.attention["centroid"].null_count() == 6
    assert frames.sentences.is_empty()
    answers = capture_trace(tiny_model("llama"), IDS, BOUNDS, kept("answer"))
    frames = tables_from_activations("x", answers, PIECES, PHRASES)
    assert frames.attention["source"].unique().to_list() == ["answer"]
    assert frames.attention["centroid"].null_count() == 0


def test_published_texts_pass_through(reference, tiny_model, byte_tokenizer):
    texts = pl.read_parquet(reference / "math500_greedy_traces.parquet").filter(setting="with_reasoning")
    size = pl.col("response").str.len_bytes()
    odd = texts.with_columns(beyond=size - pl.col("response").str.len_chars()).filter(size < 6000)
    config = kept("answer_and_reasoning", "bfloat16", (0,))
    for text in odd.sort("beyond", descending=True)["response"].head(3):
        think, answer = (byte_tokenizer.encode(part) for part in text.split("</think>"))
        ids = [0, 1, 2, *think, 3, *answer, 4]
        bounds = TraceSegments(2, 3 + len(think), len(ids))
        pieces = token_pieces(byte_tokenizer, ids)
        assert "".join(pieces[3 : bounds.think_close]) == text.split("</think>")[0]
        trace = capture_trace(tiny_model("qwen2"), [token % 64 for token in ids], bounds, config)
        frames = tables_from_activations("x", trace, pieces, PHRASES)
        np.testing.assert_allclose(frames.attention.select(pl.sum_horizontal(SEGMENTS)), 1.0, atol=1e-5)
        sentences = frames.sentences.filter(head=0)
        assert "".join(sentences["text"]) == text.split("</think>")[0]
        assert sentences["start"].to_list() == [3, *sentences["end"].to_list()[:-1]]
        assert sentences["reflection"].any() == any(word in text.lower() for word in ("wait", "alternatively"))
