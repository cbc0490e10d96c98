"""Tokens coloured by the attention they get while a chosen span is written, to debug a statement (Figures 5 and 12).

data/maps/<model>/<dataset>-tokens.parquet, <dataset>-spans.parquet
-> <folder>/span-attention-<model>-<dataset>-<number> (PNG and PDF), numbered as the spans lie in the file.
"""

import functools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib import colormaps, font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from r2a_core.appearance import RED
from r2a_core.attention_maps import map_name
from r2a_core.figures.maps import short_id
from r2a_core.figures.style import save_figure
from r2a_core.infra.files import read_frame
from r2a_core.paths import StudyPaths

FONT, POINTS = "DejaVu Sans Mono", 7.0

CHARACTER = 0.60205 * POINTS / 72  # inches, advance of one character of FONT

LINE = 1.5 * POINTS / 72  # inches

WIDTH = 110  # characters per line

LEFT, RIGHT, TOP, TITLE, BOTTOM = 0.15, 0.85, 0.3, 0.38, 0.1  # inches

# The light part of the colours only: black text stays readable on each of them.
SHADES = ListedColormap(colormaps["Blues"](np.linspace(0, 0.65, 256)), "light blues")

SPAN_COLUMNS = ["item_id", "kind", "layer", "head", "span_start", "span_end", "weights"]

KIND_ORDER = ("head_mean", "rfh_mean", "head")

STAND_INS = {"\n": "\u21b5", "\t": "\u21e5"}


@dataclass(frozen=True)
class SpanAttention:
    """Tokens start..end (half-open) of a trace and, by map name, the attention to each token while they are written."""

    item_id: str
    start: int
    end: int
    tokens: tuple[str, ...]
    views: dict[str, np.ndarray]  # each (n_tokens,), attention weight, mean over the rows of the span


@dataclass(frozen=True)
class TextPiece:
    """A stretch of one token on one line; column and length in characters."""

    token: int
    line: int
    column: int
    text: str


@dataclass(frozen=True)
class PictureRow:
    """What one row of the picture stands for: one line of text, or a fold of hidden lines start..stop."""

    start: int
    stop: int
    shown: bool


class GridText(Text):
    """Monospaced text that keeps to the grid at any resolution: hinting would round character widths to pixels."""

    def __init__(self, column: float, baseline: float, text: str, color: str) -> None:
        font = {"family": FONT, "fontsize": POINTS}
        super().__init__(column, baseline, text, color=color, va="baseline", parse_math=False, **font)

    def draw(self, renderer: RendererBase) -> None:
        with rc_context({"text.hinting": "none"}):
            super().draw(renderer)


def visible(text: str) -> str:
    """Make text drawable in a grid of equal characters: what cannot be is replaced by its code, as \u20394e2d\u203a.

    Replaced are control and invisible characters, combining marks, wide, right-to-left and missing glyphs.
    """
    return "".join(STAND_INS.get(character) or _drawable(character) for character in text)


def lay_out(tokens: Sequence[str], width: int) -> list[TextPiece]:
    """Wrap tokens into lines of `width` characters; a token breaks only when it is longer than a line.

    A line ends after a token that holds a line break. Every token has at least one piece.
    """
    pieces, line, column = [], 0, 0
    for number, token in enumerate(tokens):
        text = visible(token)
        if column and column + len(text) > width:
            line, column = line + 1, 0
        while len(text) > width:
            pieces.append(TextPiece(number, line, 0, text[:width]))
            line, text = line + 1, text[width:]
        pieces.append(TextPiece(number, line, column, text))
        column += len(text)
        if "\n" in token:
            line, column = line + 1, 0
    return pieces


