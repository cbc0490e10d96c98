"""Tables 2 and 3 of the paper as frames and as pictures.

Summaries of the evaluate stage -> funnel and accuracy frames -> parquet, CSV and a matplotlib figure each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from r2a_core.appearance import INK, SETTING_COLOURS
from r2a_core.evaluation import funnel
from r2a_core.infra.files import write_frame, write_whole

STEPS = {step: step.replace("_", " ") for step in (*funnel.STEPS, "common")}  # heading of each

ROW = 0.27  # inches

STEP_WIDTH = 1.25  # inches

SHADE = {"once": 0.30, "twice": 0.14}  # opacity of the bar behind a count

OUTCOMES = ("win", "tie", "loss")

PAIRED_COLUMNS = (
    "n",
    "accuracy_with",
    "low_with",
    "high_with",
    "accuracy_without",
    "low_without",
    "high_without",
    "difference",
    "low_difference",
    "high_difference",
    "t",
    "p",
    "mcnemar_p",
    *OUTCOMES,
)

COUNTS = ("n", *OUTCOMES)

POINTS, GAIN = "{:.1f} [{:.1f}, {:.1f}]", "{:+.1f} [{:.1f}, {:.1f}]"  # a mean, or difference, and its interval


@dataclass(frozen=True)
class Column:
    """One column of a printed table: heading, width in inches, and what a row of the frame shows there."""

    heading: str
    width: float
    show: Callable[[Mapping[str, Any]], str]
    align: str = "right"


OUTCOMES_COLUMN = Column("win / tie / loss", 1.25, lambda row: " / ".join(_count(row[name]) for name in OUTCOMES))


def funnel_table(summaries: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Tabulate Table 2: one row per model, dataset and setting; counts of each step once and twice (with retry)."""
    rows = [
        {
            **{name: str(summary[name]) for name in ("model", "dataset", "decoding")},
            "setting": setting,
            "retried": summary["retried"] > 0,
            **{f"{step}_{time}": counts[time][step] for step in STEPS for time in ("once", "twice")},
        }
        for summary in summaries
        for setting, counts in summary["funnel"].items()
    ]
    texts = dict.fromkeys(("model", "dataset", "decoding", "setting"), pl.String)
    counts = {f"{step}_{time}": pl.Int64 for step in STEPS for time in ("once", "twice")}
    return by_dataset(pl.DataFrame(rows, schema=texts | {"retried": pl.Boolean} | counts))


