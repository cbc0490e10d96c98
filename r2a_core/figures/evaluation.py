"""Does reasoning improve the answer? Accuracy with and without it (Figure 1a of the paper) and the tables beside it.

data/evaluation/<model>/<dataset>.json -> <folder>/accuracy, <folder>/table-2-funnel, <folder>/table-3-accuracy, and of
judged answers <folder>/judge-scores, <folder>/table-judge-scores (PNG and PDF; the tables also as parquet and CSV).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.figures.bars import NOTE, SIDES, AxisRange, BarPair, draw_pair, legend_handles, wrapped
from r2a_core.figures.evaluation_tables import accuracy_table, funnel_table, save_table
from r2a_core.figures.evaluation_tables import draw_accuracy_table as accuracy_sheet
from r2a_core.figures.evaluation_tables import draw_funnel_table as funnel_sheet
from r2a_core.figures.judged import draw_judged
from r2a_core.figures.style import GRID, save_figure
from r2a_core.infra.errors import MissingPrerequisite, R2AError

Summary = Mapping[str, Any]

PERCENT = AxisRange(0, 100)

PAGE_MODELS = 9  # pairs of bars beside one another


@dataclass(frozen=True)
class PublishedAccuracy:
    """Accuracy the paper gives for MATH-500, percent."""

    with_reasoning: float
    without_reasoning: float


# Figure 1a (temperature 0.6) and Table 3 (greedy).
PAPER_DATASET = "math500"

PAPER_SAMPLED = {
    "r1_llama_8b": PublishedAccuracy(93.5, 79.7),
    "r1_qwen_7b": PublishedAccuracy(94.3, 84.0),
    "r1_qwen_1b5": PublishedAccuracy(89.5, 81.0),
    "r1_full": PublishedAccuracy(96.1, 90.6),
}

PAPER_GREEDY = {
    "r1_llama_8b": PublishedAccuracy(94.1, 77.5),
    "r1_qwen_7b": PublishedAccuracy(95.4, 84.8),
    "r1_qwen_1b5": PublishedAccuracy(95.6, 86.8),
}


def read_summaries(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The summaries of the evaluate stage, in the given order. Raises R2AError when one is missing or not a summary."""
    summaries = []
    for path in paths:
        if not path.exists():
            raise MissingPrerequisite(f"{path} does not exist", "build it with: dvc repro evaluate")
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise R2AError(f"{path} is damaged or cut off: {error}", "rebuild it with: dvc repro evaluate") from None
        if missing := [name for name in ("model", "dataset", "funnel", "paired") if name not in summary]:
            raise R2AError(f"{path} has no {', '.join(missing)}", "rebuild it with: dvc repro evaluate")
        summaries.append(summary)
    return summaries


def draw_evaluation(summaries: Sequence[Summary], folder: Path) -> list[Path]:
    """Figures 1a and 1b and Tables 2 and 3 of all summaries into `folder`; returns the files.

    Figure 1b and its table are drawn only where answers were judged.
    """
    funnel, accuracy = funnel_table(summaries), accuracy_table(summaries)
    return [
        *save_figure(accuracy_figure(summaries), folder / "accuracy"),
        *save_figure(funnel_sheet(funnel), folder / "table-2-funnel"),
        *save_table(funnel, folder / "table-2-funnel"),
        *save_figure(accuracy_sheet(accuracy), folder / "table-3-accuracy"),
        *save_table(accuracy, folder / "table-3-accuracy"),
        *draw_judged(summaries, folder),
    ]


def published_accuracy(summary: Summary) -> PublishedAccuracy | None:
    """What the paper found for this model, dataset and decoding; None where it has no such run."""
    if summary["dataset"] != PAPER_DATASET:
        return None
    return (PAPER_GREEDY if summary["decoding"] == "greedy" else PAPER_SAMPLED).get(summary["model"])


def accuracy_figure(summaries: Sequence[Summary]) -> Figure:
    """Figure 1a: a panel a dataset, a pair of bars a model, over the items that are valid in both settings.

    Runs without graded items have no bars; a diamond marks the paper's own value where it has one.
    """
    graded = [summary for summary in summaries if summary["paired"]["accuracy_with"] is not None]
    datasets = list(dict.fromkeys(summary["dataset"] for summary in graded))
    if not datasets:
        return _empty_figure()
    panels = [[summary for summary in graded if summary["dataset"] == dataset] for dataset in datasets]
    fig, grid = _grid([max(2, len(panel)) for panel in panels])
    for axes, panel in zip(grid, panels, strict=True):
        _panel(axes, panel)
    handles = legend_handles(any(published_accuracy(summary) for summary in graded))
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.5)
    fig.supxlabel(NOTE if fig.get_figwidth() > 5 else NOTE.replace("   ·   ", "\n"), fontsize=7.5, color="#555555")
    return fig


def _grid(models: Sequence[int]) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each entry, as wide as its number of models; in rows where a page is too narrow."""
    columns = len(models) if sum(models) <= PAGE_MODELS else max(1, PAGE_MODELS // max(models))
    rows = -(-len(models) // columns)
    widths = list(models) if rows == 1 else [max(models)] * columns
    size = (max(4.6, 1.15 * sum(widths) + 0.5 * columns + 0.5), 3.0 * rows + 0.7)
    fig = Figure(figsize=size, layout="constrained")
    panels = fig.subplots(rows, columns, squeeze=False, sharey=True, width_ratios=widths)
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy (%)")
    for axes in panels.flat[len(models) :]:
        axes.set_axis_off()
    return fig, list(panels.flat[: len(models)])


def _panel(axes: Axes, summaries: Sequence[Summary]) -> None:
    """Bars of one dataset."""
    for place, summary in enumerate(summaries):
        draw_pair(axes, place, _pair(summary), PERCENT)
    names = [f"{wrapped(summary['model'])}\nn = {summary['paired']['n']}" for summary in summaries]
    axes.set_xticks(range(len(summaries)), names, parse_math=False)
    axes.set(xlim=(-0.6, max(2, len(summaries)) - 0.4), ylim=(0, 113), yticks=range(0, 101, 20))
    if len(summaries) == 1:
        axes.set_xlim(-1.1, 1.1)
    decodings = ", ".join(dict.fromkeys(str(summary["decoding"]) for summary in summaries))
    axes.set_title(f"{summaries[0]['dataset']} ({decodings})", parse_math=False)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _pair(summary: Summary) -> BarPair:
    """Accuracies in percent, and the paper's."""
    paired, published = summary["paired"], published_accuracy(summary)
    mean, low, high = (
        {side: 100 * paired[f"{name}_{side}"] for side in SIDES.values()} for name in ("accuracy", "low", "high")
    )
    paper = None if published is None else {side: getattr(published, setting) for setting, side in SIDES.items()}
    return BarPair(mean, low, high, paired["p"], paper)


def _empty_figure() -> Figure:
    """A figure that says that there is nothing to draw yet."""
    fig = Figure(figsize=(4.6, 1.2))
    fig.text(0.5, 0.5, "no graded answers valid in both settings", ha="center", va="center")
    return fig
