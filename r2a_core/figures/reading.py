"""Heads beyond the length of the trace: mass and what is left of it, what length does to each score, broken walks.

rows of WALK_SCHEMA by dataset -> <folder>/walks-<model>, and reasoning-rows-<model> of the reasoning's own rows where
these were measured (PNG and PDF).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from r2a_core.appearance import BLUE, INK, RED
from r2a_core.config import WalksParams
from r2a_core.figures.style import save_figure, say_empty
from r2a_core.results import VIEWS, by_view
from r2a_core.walks.summary import BROKEN, LENGTHS, MEASURES, best_walks, broken_record, head_table, pooled_record

ODDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)  # ticks


def draw_reading(walks: Mapping[str, pl.DataFrame], model: str, params: WalksParams, folder: Path) -> list[Path]:
    """Draw the pictures of a model. walks: rows of all views."""
    views = {dataset: by_view(frame) for dataset, frame in walks.items()}
    own = {dataset: parts.pop("answer") for dataset, parts in views.items()}
    paths = save_figure(reading_figure(own, model, params), folder / f"walks-{model}")
    if not any(views.values()):
        return paths
    return [*paths, *save_figure(rows_figure(views, model, params.near_uniform), folder / f"reasoning-rows-{model}")]


def rows_figure(views: Mapping[str, Mapping[str, pl.DataFrame]], model: str, near_uniform: float) -> Figure:
    """Draw a row of panels per dataset, one per view of the reasoning's own rows: mass and excess of every head."""
    names = [view for view in VIEWS if any(view in frames for frames in views.values())]
    fig = Figure(figsize=(3.5 * len(names), 2.9 * len(views) + 0.4), layout="constrained")
    grid = fig.subplots(len(views), len(names), squeeze=False)
    for row, (dataset, frames) in zip(grid, views.items(), strict=True):
        for axes, view in zip(row, names, strict=True):
            axes.set_visible(view in frames)
            if view in frames:
                _excess(axes, head_table(frames[view], near_uniform), VIEWS[view][1])
                axes.set_title(f"{dataset}, n = {frames[view]['item_id'].n_unique()}", parse_math=False)
    fig.suptitle(f"{model}, rows of the reasoning\n(empty: read evenly, or less, sinks left out)", parse_math=False)
    return fig


def reading_figure(walks: Mapping[str, pl.DataFrame], model: str, params: WalksParams) -> Figure:
    """Draw a row of panels per dataset: mass and excess of every head, correlations with length, odds ratios.

    walks: rows of the view answer. The last row's odds ratios are those of all datasets together.
    """
    fig = Figure(figsize=(10.5, 2.9 * len(walks) + 0.4), layout="constrained")
    pooled = pooled_record(walks, params)
    for row, (dataset, frame) in zip(fig.subplots(len(walks), 3, squeeze=False), walks.items(), strict=True):
        heads, best = head_table(frame, params.near_uniform), best_walks(frame, params.heads)
        _excess(row[0], heads, VIEWS["answer"][1])
        row[0].set_title(f"{dataset}, n = {frame['item_id'].n_unique()}", parse_math=False)
        _lengths(row[1], heads)
        _odds(row[2], {name: broken_record([best], name) for name in BROKEN}, pooled)
    fig.suptitle(
        f"{model} (empty circles: heads that read evenly, or less, sinks left out; odds where a walk is 1 SD worse)",
        parse_math=False,
    )
    return fig


def _excess(axes: Axes, heads: pl.DataFrame, read: str) -> None:
    """Every head; empty where it reads evenly or, sinks left out, no more than even reading does."""
    known = heads.drop_nulls("excess")
    for kept, gid, inside, edge in ((True, "kept", BLUE, BLUE), (False, "dropped", "none", INK)):
        rows = known.filter(pl.col("rank_by_excess").is_not_null() == kept)
        axes.scatter(rows["mass"], rows["excess"], s=10, linewidths=0.6, facecolors=inside, edgecolors=edge, gid=gid)
    axes.axhline(0, color=INK, linewidth=0.7)
    axes.set(xlim=(-0.02, 1.02), xlabel=f"mass on {read}")
    axes.set_ylabel("beyond reading by distance")


def _lengths(axes: Axes, heads: pl.DataFrame) -> None:
    """Pearson's r of each score with the length of the reasoning: a bar a head, a dot the median."""
    for place, name in enumerate(LENGTHS):
        r = heads[f"length_{name}"].drop_nulls()
        axes.plot(r, [place] * r.len(), "|", color=BLUE, alpha=0.35, markersize=8)
        if r.len():
            axes.plot([np.median(r.to_numpy())], [place], "o", color=INK, markersize=4.5, gid="median")
    axes.axvline(0, color=INK, linewidth=0.7)
    axes.set(xlim=(-1, 1), xlabel="r with the length of the reasoning, over traces")
    axes.set_yticks(range(len(LENGTHS)), [MEASURES[name] for name in LENGTHS], fontsize=7)
    axes.invert_yaxis()


def _odds(axes: Axes, own: Mapping[str, dict[str, Any]], pooled: Mapping[str, dict[str, Any]]) -> None:
    """Odds of a wrong answer when a walk is one standard deviation worse: of the dataset, and of all (red)."""
    names, ends = [], [0.4, 2.5]
    for place, (name, records) in enumerate((name, (own[name], pooled[name])) for name in BROKEN):
        for shift, record, colour in zip((-0.12, 0.12), records, (BLUE, RED), strict=True):
            if record["odds_ratio"] is not None:
                ends += [record["low"], record["high"]]
                axes.plot(ends[-2:], [place + shift] * 2, color=colour, linewidth=1.4)
                axes.plot([record["odds_ratio"]], [place + shift], "o", color=colour, markersize=4.5, gid="odds")
        graded = f"{own[name]['n_wrong']} of {own[name]['n']} wrong" if own[name]["n"] else "one outcome alone"
        names.append(f"{MEASURES[name]}\n{graded}")
    if len(ends) == 2:
        say_empty(axes, "too few wrong answers")
    axes.axvline(1, color=INK, linewidth=0.7)
    low, high = min(ends) / 1.1, max(ends) * 1.1
    ticks = [tick for tick in ODDS if low <= tick <= high]
    axes.set(xscale="log", xlim=(low, high))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("odds of a wrong answer (red: all)")
    axes.set_yticks(range(len(BROKEN)), names, fontsize=7)
    axes.set_ylim(len(BROKEN) - 0.5, -0.5)
