"""Where answer tokens look: segment masses over traces and over heads (Figures 2, 3, 9 and 10 of the paper).

data/attention/<model>/<dataset>/<setting>.parquet, data/heads/<model>.parquet
-> <folder>/segment-masses-<dataset>, <folder>/head-maps-<dataset> (PNG and PDF).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from r2a_core.figures.segment_masses import SEGMENT_LABELS, SEGMENTS, AttentionRun, _dataset, read_masses
from r2a_core.figures.style import ORANGE, save_figure
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame

TARGETS = ("bos", "query", "reasoning", "answer")

HEAT = colormaps["Blues"].with_extremes(bad="0.85")

RED = "#D62728"

RFH = {"marker": "s", "markersize": 7.0, "markerfacecolor": "none", "markeredgecolor": RED}

INDUCTION = {"marker": "^", "markersize": 5.0, "markerfacecolor": "white", "markeredgecolor": "black", "mew": 0.7}

RETRIEVAL = {"marker": "o", "markersize": 2.8, "markerfacecolor": ORANGE, "markeredgecolor": "black", "mew": 0.6}


@dataclass(frozen=True)
class HeadMarks:
    """Heads to point out, each a (layer, head); rfh in rank order, the others by falling score."""

    rfh: tuple[tuple[int, int], ...]
    induction: tuple[tuple[int, int], ...] = ()
    retrieval: tuple[tuple[int, int], ...] = ()


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
