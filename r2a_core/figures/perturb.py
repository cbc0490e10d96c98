"""What becomes of the answer when the reasoning is cut after each sentence, and when it is changed.

records of perturb/summary.py by model -> <folder>/perturb-<dataset> (PNG and PDF).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.appearance import BLUE, CUT_CURVES, INK, MISTAKES, ORANGE
from r2a_core.figures.style import save_figure
from r2a_core.perturb.words import label_of

APART = 0.008  # of two marks at one place


def draw_perturb(records: Mapping[str, dict[str, Any]], dataset: str, folder: Path) -> list[Path]:
    """Draw one picture of a dataset."""
    return save_figure(perturb_figure(records, dataset), folder / f"perturb-{dataset}")


def perturb_figure(records: Mapping[str, dict[str, Any]], dataset: str) -> Figure:
    """Draw two panels per model: curves over the share of sentences that stay, and same answers by change."""
    heights = [max(2.6, 0.9 + 0.19 * len(record["arms"])) for record in records.values()]
    fig = Figure(figsize=(8.4, sum(heights) + 0.4), layout="constrained")
    grid = fig.subplots(len(records), 2, squeeze=False, height_ratios=heights)
    for row, (model, record) in zip(grid, records.items(), strict=True):
        _curves(row[0], record)
        _arms(row[1], record)
        row[0].set_title(f"{model}, n = {record['n_items'] - record['n_noise']}", parse_math=False)
    fig.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7.5)
    fig.suptitle(f"The answer after changed reasoning, {dataset}", parse_math=False)
    return fig


def _curves(axes: Axes, record: dict[str, Any]) -> None:
    """Curves of cuts, same answers with their interval; answers after mistakes; boundaries as ticks at the bottom."""
    curve = record["curve"]
    for name, look in CUT_CURVES.items():
        if points := curve[name]:
            means, line = [point["mean"] for point in points], (0, look.dash) if look.dash else "-"
            axes.plot(curve["fraction"], means, color=look.colour, label=look.label, gid=name, linestyle=line)
    if points := curve["same"]:
        low, high = (np.array([point[end] for point in points], dtype=float) for end in ("low", "high"))
        axes.fill_between(curve["fraction"], low, high, color=BLUE, alpha=0.15, linewidth=0)
    for name, look in MISTAKES.items():
        if points := curve[name]:
            at, middle, low, high = (
                np.array([point[key] for point in points], dtype=float) for key in ("place", "mean", "low", "high")
            )
            at += {"made": -1, "none": 1}[name] * APART
            axes.vlines(at, low, high, color=look.colour, linewidth=1.4)
            axes.plot(at, middle, "o", color=look.colour, label=look.label, gid=name, markersize=4.5)
    axes.plot(record["boundary"]["places"], [0] * len(record["boundary"]["places"]), "|", color=INK, gid="boundary")
    axes.set(
        xlabel="share of the sentences that stay,\nor up to the mistake", ylabel="mean over traces", ylim=(-0.04, 1.04)
    )


def _arms(axes: Axes, record: dict[str, Any]) -> None:
    """The share of same answers after each change, with its interval."""
    for place, arm in enumerate(record["arms"]):
        same = arm["same"]
        axes.plot([same["low"], same["high"]], [place, place], color=BLUE, linewidth=1.4)
        axes.plot([same["mean"]], [place], "o", color=BLUE, markersize=4.5, gid="mean")
        if arm["took"]["n"]:
            axes.plot([arm["took"]["mean"]], [place], "x", color=ORANGE, markersize=5, gid="took")
    axes.set_yticks(
        range(len(record["arms"])), [f"{label_of(arm)} ({arm['same']['n']})" for arm in record["arms"]], fontsize=7.5
    )
    axes.invert_yaxis()
    axes.set(xlim=(-0.04, 1.04), xlabel="same answer (n)\neach: values changed\nx: the one put in its place")
    axes.grid(axis="x")
