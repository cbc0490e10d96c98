"""Figures 5 and 12: wrapping, folding, odd characters and colours, on spans with known weights."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.figures.tokens import GridText, SpanAttention, TextPiece, lay_out, span_figure, spans_of, visible

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


def three_views() -> SpanAttention:
    """The views of the span 8..10, of two heads and two means."""
    sharp = [0.1, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0, 0.05, 0.03, 0.02, 0.0]
    views = [("head", 1, 2, sharp), ("head", 0, 3, sharp[::-1])]
    views += [("rfh_mean", None, None, sharp), ("head_mean", None, None, MEAN)]
    rows = [("a$_1", *view[:3], 8, 10, view[3]) for view in views]
    columns = ["item_id", "kind", "layer", "head", "span_start", "span_end", "weights"]
    frame = pl.DataFrame(rows, schema=columns, orient="row", schema_overrides={"layer": pl.Int16, "head": pl.Int16})
    (span,) = spans_of(frame, {"a$_1": TOKENS})
    return span


def drawn_lines(axes: Any) -> list[str]:
    return [artist.get_text() for artist in axes.get_children() if isinstance(artist, GridText)]


def test_colours_text_and_outline_follow_the_weights() -> None:
    span = three_views()
    assert list(span.views) == ["head mean", "RFH mean", "L1.H2"]  # the first head alone
    panels: Any = span_figure("toy", span).axes
    titles = [axes.get_title("left").split(":")[0] for axes in panels[:3]]
    assert titles == ["Mean of all heads", "Mean of the Reasoning-Focus Heads", "Head L1.H2"]
    axes = panels[0]
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
