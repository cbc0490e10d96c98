"""Do judges prefer answers after reasoning? Mean scores by area (Figure 1b of the paper) and their table.

summaries with judged areas -> <folder>/judge-scores (PNG and PDF) and <folder>/table-judge-scores (PNG, PDF, parquet
and CSV); nothing where no answers were judged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.evaluation.judged_scores import OVERALL, areas_in_order
from r2a_core.figures.bars import (
    SIDES,
    AxisRange,
    BarPair,
    bar_pair,
    bars_note,
    by_side,
    draw_pair,
    legend_handles,
    wrapped,
)
from r2a_core.figures.style import GRID, save_figure
from r2a_core.figures.tables import (
    OUTCOMES,
    OUTCOMES_COLUMN,
    Column,
    by_dataset,
    interval_text,
    name_columns,
    number_text,
    paired_columns,
    save_table,
    table_figure,
)
from r2a_core.paper import PublishedScore, judge_score

Summary = Mapping[str, Any]

SCORES = AxisRange(1, 10)

COLUMNS = 2  # panels beside one another

GAP = 0.35  # before the pair over all areas

TABLE_SCHEMA = {
    **dict.fromkeys(("model", "dataset", "decoding", "judge", "area"), pl.String),
    "n": pl.Int64,
    **{f"{name}_{side}": pl.Float64 for side in SIDES.values() for name in ("mean", "low", "high")},
    **dict.fromkeys(("difference", "low_difference", "high_difference", "t", "p"), pl.Float64),
    **dict.fromkeys((*OUTCOMES, "repeats"), pl.Int64),
    **dict.fromkeys(("repeats_difference", "repeats_equal", "repeats_sd"), pl.Float64),
}

REPEATS = {"repeats_difference": "mean_difference", "repeats_equal": "exact", "repeats_sd": "sd"}


def draw_judged(summaries: Sequence[Summary], folder: Path) -> list[Path]:
    """Draw Figure 1b and its table into `folder`; return the files, none where no answers were judged."""
    table = judged_table(summaries)
    if not table.height:
        return []
    return [
        *save_figure(judged_figure(summaries), folder / "judge-scores"),
        *save_figure(judged_table_figure(table), folder / "table-judge-scores"),
        *save_table(table, folder / "table-judge-scores"),
    ]


def judged_figure(summaries: Sequence[Summary]) -> Figure:
    """Draw Figure 1b: a panel per model and dataset, a pair of bars per area and one over all common items."""
    judged = [summary for summary in summaries if "areas" in summary]
    areas = {area for summary in judged for area in summary["areas"]} - {OVERALL}
    columns = min(COLUMNS, len(judged))
    rows = -(-len(judged) // columns)
    fig = Figure(figsize=(max(4.6, (1.0 * len(areas) + 1.9) * columns), 3.1 * rows + 0.8), layout="constrained")
    panels = fig.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("mean judge score (1 to 10)")
    for axes in panels.flat[len(judged) :]:
        axes.set_axis_off()
    for axes, summary in zip(panels.flat, judged, strict=False):
        _panel(axes, summary, areas_in_order(list(areas)))
    handles = legend_handles(any(_published(summary, OVERALL) for summary in judged), judged[0]["funnel"])
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.5)
    note = bars_note([{}], fig.get_figwidth())
    fig.supxlabel(f"{note}\n{_judges(judged)}", fontsize=7.5, color="#555555")
    return fig


def _panel(axes: Axes, summary: Summary, areas: Sequence[str]) -> None:
    """Bars of one model and dataset; an area without items judged in both settings keeps an empty place."""
    places = {area: float(place) for place, area in enumerate(areas)} | {OVERALL: len(areas) + GAP}
    labels = []
    for area, place in places.items():
        record = summary["areas"].get(area, {"n": 0})
        lines = wrapped(area, 9).split("\n")
        labels.append("\n".join([*lines, *[""] * (2 - len(lines)), f"n = {record['n']}"]))  # counts in one line
        if record["n"]:
            draw_pair(axes, place, _pair(record, _published(summary, area)), SCORES)
    axes.axvline(len(areas) - 0.5 + GAP / 2, color=GRID, linewidth=0.8)
    axes.set_xticks(list(places.values()), labels, parse_math=False, fontsize=8.5)
    axes.set(xlim=(-0.55, len(areas) + GAP + 0.55), ylim=(SCORES.low, SCORES.high + 1.2), yticks=range(1, 11))
    axes.set_title(f"{summary['model']} on {summary['dataset']} ({summary['decoding']})", parse_math=False)
    axes.grid(axis="y", color=GRID)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _published(summary: Summary, area: str) -> PublishedScore | None:
    return judge_score(summary["model"], summary["dataset"], area)


def _pair(record: Mapping[str, Any], published: PublishedScore | None) -> BarPair:
    return bar_pair(record, "mean", record["p"], by_side(published))


def _judges(judged: Sequence[Summary]) -> str:
    """Who judged, and how far repeats lie apart, in one line."""
    texts = []
    for summary in judged:
        judge, gap = summary["judge"], summary["judge"]["disagreement"]["mean_difference"]
        text = f"judge: {judge['model'] or 'not named by its server'}"
        if gap is not None:
            text += f", {judge['repeats']} judgements of each response, {gap:.2f} apart on average"
        texts.append((f"{summary['model']}, " if gap is not None and len(judged) > 1 else "") + text)
    return "\n".join(dict.fromkeys(texts))


def judged_table(summaries: Sequence[Summary]) -> pl.DataFrame:
    """Tabulate Figure 1b: one row per model, dataset and area; repeats_ columns say how far repeats agree."""
    rows = []
    for summary in summaries:
        areas = summary.get("areas", {})
        for area in [*areas_in_order(list(set(areas) - {OVERALL})), OVERALL] if areas else []:
            record = areas[area]
            row = {name: str(summary[name]) for name in ("model", "dataset", "decoding")}
            row |= {"judge": summary["judge"]["model"], "area": area, "repeats": summary["judge"]["repeats"]}
            row |= {name: record["disagreement"][inner] for name, inner in REPEATS.items()}
            rows.append(row | {name: record[name] for name in TABLE_SCHEMA if name in record})
    return by_dataset(pl.DataFrame(rows, schema=TABLE_SCHEMA))


def judged_table_figure(frame: pl.DataFrame) -> Figure:
    """Draw the table: mean scores with their 95% intervals, the tests, and the agreement of repeats."""
    columns = [
        *name_columns(frame, "dataset", "model", "area"),
        *paired_columns(_interval),
        OUTCOMES_COLUMN,
        Column("repeats differ by", 1.35, lambda row: number_text(row["repeats_difference"], "{:.2f}")),
    ]
    note = "mean judge score, 1 to 10, over items judged in all settings, with 95% interval; paired t-test"
    return table_figure(frame, columns, note)


def _interval(row: Mapping[str, Any], side: str) -> str:
    return interval_text([row[f"{name}_{side}"] for name in ("mean", "low", "high")], "{:.2f} [{:.2f}, {:.2f}]")
