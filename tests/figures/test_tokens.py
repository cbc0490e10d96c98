"""Figures 5 and 12: wrapping, folding, odd characters and colours, on spans with known weights."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.figures.tokens import (
    GridText,
    PictureRow,
    SpanAttention,
    TextPiece,
    draw_span_figures,
    fold,
    lay_out,
    span_figure,
    spans_of,
    visible,
)
from r2a_core.paths import StudyPaths

TOKENS = ["<s>", "What", " $x_1^{", " is", "?", "\n", "So", " x", " is", " 3", "."]
MEAN = [0.5, 0.02, 0.04, 0.01, 0.01, 0.02, 0.0, 0.1, 0.1, 0.2, 0.0]


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("a $x_1^{2$ \\frac", "a $x_1^{2$ \\frac"),
        ("a\n\tb", "a\u21b5\u21e5b"),
        ("\u4e2d", "\u20394e2d\u203a"),  # wide
        ("\U0001f600", "\u20391f600\u203a"),  # no glyph
        ("e\u0301", "e\u20390301\u203a"),  # combining
        ("\u05d0", "\u203905d0\u203a"),  # right to left
        ("\u202e\u200b\x07\xa0", "\u2039202e\u203a\u2039200b\u203a\u20390007\u203a\u203900a0\u203a"),
        ("\u00e9\u03c0\u2264\ufffd", "\u00e9\u03c0\u2264\ufffd"),
    ],
)
def test_what_cannot_be_drawn_in_one_cell_shows_its_code(text: str, drawn: str) -> None:
    assert visible(text) == drawn


def test_tokens_wrap_whole_and_lines_end_after_a_break() -> None:
    assert lay_out(["ab", "cde", "fg\n", "", "abcdefghijkl", "m"], width=5) == [
        TextPiece(0, 0, 0, "ab"),
        TextPiece(1, 0, 2, "cde"),
        TextPiece(2, 1, 0, "fg\u21b5"),
        TextPiece(3, 2, 0, ""),
        TextPiece(4, 2, 0, "abcde"),
        TextPiece(4, 3, 0, "fghij"),
        TextPiece(4, 4, 0, "kl"),
        TextPiece(5, 4, 2, "m"),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=30), st.integers(3, 20))
def test_wrapped_text_loses_nothing_and_stays_inside_the_lines(tokens: list[str], width: int) -> None:
    pieces = lay_out(tokens, width)
    assert "".join(piece.text for piece in pieces) == visible("".join(tokens))
    assert [piece.token for piece in pieces] == sorted(piece.token for piece in pieces)
    assert {piece.token for piece in pieces} == set(range(len(tokens)))
    places = [(piece.line, piece.column + offset) for piece in pieces for offset in range(len(piece.text))]
    assert places == sorted(set(places))
    assert all(column < width for _, column in places)


def test_lines_with_little_attention_are_folded() -> None:
    # six lines of one token each; the span is the last one
    weights = np.array([0.4, 0.01, 0.02, 0.3, 0.07, 0.2])
    span = SpanAttention("a", 5, 6, tuple("abcdef"), {"head mean": weights})
    pieces = [TextPiece(token, token, 0, "x") for token in range(6)]
    one = [PictureRow(line, line + 1, shown=True) for line in range(6)]
    assert fold(pieces, span, 2) == [PictureRow(0, 3, shown=False), *one[3:]]  # line 4 alone would make no fold
    assert fold(pieces, span, 1) == [PictureRow(0, 5, shown=False), one[5]]
    assert fold(pieces, span, 6) == one


def spans_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides={"layer": pl.Int16, "head": pl.Int16})


def span_row(
    kind: str, layer: int | None, head: int | None, weights: list[float], start: int = 8, end: int = 10
) -> dict:
    key = {"item_id": "a$_1", "kind": kind, "layer": layer, "head": head}
    return key | {"span_start": start, "span_end": end, "weights": weights}


def three_views() -> list[dict[str, Any]]:
    sharp = [0.1, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.05, 0.03, 0.02, 0.0]
    return [
        span_row("head", 1, 2, sharp),
        span_row("head", 0, 3, sharp[::-1]),
        span_row("rfh_mean", None, None, sharp),
        span_row("head_mean", None, None, MEAN),
    ]


def drawn_lines(axes: Any) -> list[str]:
    return [artist.get_text() for artist in axes.get_children() if isinstance(artist, GridText)]


def test_a_span_has_three_views_in_a_fixed_order_with_the_first_head() -> None:
    (span,) = spans_of(spans_frame(three_views()), {"a$_1": TOKENS})
    assert list(span.views) == ["head mean", "RFH mean", "L1.H2"]
    titles = [axes.get_title("left").split(":")[0] for axes in span_figure("toy", span).axes[:3]]
    assert titles == ["Mean of all heads", "Mean of the Reasoning-Focus Heads", "Head L1.H2"]


def test_colours_text_and_outline_follow_the_weights() -> None:
    (span,) = spans_of(spans_frame(three_views()), {"a$_1": TOKENS})
    axes: Any = span_figure("toy", span).axes[0]
    assert drawn_lines(axes) == ["BOS What $x_1^{ is?\u21b5", "So x is 3"]
    assert not any(artist.get_parse_math() for artist in axes.get_children() if isinstance(artist, GridText))
    colours = axes.collections[0]
    # the largest weight on earlier text is .1 (token 7); BOS (.5) and the span (.1, .2) are on the same scale
    np.testing.assert_allclose(np.asarray(colours.get_array()), np.array(MEAN[:10]) / 0.1)
    lefts = [path.vertices[0].tolist() for path in colours.get_paths()]
    assert lefts == [[0, 0], [4, 0], [8, 0], [15, 0], [18, 0], [19, 0], [0, 1], [2, 1], [4, 1], [7, 1]]
    (outline,) = axes.patches
    assert outline.get_bbox().bounds == (4, 1, 5, 1)  # " is 3"
    assert "BOS 50.0%, earlier text 20.0% (20.0% shown, largest token 10.0%), the span 30.0%" in axes.get_title("left")


def test_folded_lines_say_how_much_they_hide() -> None:
    tokens = ("<s>", *(f"line {number}\n" for number in range(1, 8)), "end")
    weights = np.array([0.4, 0.01, 0.02, 0.03, 0.3, 0.04, 0.05, 0.05, 0.1])
    axes = span_figure("toy", SpanAttention("a", 8, 9, tokens, {"head mean": weights}), max_lines=2).axes[0]
    assert drawn_lines(axes) == [
        "\u22ef 3 lines, 6.0% of the mass",
        "line 4\u21b5",
        "\u22ef 3 lines, 14.0% of the mass",
        "end",
    ]
    assert "earlier text 50.0% (30.0% shown, largest token 30.0%), the span 10.0%" in axes.get_title("left")


def test_one_picture_per_span_redrawn_byte_for_byte(tmp_path: Path) -> None:
    paths = StudyPaths(tmp_path)
    paths.map_tokens("toy_model", "toy").parent.mkdir(parents=True)
    pl.DataFrame([{"item_id": "a$_1", "tokens": TOKENS}]).write_parquet(paths.map_tokens("toy_model", "toy"))
    rows = [*three_views(), span_row("head_mean", None, None, MEAN, start=1, end=3)]
    spans_frame(rows).write_parquet(paths.map_spans("toy_model", "toy"))
    first, again = (draw_span_figures(paths, "toy_model", "toy", tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first] == [
        f"span-attention-toy_model-toy-{number}.{kind}" for number in (0, 1) for kind in ("png", "pdf")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
