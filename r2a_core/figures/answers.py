"""What was answered? The right answer, another option, a third thing or nothing, with and without reasoning.

summaries of the evaluate stage -> <folder>/answers (PNG and PDF) and <folder>/table-answers (parquet and CSV); nothing
where no answers were graded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from r2a_core.appearance import INK
from r2a_core.evaluation.answers import KINDS, kinds_in
from r2a_core.figures.bars import CHANCE
from r2a_core.figures.style import save_figure
from r2a_core.figures.tables import by_dataset, save_table

COUNTS = ("n", *KINDS, "named_first", "named_second")

TABLE_SCHEMA = {
    **dict.fromkeys(("model", "dataset", "decoding", "setting"), pl.String),
    "chance": pl.Float64,
    **dict.fromkeys(COUNTS, pl.Int64),
}

NARROWEST = 4  # percent: a narrower part has no number


def draw_answers(summaries: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Draw the figure and write its table into `folder`; return the files, none where no answers were graded."""
    table = answers_table(summaries)
    if not table.height:
        return []
    return [*save_figure(answers_figure(table), folder / "answers"), *save_table(table, folder / "table-answers")]


def answers_table(summaries: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Tabulate the counts: one row per model, dataset and setting; the kinds of answers add up to n, all responses.

    named_first and named_second count the answers that name the first or second of two options, right or wrong.
    """
    rows = [
        {name: str(summary[name]) for name in ("model", "dataset", "decoding")}
        | {"setting": setting, "chance": summary["chance"], **counts}
        for summary in summaries
        for setting, counts in summary["answers"].items()
    ]
    return by_dataset(pl.DataFrame(rows, schema=TABLE_SCHEMA))


def answers_figure(table: pl.DataFrame) -> Figure:
    """Draw a panel per dataset and a bar per model and setting: shares of all first attempts by kind of answer.

    A dotted line marks the share that guessing among the options gets right.
    """
    panels = table.partition_by("dataset", maintain_order=True)
    heights = [panel.height for panel in panels]
    fig = Figure(figsize=(8.2, 0.3 * sum(heights) + 0.65 * len(panels) + 0.9), layout="constrained")
    for axes, panel in zip(
        fig.subplots(len(panels), 1, squeeze=False, height_ratios=heights).flat, panels, strict=True
    ):
        _panel(axes, panel.to_dicts())
    handles: list[Patch | Line2D] = [
        Patch(color=KINDS[kind].colour, label=KINDS[kind].label) for kind in kinds_in(table.to_dicts())
    ]
    if table["chance"].count():
        handles.append(Line2D([], [], label="guessing", **CHANCE))
    fig.legend(handles=handles, loc="outside upper center", ncols=3, columnspacing=1.5)
    fig.supxlabel("share of all responses, first attempts (%)", fontsize=9)
    return fig


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """The bars of one dataset, the first row on top."""
    for place, row in enumerate(rows):
        left = 0.0
        for kind in KINDS:
            share = 100 * row[kind] / max(1, row["n"])
            axes.barh(
                place, share, 0.8, left, color=KINDS[kind].colour, edgecolor="white", linewidth=0.8, gid=f"bar-{kind}"
            )
            if share >= NARROWEST:
                ink = INK if KINDS[kind].light else "white"
                axes.text(left + share / 2, place, f"{share:.3g}", ha="center", va="center", color=ink, fontsize=8)
            left += share
        axes.text(101, place, places_named(row), va="center", fontsize=8)
    names = [f"{row['model']}, {row['setting'].removesuffix('_reasoning')}" for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
    axes.set_title(
        f"{rows[0]['dataset']}: n = {', '.join(dict.fromkeys(str(row['n']) for row in rows))}", parse_math=False
    )
    if rows[0]["chance"] is not None:
        axes.axvline(100 * rows[0]["chance"], gid="chance", **CHANCE)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def places_named(row: Mapping[str, Any]) -> str:
    """Say how often an answer that names one of two options names the first; empty where none does."""
    named = row["named_first"] + row["named_second"]
    return f"first of two: {row['named_first']} of {named}" if named else ""
