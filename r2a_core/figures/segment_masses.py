"""Where answer tokens look: segment masses over traces and over heads (Figures 2, 3, 9 and 10 of the paper).

data/attention/<model>/<dataset>/<setting>.parquet, data/heads/<model>.parquet
-> <folder>/segment-masses-<dataset>, <folder>/head-maps-<dataset> (PNG and PDF).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from r2a_core.figures.style import BLUE, INK, SETTING_COLOURS, VERMILION, save_figure
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame

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


@dataclass(frozen=True)
class AttentionRun:
    """Attention masses of one model on one dataset in one setting, and where they lie."""

    model: str
    dataset: str
    setting: str
    path: Path


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


def _distinct(values: Iterable[str]) -> list[str]:
    """Values in order of first appearance."""
    return list(dict.fromkeys(values))


def _dataset(runs: Sequence[AttentionRun]) -> str:
    """The one dataset of the runs. Raises R2AError when there is none or more than one."""
    names = _distinct(run.dataset for run in runs)
    if len(names) != 1:
        raise R2AError(f"a figure shows one dataset, found {', '.join(names) or 'none'}", "draw one figure a dataset")
    return names[0]
