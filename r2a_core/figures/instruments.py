"""Which instrument tells answers that depend on the trace from others, and how far instruments agree.

AUC_SCHEMA and AGREEMENT_SCHEMA tables -> <folder>/auc, <folder>/agreement-<model> (PNG and PDF).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.appearance import INK, PALETTE
from r2a_core.figures.style import GRID, save_figure
from r2a_core.instruments.belief import beliefs
from r2a_core.instruments.catalogue import INSTRUMENTS, grid


def draw_instruments(auc: pl.DataFrame, agreement: pl.DataFrame, folder: Path) -> None:
    """Draw the AUCs where there are any, and the agreement of each model's instruments."""
    if auc["auc"].is_not_null().any():
        save_figure(auc_figure(auc), folder / "auc")
    for (model,), own in agreement.group_by("model", maintain_order=True):
        if own["rho"].is_not_null().any():
            save_figure(agreement_figure(own, str(model)), folder / f"agreement-{model}")


def auc_figure(auc: pl.DataFrame) -> Figure:
    """Draw a row per instrument: AUC of each pair of models with its interval, what that is worth, and the passes."""
    judged = beliefs(auc)
    pairs = auc.filter(pl.col("level") == "pair").select("depends", "other").unique(keep="first", maintain_order=True)
    fig = Figure(figsize=(8.4, 1.0 + 0.16 * pairs.height + 0.29 * len(judged)), layout="constrained")
    axes = fig.subplots()
    for number, pair in enumerate(pairs.iter_rows()):
        rows = auc.filter(pl.col("depends") == pair[0], pl.col("other") == pair[1])
        draw_pair(axes, rows, [each.instrument for each in judged], (number + 0.5) / pairs.height - 0.5, number)
    for place, each in enumerate(judged):
        if each.auc is None:
            axes.text(0.02, place, each.why or "", va="center", fontsize=7, style="italic", parse_math=False)
        weight = "bold" if each.verdict in ("clearly", "reversed") else "normal"
        axes.text(1.05, place, each.verdict, va="center", fontsize=8, weight=weight)
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(judged)), [f"{each.label}, {each.passes:.1f}" for each in judged], fontsize=8)
    axes.set(ylim=(len(judged) - 0.5, -0.5), xlim=(-0.03, 1.03), xticks=np.linspace(0, 1, 6))
    axes.set_xlabel("AUC of single items with 95% interval; beside names: passes over a trace; * circular")
    axes.grid(axis="x")
    fig.legend(loc="outside upper center", ncols=1)
    return fig


def draw_pair(axes: Axes, rows: pl.DataFrame, names: Sequence[str], lift: float, number: int) -> None:
    """Draw the AUCs of one pair of models, in the row of each instrument."""
    known, colour = rows.drop_nulls("auc"), PALETTE[number % len(PALETTE)]
    places = [names.index(name) + 0.6 * lift for name in known["instrument"]]
    axes.hlines(places, known["low"], known["high"], color=colour, linewidth=1.3)
    words = f"{rows['depends'][0]} against {rows['other'][0]}"
    axes.plot(known["auc"], places, "o", color=colour, markersize=4, label=words, gid=f"pair {number}")


def agreement_figure(agreement: pl.DataFrame, model: str) -> Figure:
    """Draw rho of every two instruments; a dot where it is beyond chance, no colour where there is none."""
    names, rho, told = grid(agreement)
    fig = Figure(figsize=(3.3 + 0.33 * len(names), 2.6 + 0.3 * len(names)), layout="constrained")
    axes = fig.subplots()
    axes.set_facecolor(GRID)
    image = axes.imshow(rho, vmin=-1, vmax=1, cmap="RdBu", gid="rho")
    rows, columns = np.nonzero(told)
    axes.plot(columns, rows, ".", color=INK, markersize=3, gid="told")
    labels = [INSTRUMENTS[name].label for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=7.5)
    axes.set_yticks(range(len(names)), labels, fontsize=7.5)
    fig.colorbar(image, ax=axes, label="Spearman's rho within datasets; dot: p < 5% (Holm)", shrink=0.7)
    n = agreement.filter(pl.col("dataset").is_null(), pl.col("rho").is_not_null())["n"]
    axes.set_title(f"{model}, {n.min()} to {n.max()} items", parse_math=False)
    return fig