def fold(pieces: Sequence[TextPiece], span: SpanAttention, max_lines: int) -> list[PictureRow]:
    """Choose the rows: the span, and the lines with most attention from it, mean over the views; the rest is folded.

    BOS and the span itself do not count. `max_lines` lines are shown, more where the span is longer and where a fold
    would hide a single line.
    """
    weights = np.mean([view[: span.end] for view in span.views.values()], axis=0) * _earlier(span)
    mass = np.bincount(_homes(pieces), weights, minlength=pieces[-1].line + 1)  # (lines,)
    own = {piece.line for piece in pieces if span.start <= piece.token < span.end}
    others = [int(line) for line in np.argsort(-mass, kind="stable") if line not in own]
    shown = own | set(others[: max(max_lines - len(own), 0)])
    rows = []
    for is_shown, group in groupby(range(len(mass)), key=lambda line: line in shown):
        lines = list(group)
        if is_shown or len(lines) == 1:
            rows += [PictureRow(line, line + 1, shown=True) for line in lines]
        else:
            rows.append(PictureRow(lines[0], lines[-1] + 1, shown=False))
    return rows


def spans_of(spans: pl.DataFrame, texts: Mapping[str, Sequence[str]]) -> list[SpanAttention]:
    """List the spans of a frame of SPAN_SCHEMA, each in the mean of all heads, that of the RFHs and the first head.

    texts: text of each token, by item id.
    """
    found = []
    for (item_id, start, end), rows in spans.group_by("item_id", "span_start", "span_end", maintain_order=True):
        first = {kind: rows.filter(pl.col("kind") == kind).head(1) for kind in KIND_ORDER}
        views = [row for kind in KIND_ORDER for row in first[kind].iter_rows(named=True)]
        named = {map_name(row["kind"], row["layer"], row["head"]): np.asarray(row["weights"]) for row in views}
        found.append(SpanAttention(str(item_id), start, end, tuple(texts[str(item_id)]), named))
    return found


def span_figure(title: str, span: SpanAttention, max_lines: int = 20) -> Figure:
    """Draw Figure 5: the text up to the end of the span, once per view, coloured by attention while it is written.

    Colours are relative to the largest weight on earlier text (without BOS) in the same view; the span is outlined.
    """
    pieces = lay_out(("BOS ", *span.tokens[1 : span.end]), WIDTH)
    rows = fold(pieces, span, max_lines)
    size = (LEFT + WIDTH * CHARACTER + RIGHT, TOP + len(span.views) * (TITLE + len(rows) * LINE) + BOTTOM)
    fig = Figure(figsize=size)
    fig.text(LEFT / size[0], 1 - 0.2 / size[1], title, parse_math=False, fontsize=10, va="center")
    top = size[1] - TOP
    for name in span.views:
        top -= TITLE + len(rows) * LINE
        box = (LEFT / size[0], top / size[1], WIDTH * CHARACTER / size[0], len(rows) * LINE / size[1])
        axes = fig.add_axes(box, xlim=(0, WIDTH), ylim=(len(rows), 0))
        _panel(axes, span, name, pieces, rows)
    height = min(2.2, size[1] - TOP - TITLE - BOTTOM)
    bar = fig.add_axes(
        (1 - 0.65 / size[0], (size[1] - TOP - TITLE - height) / size[1], 0.12 / size[0], height / size[1])
    )
    fig.colorbar(ScalarMappable(Normalize(0, 1), SHADES), cax=bar, extend="max", ticks=[0, 0.5, 1])
    bar.set_ylabel("attention / largest on earlier text", fontsize=7)
    bar.tick_params(labelsize=7)
    return fig


def draw_span_figures(paths: StudyPaths, model: str, dataset: str, folder: Path) -> list[Path]:
    """Draw Figures 5 and 12: <folder>/span-attention-<model>-<dataset>-<number>, numbered as spans lie in data/maps."""
    texts = dict(read_frame(paths.map_tokens(model, dataset), ["item_id", "tokens"], "maps").iter_rows())
    written = []
    for number, span in enumerate(spans_of(read_frame(paths.map_spans(model, dataset), SPAN_COLUMNS, "maps"), texts)):
        last = span.end - 1
        place = f"tokens {span.start}\u2013{last}" if last > span.start else f"token {last}"
        whose = f"{model}, {dataset}, {short_id(span.item_id)}"
        written_text = visible(short_id("".join(span.tokens[span.start : span.end])))
        title = f"{whose}: while writing “{written_text}” ({place}), where it looks"
        written += save_figure(span_figure(title, span), folder / f"span-attention-{model}-{dataset}-{number}")
    return written


