"""Which heads look at which segment: layer x head heat maps with marked heads (Figures 3 and 10 of the paper).

head means and chosen heads of each model -> one picture.
"""

from collections.abc import Mapping, Sequence

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

from r2a_core.appearance import HEAD_KINDS
from r2a_core.results import SEGMENT_LABELS, HeadSets, head_grid

TARGETS = ("bos", "query", "reasoning", "answer")

HEAT = colormaps["Blues"].with_extremes(bad="0.85")

RFH = {"marker": "s", "markersize": 7.0, "markerfacecolor": "none", "markeredgecolor": HEAD_KINDS["rfh"].colour}

INDUCTION = {"marker": "^", "markersize": 5.0, "markeredgecolor": "black", "mew": 0.7}
INDUCTION |= {"markerfacecolor": HEAD_KINDS["induction"].colour}

RETRIEVAL = {"marker": "o", "markersize": 2.8, "markeredgecolor": "black", "mew": 0.6}
RETRIEVAL |= {"markerfacecolor": HEAD_KINDS["retrieval"].colour}


def head_map_figure(means: Mapping[str, pl.DataFrame], marks: Mapping[str, HeadSets]) -> Figure:
    """Draw Figure 3: layer x head maps of the trace mean, a row per model and a column per target segment.

    means: `results.head_means` by model; marks: its marked heads.
    """
    grids = [{name: head_grid(heads, name) for name in TARGETS} for heads in means.values()]
    heights = [2.9 * float(np.clip(np.divide(*grid["bos"].shape), 0.6, 1.5)) for grid in grids]
    fig = Figure(figsize=(2.9 * len(TARGETS) + 0.8, sum(heights) + 0.5 * len(grids) + 0.4), layout="constrained")
    panels = fig.subplots(len(grids), len(TARGETS), squeeze=False, height_ratios=heights)
    for model, grid, row in zip(means, grids, panels, strict=True):
        for axes, target in zip(row, TARGETS, strict=True):
            _heat_map(axes, grid[target], marks[model])
            axes.set_title(f"{model}: answer \u2192 {SEGMENT_LABELS[target]}", parse_math=False, fontsize=9)
            axes.tick_params(labelsize=8)
        row[0].set_ylabel("layer")
    for axes in panels[-1]:
        axes.set_xlabel("head")
    fig.colorbar(ScalarMappable(Normalize(0, 1), HEAT), ax=panels, fraction=0.02, pad=0.01, label="mean attention mass")
    fig.legend(handles=_legend(list(marks.values())), loc="outside lower center", ncols=3, frameon=False)
    return fig


def _heat_map(axes: Axes, grid: np.ndarray, marks: HeadSets) -> None:
    """One panel: grid (layer, head) with layer 0 on top; red boxes, triangles and circles on the marked heads."""
    axes.imshow(grid, cmap=HEAT, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    boxes = [Rectangle((head - 0.45, layer - 0.45), 0.9, 0.9) for layer, head in marks.rfh]
    axes.add_collection(PatchCollection(boxes, facecolor="none", edgecolor="white", linewidth=2.4, clip_on=False))
    for box in boxes:
        box.set(fill=False, edgecolor=HEAD_KINDS["rfh"].colour, linewidth=1.1)
        axes.add_patch(box).set_clip_on(False)
    scale = float(np.clip(28 / max(grid.shape), 1, 1.8))
    for heads, style in ((marks.induction, INDUCTION), (marks.retrieval, RETRIEVAL)):
        if heads:
            layers, columns = zip(*heads, strict=True)
            axes.plot(columns, layers, linestyle="none", **style | {"markersize": style["markersize"] * scale})
    for axis, size in ((axes.xaxis, grid.shape[1]), (axes.yaxis, grid.shape[0])):
        axis.set_ticks(range(0, size, max(1, size // 7)))


def _legend(marks: Sequence[HeadSets]) -> list[Line2D]:
    """What the marks of Figure 3 mean; only of the kinds that are drawn."""
    kinds = [(RFH, HEAD_KINDS["rfh"].label + " (answer \u2192 reasoning)")]
    if any(mark.induction for mark in marks):
        kinds.append((INDUCTION, HEAD_KINDS["induction"].label))
    if any(mark.retrieval for mark in marks):
        kinds.append((RETRIEVAL, HEAD_KINDS["retrieval"].label))
    return [Line2D([], [], linestyle="none", label=label, **style) for style, label in kinds]
