"""Where answer tokens look: segment masses over traces and over heads (Figures 2, 3, 9 and 10 of the paper).

data/attention/<model>/<dataset>/<setting>.parquet, data/heads/<model>.parquet
-> <folder>/segment-masses-<dataset>, <folder>/head-maps-<dataset> (PNG and PDF).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from r2a_core.errors import R2AError
from r2a_core.figures.style import BLUE, INK, ORANGE, SETTING_COLOURS, VERMILION, save_figure
from r2a_core.frames import read_frame

Source = Literal["answer", "reasoning"]
SEGMENT_LABELS = {
    "bos": "BOS",
    "query": "query",
    "think_open": "<think>",
    "reasoning": "reasoning",
    "think_close": "</think>",
    "answer": "answer",
}
SEGMENTS = tuple(SEGMENT_LABELS)
SEEN_BY: dict[Source, tuple[str, ...]] = {"answer": SEGMENTS, "reasoning": SEGMENTS[:4]}
# Medians over 100 traces of MATH-500 with reasoning, recomputed from the published per-trace masses; order of SEGMENTS.
PAPER_MEDIANS = {
    "r1_llama_8b": (0.6177, 0.0130, 0.0001, 0.1359, 0.0004, 0.2313),
    "r1_qwen_7b": (0.1033, 0.1380, 0.0002, 0.2901, 0.0087, 0.4653),
    "r1_qwen_1b5": (0.1642, 0.0293, 0.0011, 0.2526, 0.0116, 0.5430),
}
PAPER_RUN = ("math500", "with_reasoning")
TARGETS = ("bos", "query", "reasoning", "answer")
HEAT = colormaps["Blues"].with_extremes(bad="0.85")
RED = "#D62728"
RFH = {"marker": "s", "markersize": 7.0, "markerfacecolor": "none", "markeredgecolor": RED}
INDUCTION = {"marker": "^", "markersize": 5.0, "markerfacecolor": "white", "markeredgecolor": "black", "mew": 0.7}
RETRIEVAL = {"marker": "o", "markersize": 2.8, "markerfacecolor": ORANGE, "markeredgecolor": "black", "mew": 0.6}


@dataclass(frozen=True)
class AttentionRun:
    """Attention masses of one model on one dataset in one setting, and where they lie."""

    model: str
    dataset: str
    setting: str
    path: Path


@dataclass(frozen=True)
class HeadMarks:
    """Heads to point out, each a (layer, head); rfh in rank order, the others by falling score."""

    rfh: tuple[tuple[int, int], ...]
    induction: tuple[tuple[int, int], ...] = ()
    retrieval: tuple[tuple[int, int], ...] = ()


def read_masses(run: AttentionRun, source: Source) -> pl.DataFrame:
    """Masses of one source as float64, sorted by trace, layer, head: item_id, layer, head, one column a segment.

    Raises R2AError when the file lacks a column or holds no row of that source.
    """
    segments = SEEN_BY[source]
    frame = read_frame(run.path, ["item_id", "layer", "head", "source", *segments], "attention")
    frame = frame.filter(pl.col("source") == source).drop("source").with_columns(pl.col(segments).cast(pl.Float64))
    if frame.is_empty():
        raise R2AError(f"{run.path} holds no {source} rows", f"capture {source} rows, then: dvc repro attention")
    return frame.sort("item_id", "layer", "head")


def trace_means(masses: pl.DataFrame) -> pl.DataFrame:
    """Mean over layers and heads: one row a trace, one column a segment (what one box of Figure 2 is drawn from)."""
    segments = [name for name in SEGMENTS if name in masses.columns]
    return masses.group_by("item_id", maintain_order=True).agg(pl.col(segments).mean())


def head_means(masses: pl.DataFrame, segment: str) -> np.ndarray:
    """Mean over traces, (layer, head), attention mass on one segment; NaN for layers that were not captured."""
    shape = (int(masses["layer"].max()) + 1, int(masses["head"].max()) + 1)  # type: ignore[arg-type]
    means = masses.group_by("layer", "head", maintain_order=True).agg(pl.col(segment).mean())
    grid = np.full(shape, np.nan)
    grid[means["layer"].to_numpy(), means["head"].to_numpy()] = means[segment].to_numpy()
    return grid


def top_heads(score: np.ndarray, count: int) -> tuple[tuple[int, int], ...]:
    """The `count` highest entries of a (layer, head) score, highest first; ties by layer then head; NaN never."""
    order = np.argsort(-score, axis=None, kind="stable")
    places = [divmod(int(flat), score.shape[1]) for flat in order[:count]]
    return tuple(place for place in places if not np.isnan(score[place]))


def read_head_marks(path: Path, dataset: str, count: int = 10) -> HeadMarks:
    """Top `count` heads by rank, induction and retrieval score, from data/heads/<model>.parquet.

    A score of 0 is no mark, so a list may be shorter. Raises R2AError when the file does not rank the dataset.
    """
    frame = read_frame(path, ["layer", "head", "dataset", "rank", "induction", "retrieval"], "heads")
    frame = frame.filter(pl.col("dataset") == dataset)
    if frame.is_empty():
        raise R2AError(f"{path} does not rank heads on {dataset!r}", "rebuild it with: dvc repro heads")

    def highest(score: str) -> tuple[tuple[int, int], ...]:
        ordered = frame.filter(pl.col(score) > 0).sort(score, "layer", "head", descending=[True, False, False])
        return tuple(ordered.select("layer", "head").head(count).iter_rows())

    ranked = frame.filter(pl.col("rank") <= count).sort("rank").select("layer", "head")
    return HeadMarks(tuple(ranked.iter_rows()), highest("induction"), highest("retrieval"))


def box_plot_figure(runs: Sequence[AttentionRun], source: Source = "answer") -> Figure:
    """Figure 2: one box a segment, over traces, of the mean over layers and heads; columns are models, rows settings.

    Where the run is one of the paper's, a diamond marks the median of its published data.
    """
    models, settings = _distinct(run.model for run in runs), _distinct(run.setting for run in runs)
    fig = Figure(figsize=(3.5 * len(models), 2.9 * len(settings)), layout="constrained")
    panels = fig.subplots(len(settings), len(models), squeeze=False)
    drawn = {(settings.index(run.setting), models.index(run.model)): run for run in runs}
    for place, axes in np.ndenumerate(panels):
        if place not in drawn:
            axes.set_axis_off()
            continue
        _boxes(axes, drawn[place], source)
        if min(column for row, column in drawn if row == place[0]) == place[1]:
            axes.set_ylabel(f"attention mass from {source} tokens", fontsize=9)
    return fig


def draw_box_plots(runs: Sequence[AttentionRun], folder: Path, source: Source = "answer") -> list[Path]:
    """Figure 2 (or 9) of the runs' dataset as <folder>/segment-masses-<dataset>[-from-reasoning].png and .pdf."""
    suffix = "" if source == "answer" else f"-from-{source}"
    return save_figure(box_plot_figure(runs, source), folder / f"segment-masses-{_dataset(runs)}{suffix}")


