"""Attention maps of chosen heads and traces, with the walk along the reasoning (Figures 4 and 11 of the paper).

data/maps/<model>/<dataset>.parquet, <dataset>-tokens.parquet, data/attention/<model>/<dataset>/<setting>.parquet
-> <folder>/attention-map-<model>-<dataset>-<map> (PNG and PDF).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

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

from r2a_core.figures.head_maps import RED
from r2a_core.figures.segment_masses import SEGMENT_LABELS
from r2a_core.figures.style import GREEN, ORANGE, save_figure
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame

MAP = colormaps["Blues"].with_extremes(under="white", bad="white")

FLOOR = 1e-3  # attention weight below which a map stays white

PANEL = 3.1  # inches


@dataclass(frozen=True)
class MapSource:
    """Where the maps of one model on one dataset lie; `attention` adds the centroid walk of single heads."""

    model: str
    dataset: str
    maps: Path
    tokens: Path
    attention: Path | None = None


@dataclass(frozen=True)
class Trace:
    """Token bounds of one trace, as TraceSegments has them, and the tokens at which a reflection phrase starts."""

    item_id: str
    think_open: int
    think_close: int
    n_tokens: int
    reflection: tuple[int, ...]

    @property
    def segments(self) -> dict[str, tuple[int, int]]:
        """Half-open token ranges of the three long segments."""
        o, c = self.think_open, self.think_close
        return {"query": (1, o), "reasoning": (o + 1, c), "answer": (c + 1, self.n_tokens - 1)}


@dataclass(frozen=True)
class Pattern:
    """One pooled attention map; cell (i, j) covers tokens row_edges[i:i+2] x col_edges[j:j+2]."""

    row_edges: np.ndarray  # (rows + 1,) token index
    col_edges: np.ndarray  # (columns + 1,) token index
    weights: np.ndarray  # (rows, columns), attention weight, the maximum over the cell


@dataclass(frozen=True)
class Walk:
    """Attention centroid of each answer row and its spread, as fractions 0..1 of the reasoning; both (answer rows,)."""

    centroid: np.ndarray
    spread: np.ndarray
    correlation: float


def read_traces(path: Path) -> dict[str, Trace]:
    """Traces by item id, in file order, from <dataset>-tokens.parquet."""
    frame = read_frame(path, ["item_id", "think_open", "think_close", "n_tokens", "reflection"], "maps")
    return {row[0]: Trace(row[0], row[1], row[2], row[3], tuple(row[4] or ())) for row in frame.iter_rows()}


def map_name(kind: str, layer: int | None, head: int | None) -> str:
    """Short name of a map: L10.H31 for a head, `RFH mean` and `head mean` for the two means."""
    return f"L{layer}.H{head}" if kind == "head" else {"rfh_mean": "RFH mean", "head_mean": "head mean"}[kind]


def short_id(item_id: str, limit: int = 36) -> str:
    """An item id that fits above a panel; the end is kept, as ids differ there."""
    return item_id if len(item_id) <= limit else "\u2026" + item_id[1 - limit :]


def read_patterns(source: MapSource, traces: Mapping[str, Trace]) -> dict[tuple[str, str], Pattern]:
    """Every map by (map name, item id), in file order. Raises R2AError when a pattern is not rows x columns long."""
    columns = ["item_id", "kind", "layer", "head", "row_token", "col_token", "pattern"]
    patterns = {}
    for row in read_frame(source.maps, columns, "maps").iter_rows(named=True):
        name, item_id = map_name(row["kind"], row["layer"], row["head"]), row["item_id"]
        if item_id not in traces:
            raise R2AError(f"{source.tokens} has no trace {item_id!r}", "rebuild both with: dvc repro maps")
        rows, cols = (_edges(row[axis], traces[item_id].n_tokens) for axis in ("row_token", "col_token"))
        shape = (len(rows) - 1, len(cols) - 1)
        if len(row["pattern"]) != shape[0] * shape[1]:
            raise R2AError(
                f"{source.maps}: the map {name} of {item_id!r} is not {shape[0]} x {shape[1]}",
                "rebuild it: dvc repro maps",
            )
        patterns[name, item_id] = Pattern(rows, cols, np.asarray(row["pattern"], np.float32).reshape(shape))
    return patterns


def read_walks(source: MapSource, traces: Mapping[str, Trace]) -> dict[tuple[str, str], Walk]:
    """Walks by (head name, item id) of the given traces; none when the source names no attention file.

    Raises R2AError when a centroid has not one value an answer row.
    """
    if source.attention is None:
        return {}
    columns = ["item_id", "layer", "head", "source", "walk_correlation", "centroid", "spread"]
    frame = read_frame(source.attention, columns, "attention")
    shown = (pl.col("source") == "answer") & pl.col("item_id").is_in(list(traces)) & pl.col("centroid").is_not_null()
    walks = {}
    for row in frame.filter(shown).iter_rows(named=True):
        start, stop = traces[row["item_id"]].segments["answer"]
        if len(row["centroid"]) != stop - start:
            counts = f"{len(row['centroid'])} centroids for {stop - start} answer tokens"
            hint = "capture every answer row, then: dvc repro attention"
            raise R2AError(f"{source.attention}: {row['item_id']!r} has {counts}", hint)
        correlation = np.nan if row["walk_correlation"] is None else row["walk_correlation"]
        walk = Walk(np.asarray(row["centroid"]), np.asarray(row["spread"]), correlation)
        walks[map_name("head", row["layer"], row["head"]), row["item_id"]] = walk
    return walks


def map_figure(
    title: str, traces: Sequence[Trace], patterns: Sequence[Pattern], walks: Sequence[Walk | None], floor: float = FLOOR
) -> Figure:
    """Figure 4: a column a trace; above the whole map, below its answer x reasoning part with the centroid walk."""
    fig = Figure(figsize=(PANEL * len(traces) + 1.0, PANEL * 1.95), layout="constrained")
    panels = fig.subplots(2, len(traces), squeeze=False, height_ratios=[1.75, 1])
    norm = LogNorm(floor, 1.0, clip=False)
    for trace, pattern, walk, (whole, part) in zip(traces, patterns, walks, panels.T, strict=True):
        _whole_map(whole, trace, pattern, norm)
        _answer_part(part, trace, pattern, norm, walk)
    panels[1, 0].set_ylabel("answer token", fontsize=8)
    fig.suptitle(title, parse_math=False, fontsize=10)
    fig.colorbar(ScalarMappable(norm, MAP), ax=panels, fraction=0.03, pad=0.01, extend="min", label="attention weight")
    fig.legend(
        handles=_legend(any(walk is not None for walk in walks)),
        loc="outside lower center",
        ncols=3 if len(traces) > 1 else 1,
        frameon=False,
        fontsize=8,
    )
    return fig


def draw_attention_maps(
    source: MapSource, folder: Path, items: Sequence[str] = (), heads: Sequence[tuple[int, int]] = (), count: int = 3
) -> list[Path]:
    """Figures 4 and 11: one picture a map of the file, <folder>/attention-map-<model>-<dataset>-<map>.png and .pdf.

    items: traces to show (default the first `count` of the file); heads: (layer, head) to show (default every map).
    Raises R2AError when a chosen trace or head has no map.
    """
    traces = read_traces(source.tokens)
    patterns = read_patterns(source, traces)
    names = [map_name("head", *head) for head in heads] or list(dict.fromkeys(name for name, _ in patterns))
    chosen = list(items) or list(dict.fromkeys(item for _, item in patterns))[:count]
    absent = [f"{name} of {item!r}" for name, item in product(names, chosen) if (name, item) not in patterns]
    if absent:
        raise R2AError(f"{source.maps} has no map {absent[0]}", "choose it in params.yaml, then: dvc repro maps")
    walks = read_walks(source, {item: traces[item] for item in chosen})
    written = []
    for name in names:
        fig = map_figure(
            f"{source.model}, {source.dataset}: {name}",
            [traces[item] for item in chosen],
            [patterns[name, item] for item in chosen],
            [walks.get((name, item)) for item in chosen],
        )
        stem = f"attention-map-{source.model}-{source.dataset}-{name.replace(' ', '-').replace('.', '')}"
        written += save_figure(fig, folder / stem)
    return written


def _edges(first_tokens: Sequence[int], n_tokens: int) -> np.ndarray:
    """Borders of pooled cells from the first token of each; the last cell ends before the final EOS."""
    return np.asarray([*first_tokens, max(first_tokens[-1] + 1, n_tokens - 1)])


def _whole_map(axes: Axes, trace: Trace, pattern: Pattern, norm: LogNorm) -> None:
    """The map over all tokens, the answer x reasoning part boxed in red, a line at each reflection token."""
    end = trace.n_tokens - 1
    axes.pcolormesh(pattern.col_edges, pattern.row_edges, pattern.weights, cmap=MAP, norm=norm, rasterized=True)
    axes.vlines(trace.reflection, trace.reflection, end, color=GREEN, linewidth=0.7, linestyle=(0, (4, 2)))
    (left, right), (top, bottom) = trace.segments["reasoning"], trace.segments["answer"]
    box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=RED, linewidth=1.4)
    axes.add_patch(box).set_clip_on(False)
    axes.set(xlim=(0, end), ylim=(end, 0), aspect="equal")
    wide = {name: span for name, span in trace.segments.items() if span[1] - span[0] > 0.12 * end}
    centres, labels = [sum(span) / 2 for span in wide.values()], [SEGMENT_LABELS[name] for name in wide]
    for axis, turn in ((axes.xaxis, {}), (axes.yaxis, {"rotation": 90, "va": "center"})):
        axis.set_ticks([1, trace.think_open, trace.think_close, end], labels=[""] * 4)
        axis.set_ticks(centres, labels=labels, minor=True, fontsize=8, **turn)
    axes.tick_params(which="minor", length=0)
    axes.set_title(f"{short_id(trace.item_id)}\n{trace.n_tokens} tokens", parse_math=False, fontsize=8)


def _answer_part(axes: Axes, trace: Trace, pattern: Pattern, norm: LogNorm, walk: Walk | None) -> None:
    """The part in the red box, enlarged, with the centroid of each answer row and a band of one spread around it."""
    (left, right), (top, bottom) = trace.segments["reasoning"], trace.segments["answer"]
    rows, columns = _within(pattern.row_edges, top, bottom), _within(pattern.col_edges, left, right)
    edges = pattern.col_edges[columns.start : columns.stop + 1], pattern.row_edges[rows.start : rows.stop + 1]
    axes.pcolormesh(*edges, pattern.weights[rows, columns], cmap=MAP, norm=norm, rasterized=True)
    axes.vlines(trace.reflection, top, bottom, color=GREEN, linewidth=0.7, linestyle=(0, (4, 2)))
    axes.set(xlim=(left, right), ylim=(bottom, top))
    if walk is not None:
        tokens = np.arange(top, bottom) + 0.5
        low, middle, high = (left + (right - left) * (walk.centroid + sign * walk.spread) for sign in (-1, 0, 1))
        axes.fill_betweenx(tokens, low, high, color=ORANGE, alpha=0.18, linewidth=0)
        axes.plot(middle, tokens, color=ORANGE, linewidth=1.2 if len(tokens) <= 150 else 0.4, gid="walk")
        axes.set_title(f"walk: r = {walk.correlation:.2f}", fontsize=8)
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
    ]
    for line, label in zip(
        lines, ("answer \u2192 reasoning", "reflection token", "attention centroid \u00b1 spread"), strict=True
    ):
        line.set_label(label)
    return lines if walks else lines[:2]
