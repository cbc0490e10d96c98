"""Maps and spans against eager attention, and the defaults on cases that can be checked by eye."""

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.activations.capture import capture_trace
from r2a_core.attention import map_lines, map_views
from r2a_core.attention import map_selection as selection
from r2a_core.attention import maps as module
from r2a_core.attention.heads import rank_heads
from r2a_core.attention.map_lines import LineWeights, text_lines
from r2a_core.attention.map_links import strongest_links
from r2a_core.attention.map_selection import ShownMaps, Span
from r2a_core.attention.maps import MapTables, attention_maps, first_tokens
from r2a_core.attention.tables import concat_tables, tables_from_activations
from r2a_core.config import HeadsParams, MapParams, WalkThresholds, parse
from r2a_core.infra.errors import R2AError
from r2a_core.results import Head
from r2a_core.trace import TraceSegments
from tests.attention.cases import SEGMENTS, THOUGHT, eager_patterns
from tests.small_models import kept, stored_reader
from tests.study import PARAMS

PIECES = [*THOUGHT, "So", " \\", "boxed", "{", "1", "7", "}", ".", "!", "</s>"]
PHRASES = ("wait",)
WALK = WalkThresholds(mass=0.6, correlation=0.7)


def params(**changes: Any) -> MapParams:
    values = {"heads": {}, "top_heads": 1, "items": {}, "traces": 1, "spans": [], "cells": 512, "links": 3}
    return MapParams.model_validate(values | changes)


@pytest.fixture(params=["qwen2", "gemma2", "gpt_oss"])
def case(request, tiny_model, tmp_path):
    """Maps of what is chosen of two traces, Reasoning-Focus Heads, eager patterns of the traces, and the second."""
    model, patterns = tiny_model(request.param), {}
    traces = []
    for seed, item_id in enumerate(("a", "b")):
        ids = torch.randint(1, 64, (33,), generator=torch.Generator().manual_seed(seed)).tolist()
        traces.append(capture_trace(model, ids, SEGMENTS, kept("answer_and_reasoning")).record(item_id, ids))
        patterns[item_id] = eager_patterns(model, ids).numpy()
    reader, pieces = stored_reader(tmp_path, traces), {"a": PIECES, "b": PIECES}
    attention = concat_tables(tables_from_activations(t.item_id, t, PIECES, PHRASES) for t in reader).attention
    zeros = attention.select("layer", "head").unique(maintain_order=True)
    scores = zeros.with_columns(induction=0.0, induction_match=0.0, retrieval=0.0)
    heads = rank_heads({"d": attention}, scores, parse(HeadsParams, PARAMS["heads"], "heads"))
    rfh = tuple(heads.sort("rank").select("layer", "head").head(3).iter_rows())

    def drawn(items: tuple[str, ...], single: tuple[Head, ...], spans: tuple[Span, ...] = (), **more: Any) -> MapTables:
        chosen = ShownMaps(single, rfh, items, spans)
        return attention_maps(reader, pieces, chosen, params(**more), PHRASES, "cpu")

    return drawn, rfh, patterns, reader.trace("b")


