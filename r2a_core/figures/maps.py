"""Attention maps of chosen heads and traces, with the walk along the reasoning (Figures 4 and 11 of the paper).

data/maps/<model>/<dataset>.parquet and -tokens.parquet, data/attention/<model>/<dataset>/with_reasoning.parquet
-> one picture per map (a head, or a mean of heads), a column per trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from r2a_core.appearance import GREEN, INK, ORANGE, RED
from r2a_core.attention_maps import (
    MappedTrace,
    PooledMap,
    floor_of,
    group_width,
    grouped,
    mapped_traces,
    pooled_maps,
    thinned,
)
from r2a_core.figures.style import save_figure
from r2a_core.infra.files import read_frame
from r2a_core.paths import StudyPaths
from r2a_core.results import LOOKS, SEGMENT_LABELS, head_name

MAP = colormaps["Blues"].with_extremes(under="white", bad="white")

PANEL = 3.1  # inches

ELSEWHERE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "x",
    "markersize": 2.5,
    "color": INK,
    "markeredgewidth": 0.5,
}

LONG = ("query", "reasoning", "answer")  # segments that get a label

TOKEN_COLUMNS = ["item_id", "tokens", "think_open", "think_close", "n_tokens", "reflection"]

MAP_COLUMNS = ["item_id", "kind", "layer", "head", "row_token", "col_token", "pattern"]

WALK_COLUMNS = ["item_id", "layer", "head", "source", "walk_correlation_weighted", "row_mass", "centroid", "spread"]


@dataclass(frozen=True)
class Walk:
    """Attention centroid of each answer row and its spread, as fractions 0..1 of the reasoning; all (answer rows,)."""

    mass: np.ndarray  # attention mass on the reasoning
    centroid: np.ndarray
    spread: np.ndarray
    correlation: float  # of answer row and centroid, rows counted by their mass


def short_id(item_id: str, limit: int = 36) -> str:
    """Shorten an item id to what fits above a panel; the end is kept, as ids differ there."""
    return item_id if len(item_id) <= limit else "\u2026" + item_id[1 - limit :]


def walks_of(attention: pl.DataFrame, traces: Mapping[str, MappedTrace]) -> dict[tuple[str, str], Walk]:
    """Collect the walks by (head name, item id) of the given traces, from a frame of ATTENTION_SCHEMA."""
    own = (pl.col("source") == "answer") & pl.col("item_id").is_in(list(traces)) & pl.col("centroid").is_not_null()
    walks = {}
    for row in attention.filter(own).iter_rows(named=True):
        correlation = np.nan if row["walk_correlation_weighted"] is None else row["walk_correlation_weighted"]
        mass, centroid, spread = (np.asarray(row[name]) for name in ("row_mass", "centroid", "spread"))
        walk = Walk(mass, centroid, spread, correlation)
        walks[head_name(row["layer"], row["head"]), row["item_id"]] = walk
    return walks


def draw_attention_maps(paths: StudyPaths, model: str, dataset: str, folder: Path) -> list[Path]:
    """Draw Figures 4 and 11: <folder>/attention-map-<model>-<dataset>-<map>, of every map and trace of data/maps."""
    traces = mapped_traces(read_frame(paths.map_tokens(model, dataset), TOKEN_COLUMNS, "maps"))
    maps = pooled_maps(read_frame(paths.maps(model, dataset), MAP_COLUMNS, "maps"), traces)
    walks = walks_of(read_frame(paths.attention(model, dataset), WALK_COLUMNS, "attention"), traces)
    written = []
    for name in dict.fromkeys(name for name, _ in maps):
        items = [item for each, item in maps if each == name]
        fig = map_figure(
            f"{model}, {dataset}: {name}",
            [traces[item] for item in items],
            [maps[name, item] for item in items],
            [walks.get((name, item)) for item in items],
        )
        stem = f"attention-map-{model}-{dataset}-{name.replace(' ', '-').replace('.', '')}"
        written += save_figure(fig, folder / stem)
    return written


def map_figure(
    title: str, traces: Sequence[MappedTrace], maps: Sequence[PooledMap], walks: Sequence[Walk | None]
) -> Figure:
    """Draw Figure 4: a column per trace; the whole map, and below it its answer x reasoning part with the walk."""
    fig = Figure(figsize=(PANEL * len(traces) + 1.0, PANEL * 1.95), layout="constrained")
    panels = fig.subplots(2, len(traces), squeeze=False, height_ratios=[1.75, 1])
    norm = LogNorm(min(map(floor_of, traces)), 1.0, clip=False)
    for trace, pattern, walk, (whole, part) in zip(traces, maps, walks, panels.T, strict=True):
        _whole_map(whole, trace, pattern, norm)
        _answer_part(part, trace, pattern, norm, walk)
    panels[1, 0].set_ylabel("answer token", fontsize=8)
    fig.suptitle(title, parse_math=False, fontsize=10)
    fig.colorbar(ScalarMappable(norm, MAP), ax=panels, fraction=0.03, pad=0.01, extend="min", label="attention weight")
    fig.legend(
        handles=_legend(any(walk is not None for walk in walks)),
        loc="outside lower center",
        ncols=4 if len(traces) > 1 else 1,
        frameon=False,
        fontsize=8,
    )
    return fig


def _whole_map(axes: Axes, trace: MappedTrace, pattern: PooledMap, norm: LogNorm) -> None:
    """The map over all tokens, the answer x reasoning part boxed in red, a line at each reflection token."""
    segments, end = trace.segments, trace.segments.n_tokens - 1
    axes.pcolormesh(pattern.col_edges, pattern.row_edges, pattern.weights, cmap=MAP, norm=norm, rasterized=True)
    marks = thinned(trace.reflection, segments.n_tokens)
    axes.vlines(marks, marks, end, color=GREEN, linewidth=0.7, linestyle=(0, (4, 2)))
    corner, size = (segments.reasoning.start, segments.answer.start), (len(segments.reasoning), len(segments.answer))
    box = Rectangle(corner, *size, fill=False, edgecolor=RED, linewidth=1.4)
    axes.add_patch(box).set_clip_on(False)
    axes.set(xlim=(0, end), ylim=(end, 0), aspect="equal")
    wide = {name: span for name, span in segments.ranges().items() if name in LONG and len(span) > 0.12 * end}
    centres = [(span.start + span.stop) / 2 for span in wide.values()]
    labels = [SEGMENT_LABELS[name] for name in wide]
    for axis, turn in ((axes.xaxis, {}), (axes.yaxis, {"rotation": 90, "va": "center"})):
        axis.set_ticks([1, segments.think_open, segments.think_close, end], labels=[""] * 4)
        axis.set_ticks(centres, labels=labels, minor=True, fontsize=8, **turn)
    axes.tick_params(which="minor", length=0)
    axes.set_title(f"{short_id(trace.item_id)}\n{segments.n_tokens} tokens", parse_math=False, fontsize=8)


def _answer_part(axes: Axes, trace: MappedTrace, pattern: PooledMap, norm: LogNorm, walk: Walk | None) -> None:
    """The part in the red box, enlarged, the centroid of each group of answer rows and one spread around it."""
    reasoning, answer = trace.segments.reasoning, trace.segments.answer
    (left, right), (top, bottom) = (reasoning.start, reasoning.stop), (answer.start, answer.stop)
    rows, columns = _within(pattern.row_edges, top, bottom), _within(pattern.col_edges, left, right)
    edges = pattern.col_edges[columns.start : columns.stop + 1], pattern.row_edges[rows.start : rows.stop + 1]
    axes.pcolormesh(*edges, pattern.weights[rows, columns], cmap=MAP, norm=norm, rasterized=True)
    axes.vlines(thinned(trace.reflection, right - left), top, bottom, color=GREEN, linewidth=0.7, linestyle=(0, (4, 2)))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    if walk is not None:
        width = group_width(bottom - top)
        starts = np.arange(top, bottom, width)
        tokens = (starts + np.minimum(starts + width, bottom)) / 2
        centroid, spread = grouped(np.stack([walk.centroid, walk.spread]), walk.mass, width)  # NaN breaks the line
        low, middle, high = (left + (right - left) * (centroid + sign * spread) for sign in (-1, 0, 1))
        axes.fill_betweenx(tokens, low, high, color=ORANGE, alpha=0.18, linewidth=0)
        axes.plot(middle, tokens, color=ORANGE, linewidth=1.2, marker=".", markersize=2.4, gid="walk")
        elsewhere = tokens[np.isnan(centroid)]
        edge = np.full(elsewhere.size, right + 0.02 * (right - left))
        # An empty line counts as a point in the corner of the figure: the layout would make room for it.
        axes.plot(edge, elsewhere, **ELSEWHERE, clip_on=False, in_layout=False, gid="elsewhere")
        axes.set_title(f"walk, weighted by mass: r = {walk.correlation:.2f}", fontsize=8)
    axes.spines[:].set(color=RED, linewidth=1.4)
    axes.tick_params(labelsize=7)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlabel("reasoning token", fontsize=8)


def _within(edges: np.ndarray, start: int, stop: int) -> slice:
    """Cells that touch the tokens start..stop."""
    first, last = np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, stop, "left")
    return slice(max(int(first), 0), int(last))


def _legend(walks: bool) -> list[Line2D]:
    """What the lines of Figure 4 mean."""
    lines = [
        Line2D([], [], linestyle="none", marker="s", markersize=8, markerfacecolor="none", markeredgecolor=RED),
        Line2D([], [], color=GREEN, linestyle=(0, (4, 2))),
        Line2D([], [], color=ORANGE),
        Line2D([], [], **ELSEWHERE),
    ]
    labels = ("answer \u2192 reasoning", "reflection token", "attention centroid \u00b1 spread")
    for line, label in zip(lines, (*labels, f"looks elsewhere (mass below {LOOKS})"), strict=True):
        line.set_label(label)
    return lines if walks else lines[:2]