def _panel(axes: Axes, span: SpanAttention, name: str, pieces: Sequence[TextPiece], rows: Sequence[PictureRow]) -> None:
    """One view: coloured text, folds with the mass they hide, the span outlined, and where the mass lies."""
    weights, homes = span.views[name][: span.end], _homes(pieces)
    earlier = weights * _earlier(span)
    heights = {row.start: height for height, row in enumerate(rows) if row.shown}
    shown = [piece for piece in pieces if piece.line in heights]
    values = np.array([weights[piece.token] for piece in shown]) / (earlier.max() or 1.0)
    corners = [_corners(piece, heights[piece.line]) for piece in shown]
    axes.add_collection(PolyCollection(corners, array=values, cmap=SHADES, norm=Normalize(0, 1), linewidths=0))
    visible_mass = 0.0
    for height, row in enumerate(rows):
        mass = earlier[(homes >= row.start) & (homes < row.stop)].sum()
        visible_mass += mass if row.shown else 0.0
        folded = f"\u22ef {row.stop - row.start} lines, {mass:.1%} of the mass"
        line = "".join(piece.text for piece in shown if piece.line == row.start) if row.shown else folded
        axes.add_artist(GridText(0, height + 0.72, line, color="black" if row.shown else "0.45"))
    for line, height in heights.items():
        inside = [piece for piece in shown if piece.line == line and piece.token >= span.start]
        if inside:
            left, right = inside[0].column, inside[-1].column + len(inside[-1].text)
            axes.add_patch(Rectangle((left, height), right - left, 1, fill=False, edgecolor=RED, lw=1.2, clip_on=False))
    axes.set_axis_off()
    axes.set_title(f"{_view_title(name)}: {_shares(weights, earlier, span, visible_mass)}", loc="left", fontsize=8)


def _view_title(name: str) -> str:
    return {"head mean": "Mean of all heads", "RFH mean": "Mean of the Reasoning-Focus Heads"}.get(name, f"Head {name}")


def _shares(weights: np.ndarray, earlier: np.ndarray, span: SpanAttention, shown: float) -> str:
    """Where the span's attention lies, in words; BOS, earlier text and the span add to all of it."""
    before = f"earlier text {earlier.sum():.1%} ({shown:.1%} shown, largest token {earlier.max():.1%})"
    return f"BOS {weights[0]:.1%}, {before}, the span {weights[span.start :].sum():.1%}"


def _corners(piece: TextPiece, height: int) -> list[tuple[int, int]]:
    left, right = piece.column, piece.column + len(piece.text)
    return [(left, height), (right, height), (right, height + 1), (left, height + 1)]


def _earlier(span: SpanAttention) -> np.ndarray:
    """(end,) bool: tokens before the span, BOS left out."""
    places = np.arange(span.end)
    return (places > 0) & (places < span.start)


def _homes(pieces: Sequence[TextPiece]) -> np.ndarray:
    """(tokens,) line on which each token starts."""
    return np.array([line for _, line in sorted({piece.token: piece.line for piece in reversed(pieces)}.items())])


def _drawable(character: str) -> str:
    """The character itself, or its code where it would not fill exactly one cell."""
    code = ord(character)
    narrow = unicodedata.east_asian_width(character) not in "WF" and unicodedata.bidirectional(character) not in (
        "R",
        "AL",
    )
    plain = character.isprintable() and not unicodedata.category(character).startswith("M")
    return character if plain and narrow and code in _glyphs() else f"\u2039{code:04x}\u203a"


@functools.cache
def _glyphs() -> frozenset[int]:
    """Code points that FONT can draw."""
    return frozenset(FT2Font(font_manager.findfont(FONT)).get_charmap())
