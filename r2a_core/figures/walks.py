"""Overview of all heads: which walk along the reasoning, how little the head kinds overlap, which are near-uniform.

rows of data/heads/<model>.parquet, by model -> one picture per dataset.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

from r2a_core.appearance import INK, RED, SKY
from r2a_core.config import WalkThresholds
from r2a_core.results import HeadSets, head_name, head_sets

PANEL = (2.9, 2.4)  # inches, about the size of one scatter panel

DISC = 0.16  # inches between the discs that carry a rank

KINDS = ("RFH", "induction", "retrieval")

MEMBERSHIPS = tuple(kinds for kinds in product((True, False), repeat=3) if any(kinds))


def overlap_counts(sets: HeadSets) -> dict[tuple[bool, ...], int]:
    """Count the heads of each exact combination of (RFH, induction, retrieval); a head is counted once."""
    kinds = [set(sets.rfh), set(sets.induction), set(sets.retrieval)]
    found = [tuple(head in kind for kind in kinds) for head in set().union(*kinds)]
    return {each: found.count(each) for each in MEMBERSHIPS}


def walk_overview_figure(heads: Mapping[str, pl.DataFrame], dataset: str, thresholds: WalkThresholds) -> Figure:
    """Draw a row per model: weighted walk correlation against mass, overlap of the kinds, uniformity by layer.

    heads: rows of HEAD_SCHEMA of the dataset, by model. RFHs are red and carry their rank; the line below each row
    says which they are.
    """
    fig = Figure(figsize=(10.5, 3.5 * len(heads)), layout="constrained")
    rows = fig.subfigures(len(heads), 1, squeeze=False)[:, 0]
    for (model, scores), row in zip(heads.items(), rows, strict=True):
        scores, sets = scores.sort("rank"), head_sets(scores)
        grid = row.add_gridspec(1, 3)
        _walk_scatter(row.add_subplot(grid[0]), scores, thresholds)
        _overlap(row, grid[1], sets, len(scores))
        _uniformity(row.add_subplot(grid[2]), scores)
        row.suptitle(f"{model}, {dataset}", parse_math=False, fontsize=10)
        chosen = scores.filter("reasoning_focus").select("rank", "layer", "head").iter_rows()
        ranks = "   ".join(f"{rank} {head_name(*head)}" for rank, *head in chosen)
        row.supxlabel(f"RFH by rank:   {ranks or 'none'}", fontsize=8)
    return fig


def _walk_scatter(axes: Axes, scores: pl.DataFrame, thresholds: WalkThresholds) -> None:
    """Weighted walk correlation and mass of every head; dashed lines at the thresholds."""
    axes.set(xlim=(-0.03, 1.03), ylim=(-1.08, 1.08))
    axes.set_xlabel("attention mass answer \u2192 reasoning", fontsize=8)
    axes.set_ylabel("walk correlation, weighted by mass", fontsize=8)
    axes.axvline(thresholds.mass, color=INK, linewidth=0.7, linestyle="--", gid="threshold")
    axes.axhline(thresholds.correlation, color=INK, linewidth=0.7, linestyle="--", gid="threshold")
    head_points(axes, scores, "answer_to_reasoning", "walk_correlation_weighted")


def _uniformity(axes: Axes, scores: pl.DataFrame) -> None:
    """Uniformity of every head by layer: early heads whose maps are near-uniform stand out at the top left."""
    axes.set(xlim=(-0.6, max(scores["layer"]) + 0.6), ylim=(-0.05, 1.05))
    axes.set_xlabel("layer", fontsize=8)
    axes.set_ylabel("uniformity of the map", fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    head_points(axes, scores, "layer", "uniformity")


def head_points(axes: Axes, scores: pl.DataFrame, x: str, y: str) -> None:
    """All heads that have both values as dots; RFHs in red, each joined to a disc with its rank.

    The limits of the axes must be set: discs are kept apart in the panel's own inches.
    """
    known = scores.drop_nulls([x, y])
    chosen = known.filter("reasoning_focus")
    axes.scatter(known[x], known[y], s=9, color=SKY, edgecolors=INK, linewidths=0.3)
    axes.scatter(chosen[x], chosen[y], s=12, color=RED, zorder=3)
    axes.tick_params(labelsize=8)
    places = chosen.select(x, y).to_numpy().astype(float)
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    scale = np.array(PANEL) / (high - low)
    discs = keep_apart(places * scale, DISC, low * scale, high * scale) / scale
    for place, disc, rank in zip(places, discs, chosen["rank"], strict=True):
        axes.plot(*zip(place, disc, strict=True), color=RED, linewidth=0.7, zorder=3, clip_on=False)
        mark = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": RED, "linewidth": 0.8}
        axes.text(disc[0], disc[1], str(rank), color=RED, fontsize=6, ha="center", va="center", bbox=mark, zorder=4)


def keep_apart(places: np.ndarray, gap: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Find label places (n, 2) near `places`, inside low..high: about `gap` from each other and off the marked places.

    All in the same unit; low and high are (2,). Too many labels for the room still overlap.
    """
    turns = np.arange(len(places)) * 2.4  # radians; a first nudge that parts places that coincide
    moved = places + gap * np.column_stack([np.cos(turns), np.sin(turns)])
    for _ in range(300):
        moved = moved + (_push(moved, moved, gap) + _push(moved, places, 0.75 * gap)) / 2
        moved = np.clip(moved, low + gap / 2, high - gap / 2)
    return moved


