"""What cutting sets of heads costs the answer, and its result: a row per set, beside random sets of the same layers.

records of knockout/summary.py of one view, by model -> <folder>/knockout-<dataset>, for a view of the reasoning's rows
knockout-<dataset>-<view> (PNG and PDF).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.appearance import CUT_COLOURS, INK
from r2a_core.figures.style import save_figure
from r2a_core.results import VIEWS

PARTS = {"loss": "answer", "result_loss": "result"}
REASONING_PARTS = {"reasoning_loss": "reasoning", "loss": "answer"}


def draw_knockout(records: Mapping[str, Sequence[dict[str, Any]]], dataset: str, folder: Path, view: str) -> list[Path]:
    """Draw one picture of a dataset and view."""
    name = f"knockout-{dataset}" + ("" if view == "answer" else f"-{view}")
    return save_figure(knockout_figure(records, dataset, view), folder / name)


def knockout_figure(records: Mapping[str, Sequence[dict[str, Any]]], dataset: str, view: str = "answer") -> Figure:
    """Draw a row of panels per model: loss of the answer, and of its result alone, mean and 95% interval over traces.

    Where the reasoning's rows are cut: loss of the reasoning, and of the answer. Grey dots are random sets, each the
    mean over the same traces.
    """
    parts = PARTS if view == "answer" else REASONING_PARTS
    heights = [0.9 + 0.19 * len(each) for each in records.values()]
    fig = Figure(figsize=(8.4, sum(heights) + 0.5), layout="constrained")
    grid = fig.subplots(len(records), len(parts), squeeze=False, height_ratios=heights)
    for row, (model, own) in zip(grid, records.items(), strict=True):
        for axes, (part, noun) in zip(row, parts.items(), strict=True):
            _panel(axes, own, part)
            axes.set_xlabel(f"nats that a token of the {noun} loses")
            axes.set_title(f"{model}, n = {own[0]['n_traces']}", parse_math=False)
        row[1].set_yticklabels([])
    rows, hidden = VIEWS[view]
    fig.suptitle(f"Heads of the {rows} that no longer see {hidden}, {dataset}", parse_math=False)
    return fig


def _panel(axes: Axes, records: Sequence[dict[str, Any]], part: str) -> None:
    """One model: sets from the top down."""
    axes.axvline(0, color=INK, linewidth=0.7)
    for place, record in enumerate(records):
        loss = record[part]
        axes.plot([loss["low"], loss["high"]], [place, place], color=CUT_COLOURS[record["kind"]], linewidth=1.4)
        axes.plot([loss["mean"]], [place], "o", color=CUT_COLOURS[record["kind"]], markersize=4.5, gid="mean")
        if loss["random"]:
            means = loss["random"]["means"]
            axes.plot(means, [place] * len(means), "o", color="0.55", markersize=2.6, alpha=0.7, zorder=1, gid="random")
    kinds = len({record["kind"] for record in records}) > 1
    names = [f"{each['set']} {each['k']}" + (f", {each['kind']}" if kinds else "") for each in records]
    axes.set_yticks(range(len(records)), names, fontsize=7.5)
    axes.invert_yaxis()
    axes.grid(axis="x")
