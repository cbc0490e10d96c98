"""Which instrument tells answers that depend on the trace from others, and how far instruments agree.

AUC_SCHEMA and AGREEMENT_SCHEMA tables -> <folder>/auc, <folder>/agreement-<model> (PNG and PDF).
"""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from r2a_core.figures.style import BLUE, GRID, INK, ORANGE, save_figure
from r2a_core.instruments.catalogue import INSTRUMENTS, grid
from r2a_core.instruments.words import label

LEVELS = {"item": (BLUE, 0.14, "single items"), "model": (ORANGE, -0.14, "means of a model on a dataset")}


def draw_instruments(auc: pl.DataFrame, agreement: pl.DataFrame, folder: Path) -> None:
    """Draw the AUCs where there are any, and the agreement of each model's instruments."""
    if auc["auc"].is_not_null().any():
        save_figure(auc_figure(auc), folder / "auc")
    for (model,), own in agreement.group_by("model", maintain_order=True):
        if own["rho"].is_not_null().any():
            save_figure(agreement_figure(own, str(model)), folder / f"agreement-{model}")


def auc_figure(auc: pl.DataFrame) -> Figure:
    """Draw a row per instrument: AUC of items and of models with their intervals, and the passes that it takes."""
    known = auc.drop_nulls("auc")
    names = [name for name in INSTRUMENTS if name in known["instrument"]]
    fig = Figure(figsize=(7.6, 0.95 + 0.29 * len(names)), layout="constrained")
    axes = fig.subplots()
    labels = []
    for place, name in enumerate(names):
        for row in known.filter(pl.col("instrument") == name).iter_rows(named=True):
            colour, lift, _ = LEVELS[row["level"]]
            axes.plot([row["low"], row["high"]], [place - lift] * 2, color=colour, linewidth=1.4)
            axes.plot([row["auc"]], [place - lift], "o", color=colour, markersize=4.5, gid=row["level"])
        labels.append(f"{label(row)}, {row['passes']:.1f}")
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle="--")
    for colour, _, words in LEVELS.values():
        axes.plot([], [], "o-", color=colour, markersize=4.5, linewidth=1.4, label=words)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(-0.03, 1.03), xticks=np.linspace(0, 1, 6))
    axes.set_xlabel("AUC with 95% interval; beside names: passes over a trace; * circular")
    axes.grid(axis="x")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


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