def _boxes(axes: Axes, run: AttentionRun, source: Source) -> None:
    """One panel: boxes with their medians in figures, and the paper's medians where it has them."""
    masses = trace_means(read_masses(run, source))
    segments = SEEN_BY[source]
    values = [masses[name].drop_nulls().to_numpy() for name in segments]
    places, colour = np.arange(len(segments)), SETTING_COLOURS.get(run.setting, BLUE)
    axes.boxplot(
        values,
        positions=places,
        widths=0.62,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": to_rgba(colour, 0.3), "edgecolor": INK, "linewidth": 0.8},
        medianprops={"color": colour, "linewidth": 1.6, "gid": "median"},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
        flierprops={"marker": ".", "markersize": 3, "markerfacecolor": INK, "markeredgecolor": "none", "alpha": 0.6},
    )
    for place, column in zip(places, values, strict=True):
        if not len(column):
            continue
        label = f"{np.median(column):.4f}".removeprefix("0")
        axes.annotate(label, (place, column.max()), (0, 4), textcoords="offset points", ha="center", fontsize=7)
    if source == "answer" and (run.dataset, run.setting) == PAPER_RUN and run.model in PAPER_MEDIANS:
        axes.plot(
            places + 0.41,
            PAPER_MEDIANS[run.model],
            "D",
            color=VERMILION,
            markersize=3.5,
            gid="paper",
            label="paper's median",
        )
        axes.legend(loc="upper left", frameon=False, fontsize=8, handletextpad=0.1)
    axes.set(ylim=(-0.03, 1.08), xlim=(-0.6, len(segments) - 0.3))
    axes.set_xticks(
        places, [SEGMENT_LABELS[name] for name in segments], rotation=25, ha="right", rotation_mode="anchor"
    )
    axes.tick_params(labelsize=8)
    noun = "trace" if masses.height == 1 else "traces"
    title = f"{run.model}, {run.setting.replace('_', ' ')}\n{masses.height} {noun} of {run.dataset}"
    axes.set_title(title, parse_math=False, fontsize=9)


