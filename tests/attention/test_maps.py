"""Maps and spans against eager attention, and the defaults on cases that can be checked by eye."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.activations.capture import capture_trace
from r2a_core.activations.store import ActivationReader, shard_name, write_index, write_shard
from r2a_core.attention import maps as module
from r2a_core.attention.heads import rank_heads
from r2a_core.attention.map_selection import (
    ShownMaps,
    Span,
    choose_traces,
    default_span,
    ranked_heads,
    shown_heads,
    span_of_text,
)
from r2a_core.attention.maps import MAP_SCHEMA, SPAN_SCHEMA, TOKEN_SCHEMA, attention_maps, first_tokens
from r2a_core.attention.tables import attention_statistics
from r2a_core.config import CaptureConfig, WalkThresholds
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments

SEGMENTS = TraceSegments(think_open=6, think_close=22, n_tokens=33)
REASONING = ["\n", *"abc", ".", " Wait", " d", "e", ".\n", *"fgh", ".", " k", "\n"]
PIECES = [
    "<s>",
    *"qqqqq",
    "<think>",
    *REASONING,
    "</think>",
    "So",
    " \\",
    "boxed",
    "{",
    "1",
    "7",
    "}",
    ".",
    "!",
    "</s>",
]
PHRASES = ("wait",)


def shown(heads: pl.DataFrame, items: Sequence[str], single: Any = ((0, 0),), spans: Any = ()) -> ShownMaps:
    """These heads, items and spans, with the mean of the first three heads by rank."""
    return ShownMaps(single, tuple(ranked_heads(heads)[:3]), tuple(items), spans)


@pytest.fixture(params=["qwen2", "gemma2", "gpt_oss"])
def case(request, tiny_model, tmp_path):
    """Reader over two traces, their token texts, their ranked heads and their eager patterns."""
    model, patterns = tiny_model(request.param), {}
    capture = CaptureConfig(
        rows="answer_and_reasoning", dtype="float32", layers=None, residual_layers=(), z_layers=(), stream_rows="answer"
    )
    traces = []
    for seed, item_id in enumerate(("a", "b")):
        ids = torch.randint(1, 64, (33,), generator=torch.Generator().manual_seed(seed)).tolist()
        traces.append((item_id, capture_trace(model, ids, SEGMENTS, capture)))
        with torch.no_grad():
            attentions = model(input_ids=torch.tensor([ids]), output_attentions=True).attentions
        patterns[item_id] = torch.stack(attentions)[:, 0].numpy()
    write_shard(tmp_path / shard_name(0), traces, "print")
    write_index(tmp_path / "index.parquet", [tmp_path / shard_name(0)])
    reader, pieces = ActivationReader(tmp_path), {"a": PIECES, "b": PIECES}
    attention = attention_statistics(reader, pieces, PHRASES).attention
    zeros = attention.select("layer", "head").unique(maintain_order=True)
    scores = zeros.with_columns(induction=0.0, induction_match=0.0), zeros.with_columns(retrieval=0.0)
    heads = rank_heads({"d": attention}, *scores, top=3)
    return reader, pieces, heads, patterns


def test_whole_maps_equal_eager_attention(case, monkeypatch):
    reader, pieces, heads, patterns = case
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 33 * 4)
    frames = attention_maps(reader, pieces, shown(heads, ("b",), ((1, 4), (0, 0))), 512, PHRASES)
    assert dict(frames.maps.schema) == MAP_SCHEMA
    assert frames.maps["kind"].to_list() == ["head", "head", "rfh_mean", "head_mean"]
    rfh = ranked_heads(heads)[:3]
    expected = [
        patterns["b"][1, 4],
        patterns["b"][0, 0],
        np.mean([patterns["b"][head] for head in rfh], axis=0),
        patterns["b"].mean(axis=(0, 1)),
    ]
    for row, pattern in zip(frames.maps.iter_rows(named=True), expected, strict=True):
        assert row["row_token"] == list(range(7, 32))
        assert row["col_token"] == list(range(32))
        found = np.array(row["pattern"]).reshape(25, 32)
        np.testing.assert_allclose(found, pattern[7:32, :32], atol=1e-5)


def test_pooled_maps_keep_the_maximum_of_each_cell(case, monkeypatch):
    reader, pieces, heads, patterns = case
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 33 * 7)
    frames = attention_maps(reader, pieces, shown(heads, ("a",), ((1, 2),)), 12, PHRASES)
    row = frames.maps.row(0, named=True)
    rows, columns = [*row["row_token"], 32], [*row["col_token"], 32]
    assert len(rows) <= 13
    assert len(columns) <= 13
    found = np.array(row["pattern"]).reshape(len(rows) - 1, len(columns) - 1)
    for (i, j), value in np.ndenumerate(found):
        cell = patterns["a"][1, 2, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        assert value == pytest.approx(cell.max(), abs=1e-5)


def test_spans_and_tokens(case):
    reader, pieces, heads, patterns = case
    chosen = shown(heads, ("a", "b"), ((0, 3),), (Span("b", 8, 11),))
    frames = attention_maps(reader, pieces, chosen, 512, PHRASES)
    assert dict(frames.spans.schema) == SPAN_SCHEMA
    assert dict(frames.tokens.schema) == TOKEN_SCHEMA
    assert frames.tokens.row(1) == ("b", PIECES, 6, 22, 33, [12])
    spans = frames.spans.filter(kind="head").select("item_id", "span_start", "span_end").rows()
    assert spans == [("a", 27, 29), ("b", 8, 11)]
    for kind, heads_of in (("head", (0, 3)), ("head_mean", (slice(None), slice(None)))):
        for item_id, rows in (("a", slice(27, 29)), ("b", slice(8, 11))):
            expected = patterns[item_id][heads_of].reshape(-1, 33, 33)[:, rows].mean(axis=(0, 1))
            found = frames.spans.filter(kind=kind, item_id=item_id)["weights"][0]
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"items": ("a",), "single": ((2, 0),)}, "layer 2, head 0 was not captured"),
        ({"items": ("q",)}, "has no trace 'q'"),
        ({"items": ("a",), "spans": (Span("a", 3, 9),)}, r"the span 3\.\.9 of 'a' is not within 7\.\.32"),
        ({"items": ("a",), "spans": (Span("a", 30, 33),)}, "is not within"),
        ({"items": ("a",), "spans": (Span("a", 30, 30),)}, "is not within"),
    ],
)
def test_choices_that_do_not_exist_are_named(case, changes, says):
    reader, pieces, heads, _ = case
    with pytest.raises(R2AError, match=says):
        attention_maps(reader, pieces, shown(heads, **changes), 512, PHRASES)


@pytest.mark.parametrize("cells", [8, 12, 20, 512])
@pytest.mark.parametrize("start", [0, 7, 23])
def test_cells_do_not_cross_segment_borders(cells, start):
    found = first_tokens(SEGMENTS, range(start, 32), cells).tolist()
    assert len(found) <= cells
    assert found[0] == start
    assert {bound for bound in (1, 6, 7, 22, 23) if bound >= start} <= set(found)
    if cells == 512:
        assert found == list(range(start, 32))


def test_representative_traces_reflect_and_lie_near_the_median():
    masses = {"a": 0.1, "b": 0.5, "c": 0.52, "d": 0.9, "e": 0.6}
    rows = [(i, 0, 0, "answer", m, 0.0 if i == "b" else 0.1) for i, m in masses.items()]
    rows += [(i, 0, 1, "answer", 0.5, 0.0) for i in masses]
    columns = {"item_id": pl.String, "layer": pl.Int16, "head": pl.Int16, "source": pl.String}
    attention = pl.DataFrame(rows, schema={**columns, "reasoning": pl.Float32, "reflection": pl.Float32}, orient="row")
    assert choose_traces(attention, [(0, 0)], 3) == ["c", "e", "d"]
    assert choose_traces(attention, [(0, 0)], 9) == ["c", "e", "d", "a", "b"]


def test_without_a_box_the_last_sentence_is_the_span():
    pieces = [*PIECES[:23], "It", " is", ".", " Yes", " it", ".", "\n", "x", " y", "</s>"]
    assert default_span("i", SEGMENTS, pieces) == Span("i", 30, 32)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [(" Wait d", (12, 14)), ("d", (25, 26)), ("boxed{1", (25, 28)), ("7", (28, 29)), (".", (30, 31))],
)
def test_a_text_is_found_where_it_stands_last(text, tokens):
    found = span_of_text("a", PIECES, text)
    assert (found.start, found.end) == tokens


@pytest.mark.parametrize("text", ["never said", ""])
def test_a_text_that_is_not_in_the_trace_is_refused(text):
    with pytest.raises(R2AError, match="does not hold the text"):
        span_of_text("a", PIECES, text)


@pytest.mark.parametrize(
    ("mass", "correlation", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.65], [0.1, 0.2, 0.75, 0.9], ((0, 0), (2, 0))),  # layer 2 walks; layer 3 is too late
        ([0.9, 0.8, 0.59, 0.1], [0.1, 0.2, 0.99, 0.9], ((0, 0),)),  # too little mass: no head walks
        ([0.7, 0.9, 0.5, 0.1], [0.1, 0.8, None, 0.9], ((1, 0),)),  # the first head is the one that walks
    ],
)
def test_a_walking_head_is_shown_beside_the_first_ones(mass, correlation, expected):
    order = sorted(range(4), key=lambda layer: -mass[layer])
    heads = pl.DataFrame(
        {
            "layer": [0, 1, 2, 3],
            "head": [0] * 4,
            "rank": [order.index(layer) + 1 for layer in range(4)],
            "answer_to_reasoning": mass,
            "walk_correlation": correlation,
        }
    )
    assert shown_heads(heads, 1, WalkThresholds(mass=0.6, correlation=0.7)) == expected