def accuracy_table(summaries: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Tabulate Table 3: one row per model, dataset and decoding; accuracies are shares over the common items.

    chance: the share that guessing among the options gets right, null for open questions. `once_` columns are the same
    for first attempts alone. Judged answers have no accuracy and no row.
    """
    rows = [
        {name: str(summary[name]) for name in ("model", "dataset", "decoding")}
        | {"chance": summary["chance"]}
        | {name: summary["paired"][name] for name in PAIRED_COLUMNS}
        | {f"once_{name}": summary["paired_once"][name] for name in PAIRED_COLUMNS}
        for summary in summaries
        if "areas" not in summary
    ]
    texts = dict.fromkeys(("model", "dataset", "decoding"), pl.String)
    numbers = {name: pl.Int64 if name in COUNTS else pl.Float64 for name in PAIRED_COLUMNS}
    schema = texts | {"chance": pl.Float64} | numbers | {f"once_{name}": kind for name, kind in numbers.items()}
    return by_dataset(pl.DataFrame(rows, schema=schema))


def by_dataset(frame: pl.DataFrame) -> pl.DataFrame:
    """Put the rows of one dataset together, datasets in the order in which they first come."""
    first = frame.with_row_index("at").select("dataset", order=pl.col("at").min().over("dataset"))["order"]
    return frame.with_columns(first.alias("order")).sort("order", maintain_order=True).drop("order")


def save_table(frame: pl.DataFrame, path_without_suffix: Path) -> list[Path]:
    """Write <path>.parquet and <path>.csv; return both."""
    paths = [path_without_suffix.with_name(f"{path_without_suffix.name}.{kind}") for kind in ("parquet", "csv")]
    write_frame(paths[0], frame)
    write_whole(paths[1], frame.write_csv)
    return paths


def funnel_table_figure(frame: pl.DataFrame) -> Figure:
    """Draw Table 2: counts once / twice, over bars that show their share of all responses."""
    names = [
        *name_columns(frame, "dataset", "model"),
        Column("reasoning", 0.95, lambda row: row["setting"].removesuffix("_reasoning"), "left"),
    ]
    steps = [Column(heading, STEP_WIDTH, _counts_of(step), "left") for step, heading in STEPS.items()]
    note = "responses that pass each step; common: valid in all settings"
    if frame["retried"].any():
        note += "; first attempts / after a second attempt at those that failed"
    fig = table_figure(frame, names + steps, note)
    left = sum(column.width for column in names)
    for number, row in enumerate(frame.iter_rows(named=True)):
        for place, step in enumerate(STEPS):
            _shade(fig, number, left + STEP_WIDTH * place, row, step)
    return fig


def accuracy_table_figure(frame: pl.DataFrame) -> Figure:
    """Draw Table 3: accuracies in percent with their 95% intervals, and the tests."""
    columns = [
        *name_columns(frame, "dataset", "model", "decoding"),
        Column("guessing", 0.8, lambda row: "–" if row["chance"] is None else f"{100 * row['chance']:.1f}"),
        *paired_columns(_interval),
        Column("difference", 1.55, _difference),
        Column("McNemar p", 0.95, lambda row: number_text(row["mcnemar_p"], "{:.2g}")),
        OUTCOMES_COLUMN,
    ]
    note = (
        "accuracy in % over common items, with 95% interval; paired t-test, which does not exist where all "
        "items differ alike; difference in points, with 95% interval; exact McNemar test"
    )
    return table_figure(frame, columns, note)


def name_columns(frame: pl.DataFrame, *names: str) -> list[Column]:
    """Make columns of texts, each as wide as its longest."""
    return [Column(name, text_width(frame, name), itemgetter(name), "left") for name in names]


def paired_columns(interval: Callable[[Mapping[str, Any], str], str]) -> list[Column]:
    """Make columns of the number of pairs, both means as `interval(row, side)` shows them, and the paired t-test."""
    return [
        Column("n", 0.5, lambda row: str(row["n"])),
        Column("with reasoning", 1.55, lambda row: interval(row, "with")),
        Column("without", 1.55, lambda row: interval(row, "without")),
        Column("t", 0.6, lambda row: number_text(row["t"], "{:.2f}")),
        Column("p", 0.8, lambda row: number_text(row["p"], "{:.2g}")),
    ]


def text_width(frame: pl.DataFrame, name: str) -> float:
    """Estimate the inches that the longest text of a column takes."""
    longest = max([len(name), *(len(text) for text in frame[name])])
    return 0.085 * longest + 0.25


def _counts_of(step: str) -> Callable[[Mapping[str, Any]], str]:
    """Shows a step's count, with its count after the second attempt where there was one."""

    def show(row: Mapping[str, Any]) -> str:
        once, twice = row[f"{step}_once"], row[f"{step}_twice"]
        return f"{once} / {twice}" if row["retried"] and step != "all" else str(once)

    return show


def _interval(row: Mapping[str, Any], side: str) -> str:
    return interval_text([row[f"{name}_{side}"] for name in ("accuracy", "low", "high")], POINTS, 100)


def _difference(row: Mapping[str, Any]) -> str:
    return interval_text([row[name] for name in ("difference", "low_difference", "high_difference")], GAIN, 100)


def interval_text(ends: Sequence[float | None], form: str, scale: float = 1.0) -> str:
    """Write a mean and the ends of its interval, where it has one, as in form; a dash without a mean."""
    known = [scale * end for end in ends if end is not None]
    return (form if len(known) == len(ends) else form.split()[0]).format(*known) if known else "–"


def _count(value: int | None) -> str:
    return number_text(value, "{:d}")


def number_text(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def table_figure(frame: pl.DataFrame, columns: Sequence[Column], note: str) -> Figure:
    """Draw a table: headings, one line per row, a rule between datasets; a repeated dataset or model is left blank."""
    width, height = sum(column.width for column in columns) + 0.3, (frame.height + 2.5) * ROW
    fig = Figure(figsize=(width, height))
    _rules(fig, [0.0, 1.0, frame.height + 1.0], 1.0)
    shown = {
        "dataset": _changes(frame.select("dataset")),
        "model": _changes(frame.select("dataset", "model", "decoding")),
    }
    _rules(fig, [line + 1.0 for line, new in enumerate(shown["dataset"]) if new and line], 0.4)
    left = 0.15
    for column in columns:
        x = (left + (0.07 if column.align == "left" else column.width - 0.1)) / width
        texts = [column.heading] + [
            column.show(row) if shown.get(column.heading, [True] * frame.height)[line] else ""
            for line, row in enumerate(frame.iter_rows(named=True))
        ]
        for line, text in enumerate(texts):
            y, weight = 1 - (line + 0.77) * ROW / height, "normal" if line else "bold"
            fig.text(x, y, text, ha=column.align, va="center", weight=weight, parse_math=False, zorder=3)  # type: ignore[arg-type]
        left += column.width
    fig.text(0.22 / width, 0.5 * ROW / height, note, ha="left", va="center", fontsize=7.5, color="#555555")
    return fig


def _changes(names: pl.DataFrame) -> list[bool]:
    """Whether each row differs from the one above it."""
    rows = names.rows()
    return [line == 0 or row != rows[line - 1] for line, row in enumerate(rows)]


def _rules(fig: Figure, lines: Sequence[float], weight: float) -> None:
    """Horizontal rules, `weight` points thick, above the given line numbers."""
    width, height = fig.get_size_inches()
    for line in lines:
        y = 1 - (line + 0.25) * ROW / height
        ends = (0.15 / width, 1 - 0.15 / width)
        fig.add_artist(Rectangle((ends[0], y), ends[1] - ends[0], weight / 72 / height, color=INK, linewidth=0))


def _shade(fig: Figure, number: int, left: float, row: Mapping[str, Any], step: str) -> None:
    """Bars behind one count: its share of all responses, once and twice."""
    width, height = fig.get_size_inches()
    y = 1 - (number + 2.12) * ROW / height
    for time, opacity in SHADE.items():
        share = row[f"{step}_{time}"] / max(1, row[f"all_{time}"])
        size = ((STEP_WIDTH - 0.1) * share / width, 0.74 * ROW / height)
        colour = SETTING_COLOURS[row["setting"]]
        fig.add_artist(Rectangle(((left + 0.15) / width, y), *size, color=colour, alpha=opacity, linewidth=0, zorder=1))