def _push(labels: np.ndarray, others: np.ndarray, gap: float) -> np.ndarray:
    """(n, 2) sum of the steps that take each label `gap` away from the others that are nearer; none from itself."""
    away = labels[:, None] - others[None]
    distance = np.linalg.norm(away, axis=-1)
    step = np.where((distance > 0) & (distance < gap), gap - distance, 0) / np.maximum(distance, 1e-9)
    return (away * step[..., None]).sum(axis=1)


def _overlap(row, place: SubplotSpec, sets: HeadSets, n_heads: int) -> None:
    """Bars: heads of each combination of kinds; below each bar, the dots say which kinds it is."""
    counts = overlap_counts(sets)
    grid = place.subgridspec(2, 1, height_ratios=[2.4, 1], hspace=0.02)
    bars, dots = row.add_subplot(grid[0]), row.add_subplot(grid[1])
    columns = range(len(counts))
    shades = [RED if kinds[0] and sum(kinds) > 1 else SKY for kinds in counts]
    drawn = bars.bar(columns, list(counts.values()), color=shades, edgecolor=INK, linewidth=0.6)
    bars.bar_label(drawn, fontsize=8)
    bars.set_ylim(0, max(1, *counts.values()) * 1.15)
    bars.set_ylabel("heads", fontsize=8)
    overlaps = sets.overlaps(n_heads)
    chance = [
        f"{KINDS[0]} and {kind}: {found['shared']}, by chance {found['expected']:.1f} (p = {found['p']:.2g})"
        for kind in KINDS[1:]
        for found in (overlaps[f"rfh_and_{kind}"],)
    ]
    bars.set_title("\n".join(chance), fontsize=7)
    bars.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    _membership_dots(dots, list(counts))
    sizes = (len(sets.rfh), len(sets.induction), len(sets.retrieval))
    dots.set_yticks(range(3), [f"{kind} ({size})" for kind, size in zip(KINDS, sizes, strict=True)], fontsize=8)
    for axes in (bars, dots):
        axes.set(xlim=(-0.6, len(counts) - 0.4))
        axes.set_xticks([])
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)


def _membership_dots(axes: Axes, memberships: Sequence[tuple[bool, ...]]) -> None:
    """A column a combination: full dots for the kinds in it, joined by a line."""
    for column, kinds in enumerate(memberships):
        inside = np.flatnonzero(kinds)
        axes.plot([column, column], [inside[0], inside[-1]], color=INK, linewidth=1.2)
        axes.scatter([column] * 3, range(3), s=28, color=[INK if kind else "0.87" for kind in kinds], zorder=2)
    axes.set_ylim(2.5, -0.5)