def test_maps_equal_eager_attention_whole_or_the_maximum_of_each_cell(case, monkeypatch):
    drawn, rfh, patterns, _ = case
    monkeypatch.setattr(map_views, "CHUNK_ELEMENTS", 33 * 4)
    frames = drawn(("b",), ((1, 4), (0, 0)))
    assert dict(frames.maps.schema) == module.MAP_SCHEMA
    assert frames.maps["kind"].to_list() == ["head", "head", "rfh_mean", "head_mean"]
    mean = np.mean([patterns["b"][head] for head in rfh], axis=0)
    expected = [patterns["b"][1, 4], patterns["b"][0, 0], mean, patterns["b"].mean(axis=(0, 1))]
    for row, pattern in zip(frames.maps.iter_rows(named=True), expected, strict=True):
        assert row["row_token"] == list(range(7, 32))
        assert row["col_token"] == list(range(32))
        found = np.array(row["pattern"]).reshape(25, 32)
        np.testing.assert_allclose(found, pattern[7:32, :32], atol=1e-5)
    row = drawn(("a",), ((1, 2),), cells=12).maps.row(0, named=True)
    rows, columns = [*row["row_token"], 32], [*row["col_token"], 32]
    assert max(len(rows), len(columns)) <= 13
    found = np.array(row["pattern"]).reshape(len(rows) - 1, len(columns) - 1)
    for (i, j), value in np.ndenumerate(found):
        cell = patterns["a"][1, 2, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
        assert value == pytest.approx(cell.max(), abs=1e-5)


def test_spans_and_tokens(case):
    drawn, _, patterns, _ = case
    frames = drawn(("a", "b"), ((0, 3),), (Span("b", 8, 11),))
    assert dict(frames.spans.schema) == module.SPAN_SCHEMA
    assert dict(frames.tokens.schema) == module.TOKEN_SCHEMA
    assert frames.tokens.row(1) == ("b", PIECES, 6, 22, 33, [12])
    spans = frames.spans.filter(kind="head").select("item_id", "span_start", "span_end").rows()
    assert spans == [("a", 27, 29), ("b", 8, 11)]
    for kind, heads_of in (("head", (0, 3)), ("head_mean", (slice(None), slice(None)))):
        for item_id, rows in (("a", slice(26, 28)), ("b", slice(7, 10))):  # the rows that write the spans
            expected = patterns[item_id][heads_of].reshape(-1, 33, 33)[:, rows].mean(axis=(0, 1))
            found = frames.spans.filter(kind=kind, item_id=item_id)["weights"][0]
            np.testing.assert_allclose(found, expected, atol=1e-5)


def viewed(patterns: np.ndarray, rfh: tuple[Head, ...], single: Head) -> dict[str, np.ndarray]:
    """The eager pattern of each view."""
    mean = np.mean([patterns[head] for head in rfh], axis=0)
    return {"head": patterns[single], "rfh_mean": mean, "head_mean": patterns.mean(axis=(0, 1))}


def test_links_are_the_strongest_tokens_of_each_part_that_a_row_sees(case, monkeypatch):
    drawn, rfh, patterns, _ = case
    monkeypatch.setattr(map_views, "CHUNK_ELEMENTS", 33 * 4)
    links = drawn(("b",), ((1, 4),)).links
    assert dict(links.schema) == module.LINK_SCHEMA
    assert links["row"].unique().to_list() == list(range(7, 32))  # <think>, which writes token 7, was not captured
    parts = {"query": range(1, 6), "reasoning": range(7, 22), "answer": range(23, 32)}
    seeing = sum(max(0, 32 - max(7, tokens.start)) for tokens in parts.values())
    assert links.height == 3 * seeing
    for row in links.iter_rows(named=True):
        weights = viewed(patterns["b"], rfh, (1, 4))[row["kind"]][row["row"]]
        seen = [token for token in parts[row["part"]] if token <= row["row"]]
        best = sorted(seen, key=lambda token: (-weights[token], token))[:3]
        assert row["tokens"] == best
        assert row["weights"] == pytest.approx(weights[best].tolist(), abs=1e-5)
        assert row["mass"] == pytest.approx(weights[seen].sum(), abs=1e-5)


def test_ties_go_to_the_earlier_token_and_what_is_not_seen_is_left_out():
    weights = np.array([[0.25, 0.5, 0.25], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    link = strongest_links(weights, 10, range(10, 13), 2)
    assert link["tokens"] == [[11], [10, 11], [10, 11]]
    link = strongest_links(weights, 10, range(20, 23), 2)
    assert link["tokens"] == [[11, 10], [10, 11], [10, 11]]
    assert link["weights"] == [[0.5, 0.25], [0.0, 0.0], [1.0, 0.0]]
    assert list(link["mass"]) == [1, 0, 1]  # type: ignore[call-overload]


@pytest.mark.parametrize("most", [4, 3])
def test_lines_hold_the_mean_weight_of_a_token_on_a_token(case, monkeypatch, most):
    drawn, rfh, patterns, trace = case
    monkeypatch.setattr(map_views, "CHUNK_ELEMENTS", 33 * 4)
    monkeypatch.setattr(map_lines, "LINES", most)
    frame = drawn(("b",), ((1, 4),)).lines
    assert dict(frame.schema) == module.LINE_SCHEMA
    lines = [range(1, 6), range(7, 16), range(16, 22), range(23, 32)]
    lines = lines if most == 4 else [lines[0], range(7, 22), lines[3]]
    windowed = [layer.window is not None for layer in trace.layers.values()]
    seen = np.tril(np.ones((33, 33)))
    near = seen * np.triu(np.ones((33, 33)), -6)  # of a window of 7 tokens
    evens = [each / each.sum(axis=1, keepdims=True) for each in (seen, near)]
    by_head = {"head": [(1, 4)], "rfh_mean": rfh, "head_mean": [(layer, 0) for layer in range(len(windowed))]}
    for row in frame.iter_rows(named=True):
        assert (row["start"], row["end"]) == ([line.start for line in lines], [line.stop for line in lines])
        assert row["joined"] == (1 if most == 4 else 2)
        pattern = viewed(patterns["b"], rfh, (1, 4))[row["kind"]]
        even = np.mean([evens[windowed[layer]] for layer, _ in by_head[row["kind"]]], axis=0)
        found = (np.array(row[name], float).reshape(len(lines), -1) for name in ("weights", "even"))
        for values, expected in zip(found, (pattern, even), strict=True):
            means = [[expected[a.start : a.stop, b.start : b.stop].mean() for b in lines] for a in lines]
            if expected is pattern:
                means[0] = [np.nan] * len(lines)  # the question was not captured
            np.testing.assert_allclose(values, means, atol=1e-6)
            assert not values[np.array(means) == 0].any()  # lines that are not seen weigh nothing, also by even reading


def test_a_trace_of_white_space_has_no_lines(case):
    *_, trace = case
    views = (map_views.HeadGroup("head", ((0, 0),)),)
    found = LineWeights(trace, views, [" "] * 33)
    found.add(map_views.QueryBlock(range(7, 32), [np.ones((25, 33))]))
    (row,) = found.rows("b")
    assert (row["start"], row["weights"], row["even"]) == ([], [], [])


def test_lines_are_those_of_the_text_and_of_one_line_its_sentences():
    pieces = ["<s>", "How", " much", ".", " Say", "<think>", "\n\n", "a", "\n", " \n", "b", " c", "</think>", "x", "\n"]
    assert text_lines([*pieces, "y", "</s>"], TraceSegments(5, 12, 17)) == (
        [range(1, 4), range(4, 5), range(6, 10), range(10, 12), range(13, 15), range(15, 16)],
        1,
    )


@pytest.mark.parametrize(
    ("items", "single", "spans", "says"),
    [
        (("a",), ((2, 0),), (), "L2.H0 was not captured"),
        (("q",), (), (), "has no trace 'q'"),
        (("a",), (), (Span("a", 3, 9),), r"the span 3\.\.9 of 'a' is not within 8\.\.32"),
        (("a",), (), (Span("a", 30, 30),), "is not within"),
    ],
)
def test_choices_that_do_not_exist_are_named(case, items, single, spans, says):
    with pytest.raises(R2AError, match=says):
        case[0](items, single, spans)


def ranking(mass: list[float], correlation: list[float | None], focus: int = 0) -> pl.DataFrame:
    """One head a layer, ranked by its mass on the reasoning; the first `focus` are Reasoning-Focus Heads."""
    rank = [sorted(mass, reverse=True).index(value) + 1 for value in mass]
    walk = {"walk_correlation_weighted": correlation, "walk_null_95": [0.1] * len(mass)}
    columns = {"answer_to_reasoning": mass, **walk, "rank": rank, "count_rank": rank}
    columns["reasoning_focus"] = [number <= focus for number in rank]
    kinds = dict.fromkeys(("induction_head", "retrieval_head"), [False] * len(mass))
    zeros = {"head": [0] * len(mass), "induction": [0.0] * len(mass), "retrieval": [0.0] * len(mass)}
    return pl.DataFrame({"layer": range(len(mass)), **columns, **kinds, **zeros})


@pytest.mark.parametrize(
    ("mass", "correlation", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.65], [0.1, 0.2, 0.75, 0.9], ((2, 0), (0, 0))),  # layer 2 walks; layer 3 is too late
        ([0.9, 0.8, 0.59, 0.1], [0.1, 0.2, 0.99, 0.9], ((0, 0), (1, 0))),  # too little mass: no head walks
        ([0.7, 0.9, 0.8, 0.1], [0.1, 0.75, 0.9, 0.9], ((2, 0), (1, 0))),  # both walk
    ],
)
def test_walking_heads_are_shown_before_the_first_by_mass(mass, correlation, expected):
    assert selection.default_heads(ranking(mass, correlation), 2, WALK) == expected


def test_params_choose_heads_items_and_spans_in_place_of_the_defaults():
    heads = ranking([0.9, 0.8, 0.7], [None] * 3, focus=2)
    rows = [(item, 0, 0, "answer", mass, 0.0) for item, mass in (("a", 0.1), ("b", 0.2), ("c", 0.9))]
    columns = ["item_id", "layer", "head", "source", "reasoning", "reflection"]
    attention = pl.DataFrame(rows, schema=columns, orient="row").with_columns(pl.col("layer", "head").cast(pl.Int16))
    pieces: dict[str, list[str]] = {"a": PIECES, "b": PIECES, "c": PIECES}

    def selected(**changes: Any) -> ShownMaps:
        return selection.choose_maps(params(**changes), "m", "d", pieces, attention, heads, WALK)

    rfh = ((0, 0), (1, 0))
    assert selected() == ShownMaps(((0, 0),), rfh, ("b",), ())
    heads = ranking([0.9, 0.8, 0.7], [None] * 3)
    assert selected() == ShownMaps(((0, 0),), (), ("b",), ())  # no Reasoning-Focus Head: the first by mass
    heads = ranking([0.9, 0.8, 0.7], [None] * 3, focus=2)
    span = {"model": "m", "dataset": "d", "item_id": "a", "text": " Wait d"}
    other = span | {"dataset": "other", "item_id": "nowhere"}
    chosen = {"heads": {"m": [[2, 0]]}, "items": {"d": ["c"]}, "spans": [span, other]}
    assert selected(**chosen) == ShownMaps(((2, 0),), rfh, ("c", "a"), (Span("a", 12, 14),))
    with pytest.raises(R2AError, match="names the item 'nowhere', of which m has no captured trace on d"):
        selected(spans=[span | {"item_id": "nowhere"}])


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
    assert selection.choose_traces(attention, [(0, 0)], 3) == ["c", "e", "d"]
    assert selection.choose_traces(attention, [(0, 0)], 9) == ["c", "e", "d", "a", "b"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [(" Wait d", (12, 14)), ("d", (25, 26)), ("boxed{1", (25, 28)), ("7", (28, 29)), ("never said", None), ("", None)],
)
def test_a_text_is_found_where_it_stands_last_or_refused(text, tokens):
    if tokens:
        assert selection.span_of_text("a", PIECES, text) == Span("a", *tokens)
        return
    with pytest.raises(R2AError, match="does not hold the text"):
        selection.span_of_text("a", PIECES, text)


def test_without_a_box_the_last_sentence_is_the_span():
    pieces = [*PIECES[:23], "It", " is", ".", " Yes", " it", ".", "\n", "x", " y", "</s>"]
    assert selection.default_span("i", SEGMENTS, pieces) == Span("i", 30, 32)