def head_map_figure(
    runs: Sequence[AttentionRun], marks: Mapping[str, HeadMarks], targets: Sequence[str] = TARGETS, count: int = 10
) -> Figure:
    """Figure 3: layer x head maps of the trace mean, a row a model and a column a target segment, with marked heads.

    `marks` is by model; a model without an entry gets red boxes on its `count` highest means towards the reasoning.
    """
    grids = [
        {name: head_means(masses, name) for name in SEGMENTS} for masses in (read_masses(run, "answer") for run in runs)
    ]
    chosen = {
        run.model: marks.get(run.model) or HeadMarks(top_heads(grid["reasoning"], count))
        for run, grid in zip(runs, grids, strict=True)
    }
    heights = [2.9 * float(np.clip(np.divide(*grid["bos"].shape), 0.6, 1.5)) for grid in grids]
    fig = Figure(figsize=(2.9 * len(targets) + 0.8, sum(heights) + 0.5 * len(runs) + 0.4), layout="constrained")
    panels = fig.subplots(len(runs), len(targets), squeeze=False, height_ratios=heights)
    for run, grid, row in zip(runs, grids, panels, strict=True):
        for axes, target in zip(row, targets, strict=True):
            _heat_map(axes, grid[target], chosen[run.model])
            axes.set_title(f"{run.model}: answer \u2192 {SEGMENT_LABELS[target]}", parse_math=False, fontsize=9)
            axes.tick_params(labelsize=8)
        row[0].set_ylabel("layer")
    for axes in panels[-1]:
        axes.set_xlabel("head")
    fig.colorbar(ScalarMappable(Normalize(0, 1), HEAT), ax=panels, fraction=0.02, pad=0.01, label="mean attention mass")
    fig.legend(handles=_legend(chosen.values(), count), loc="outside lower center", ncols=3, frameon=False)
    return fig


def draw_head_maps(
    runs: Sequence[AttentionRun], folder: Path, heads: Mapping[str, Path] | None = None, count: int = 10
) -> list[Path]:
    """Figure 3 (or 10) as <folder>/head-maps-<dataset>.png and .pdf; `heads` gives each model's heads parquet."""
    dataset = _dataset(runs)
    marks = {model: read_head_marks(path, dataset, count) for model, path in (heads or {}).items()}
    return save_figure(head_map_figure(runs, marks, count=count), folder / f"head-maps-{dataset}")


def _heat_map(axes: Axes, grid: np.ndarray, marks: HeadMarks) -> None:
    """One panel: grid (layer, head) with layer 0 on top; red boxes, triangles and circles on the marked heads."""
    axes.imshow(grid, cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    boxes = [Rectangle((head - 0.45, layer - 0.45), 0.9, 0.9) for layer, head in marks.rfh]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor="white", linewidth=2.4, clip_on=False))
    for box in boxes:
        box.set(fill=False, edgecolor=RED, linewidth=1.1)
        axes.add_patch(box).set_clip_on(False)
    scale = float(np.clip(28 / max(grid.shape), 1, 1.8))
    for heads, style in ((marks.induction, INDUCTION), (marks.retrieval, RETRIEVAL)):
        if heads:
            layers, columns = zip(*heads, strict=True)
            axes.plot(columns, layers, linestyle="none", **style | {"markersize": style["markersize"] * scale})
    for axis, size in ((axes.xaxis, grid.shape[1]), (axes.yaxis, grid.shape[0])):
        axis.set_ticks(range(0, size, max(1, size // 7)))


def _legend(marks: Iterable[HeadMarks], count: int) -> list[Line2D]:
    """What the marks of Figure 3 mean; only of the kinds that are drawn."""
    drawn = list(marks)
    kinds = [(RFH, f"Reasoning-Focus Head (top {count} of answer \u2192 reasoning)")]
    if any(mark.induction for mark in drawn):
        kinds.append((INDUCTION, f"induction head (top {count})"))
    if any(mark.retrieval for mark in drawn):
        kinds.append((RETRIEVAL, f"retrieval head (top {count})"))
    return [Line2D([], [], linestyle="none", label=label, **style) for style, label in kinds]


def _distinct(values: Iterable[str]) -> list[str]:
    """Values in order of first appearance."""
    return list(dict.fromkeys(values))


def _dataset(runs: Sequence[AttentionRun]) -> str:
    """The one dataset of the runs. Raises R2AError when there is none or more than one."""
    names = _distinct(run.dataset for run in runs)
    if len(names) != 1:
        raise R2AError(f"a figure shows one dataset, found {', '.join(names) or 'none'}", "draw one figure a dataset")
    return names[0]
