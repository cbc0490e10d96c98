"""Hidden sentences, by what the answer's attention gives them, and receiver heads with and without control.

points and receiver records of sentences/summary.py by model -> <folder>/sentences-<dataset> (PNG and PDF).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.appearance import BLUE, INK, ORANGE
from r2a_core.figures.style import save_figure, say_empty
from r2a_core.sentences.summary import CONTROLLED, MEASURES

LEAST_KL = 1e-5  # nats; what is less is drawn here


def draw_sentences(found: Mapping[str, tuple[pl.DataFrame, dict[str, Any]]], dataset: str, folder: Path) -> list[Path]:
    """Draw one picture of a dataset."""
    return save_figure(sentences_figure(found, dataset), folder / f"sentences-{dataset}")


def sentences_figure(found: Mapping[str, tuple[pl.DataFrame, dict[str, Any]]], dataset: str) -> Figure:
    """Draw two panels per model. found: points, and the record of `sentences_summary`."""
    fig = Figure(figsize=(8.4, 3.1 * len(found) + 0.4), layout="constrained")
    grid = fig.subplots(len(found), 2, squeeze=False)
    for row, (model, (points, record)) in zip(grid, found.items(), strict=True):
        if record["hidden"] is not None:
            _hidden(row[0], points, record["hidden"]["rounding"]["answer_kl"])
        _receivers(row[1], record["receivers"])
        row[0].set_title(f"{model}, {points['item_id'].n_unique()} traces", parse_math=False)
    fig.suptitle(f"Sentences of the reasoning, {dataset}", parse_math=False)
    return fig


def _hidden(axes: Axes, points: pl.DataFrame, rounding: float) -> None:
    """Each hidden sentence: the answer's attention to it, and what hiding it does; a colour per trace."""
    for (_,), rows in points.drop_nulls("attended").group_by("item_id", maintain_order=True):
        axes.plot(
            rows["attended"], rows["answer_kl"].clip(lower_bound=LEAST_KL), "o", markersize=4, alpha=0.8, gid="trace"
        )
    if rounding >= LEAST_KL:
        axes.axhline(rounding, color=INK, linewidth=0.8, linestyle="--", gid="rounding")
    axes.set(yscale="log", xlabel="answer's attention over even reading")
    axes.set_xlim(left=0)
    dashed = "\ndashed: rounding alone" if rounding >= LEAST_KL else ""
    axes.set_ylabel(f"KL of the answer when hidden (nats){dashed}")


def _receivers(axes: Axes, records: Sequence[dict[str, Any]]) -> None:
    """Kurtosis of each kind: r with length, and of the heads' means between halves of the traces."""
    rows = [(each, name) for each in records for name in CONTROLLED]
    for label, key, mark, colour in (
        ("number of sentences", "length", "x", ORANGE),
        ("other traces", "reliability", "o", BLUE),
    ):
        known = [(place, each[name][key]) for place, (each, name) in enumerate(rows) if each[name][key] is not None]
        if known:
            axes.plot([r for _, r in known], [place for place, _ in known], mark, color=colour, label=label, gid=key)
    axes.axvline(0, color=INK, linewidth=0.7)
    names = [f"{MEASURES[name]}, {each['proximity']} (n = {each[name]['n_traces']})" for each, name in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7.5)
    axes.invert_yaxis()
    axes.set(xlim=(-1.04, 1.04), xlabel="kurtosis of heads: r with")
    axes.grid(axis="x")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7.5, frameon=True)
    else:
        say_empty(axes, "too few traces")
