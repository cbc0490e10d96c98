"""Does reasoning improve the answer? Accuracy with and without it (Figure 1a of the paper) and the tables beside it.

data/evaluation/<model>/<dataset>.json -> <folder>/accuracy, <folder>/table-2-funnel, <folder>/table-3-accuracy (PNG and
PDF; the tables also as parquet and CSV), and what r2a_core.figures.answers and judged draw.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.evaluation.paired import deciding_p
from r2a_core.figures.answers import draw_answers
from r2a_core.figures.bars import (
    CHANCE,
    AxisRange,
    BarPair,
    bar_pair,
    bars_note,
    by_side,
    draw_pair,
    legend_handles,
    wrapped,
)
from r2a_core.figures.judged import draw_judged
from r2a_core.figures.style import GRID, save_figure
from r2a_core.figures.tables import (
    GAIN,
    accuracy_table,
    accuracy_table_figure,
    funnel_table,
    funnel_table_figure,
    interval_text,
    save_table,
)
from r2a_core.paper import PublishedAccuracy, accuracy

Summary = Mapping[str, Any]

PERCENT = AxisRange(0, 100)

PAGE_MODELS = 9  # pairs of bars beside one another


def draw_evaluation(summaries: Sequence[Summary], folder: Path) -> list[Path]:
    """Draw Figures 1a and 1b, Tables 2 and 3 and the kinds of answers into `folder`; return the files.

    Figure 1b and its table are drawn only where answers were judged, the kinds of answers where they were graded.
    """
    funnel, accuracies = funnel_table(summaries), accuracy_table(summaries)
    return [
        *save_figure(accuracy_figure(summaries), folder / "accuracy"),
        *save_figure(funnel_table_figure(funnel), folder / "table-2-funnel"),
        *save_table(funnel, folder / "table-2-funnel"),
        *save_figure(accuracy_table_figure(accuracies), folder / "table-3-accuracy"),
        *save_table(accuracies, folder / "table-3-accuracy"),
        *draw_answers(summaries, folder),
        *draw_judged(summaries, folder),
    ]


def accuracy_figure(summaries: Sequence[Summary]) -> Figure:
    """Draw Figure 1a: a panel per dataset, a pair of bars per model, over the items that are valid in all settings.

    Runs without graded items have no bars. A dotted line marks what guessing among the options gets right, a diamond
    the paper's own value. Below a pair: the difference in points with its interval.
    """
    graded = [summary for summary in summaries if summary["paired"]["accuracy_with"] is not None]
    datasets = list(dict.fromkeys(summary["dataset"] for summary in graded))
    if not datasets:
        return _empty_figure()
    panels = [[summary for summary in graded if summary["dataset"] == dataset] for dataset in datasets]
    fig, grid = _grid([max(2, len(panel)) for panel in panels])
    for axes, panel in zip(grid, panels, strict=True):
        _panel(axes, panel)
    published, chance = (any(map(each, graded)) for each in (_published, lambda summary: summary["chance"] is not None))
    handles = legend_handles(published, graded[0]["funnel"], chance)
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.5)
    compared = [summary["paired"] for summary in graded]
    note = bars_note(compared, fig.get_figwidth(), "below: difference in points, 95% interval")
    fig.supxlabel(note, fontsize=7.5, color="#555555")
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
        if summary["chance"] is not None:
            level = 100 * summary["chance"]
            axes.plot([place - 0.45, place + 0.45], [level, level], gid="chance", zorder=2.5, **CHANCE)
    names = [f"{wrapped(summary['model'])}\nn = {summary['paired']['n']}{_gained(summary)}" for summary in summaries]
    axes.set_xticks(range(len(summaries)), names, parse_math=False)
    axes.set(xlim=(-0.6, max(2, len(summaries)) - 0.4), ylim=(0, 113), yticks=range(0, 101, 20))
    if len(summaries) == 1:
        axes.set_xlim(-1.1, 1.1)
    decodings = ", ".join(dict.fromkeys(str(summary["decoding"]) for summary in summaries))
    axes.set_title(f"{summaries[0]['dataset']} ({decodings})", parse_math=False)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _gained(summary: Summary) -> str:
    """A line with the difference in points and its interval; empty where one setting alone was run."""
    values = [summary["paired"][name] for name in ("difference", "low_difference", "high_difference")]
    return "" if values[0] is None else f"\n{interval_text(values, GAIN, 100)}"


def _published(summary: Summary) -> PublishedAccuracy | None:
    return accuracy(summary["model"], summary["dataset"], summary["decoding"])


def _pair(summary: Summary) -> BarPair:
    """Accuracies in percent, and the paper's."""
    paired, published = summary["paired"], _published(summary)
    return bar_pair(paired, "accuracy", deciding_p(paired), by_side(published), 100)


def _empty_figure() -> Figure:
    """A figure that says that there is nothing to draw yet."""
    fig = Figure(figsize=(4.6, 1.2))
    fig.text(0.5, 0.5, "no graded answers valid in all settings", ha="center", va="center")
    return fig
