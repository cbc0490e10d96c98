"""The study's main numbers as small tables for `dvc plots show` and `dvc plots diff`.

records of the page -> frames of panel, series, x, y (PLOT_SCHEMA), one per plot. x is text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from r2a_core.evaluation.funnel import STEPS
from r2a_core.report.inputs import name_of, words
from r2a_core.results import EVEN, SEGMENT_LABELS

PLOT_SCHEMA = {"panel": pl.String, "series": pl.String, "x": pl.String, "y": pl.Float64}

Row = tuple[str, str, str, float | None]


def plot_tables(data: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Makes accuracy (%), funnel (responses), masses (medians), heads (mass by rank) and patching (NLD by layer)."""
    rows = {
        "accuracy": accuracy_rows(data),
        "funnel": funnel_rows(data),
        "masses": mass_rows(data),
        "heads": head_rows(data),
        "patching": patching_rows(data),
    }
    return {name: pl.DataFrame(list(found), schema=PLOT_SCHEMA, orient="row") for name, found in rows.items()}


def accuracy_rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Returns the accuracy in percent over common items, by model, and what guessing among the options gets right."""
    for run in data["evaluation"]:
        for side in ("with", "without"):
            accuracy = run["summary"]["paired"][f"accuracy_{side}"]
            if accuracy is not None:
                yield run["dataset"], f"{side} reasoning", run["model"], 100 * accuracy
        if run["summary"]["chance"] is not None:
            yield run["dataset"], "guessing", run["model"], 100 * run["summary"]["chance"]


def funnel_rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Returns the responses that pass each step, after the second attempt."""
    for run in data["evaluation"]:
        for setting, counts in run["summary"]["funnel"].items():
            for step in (*STEPS, "common"):
                yield name_of(run), words(setting), words(step), float(counts["twice"][step])


def mass_rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Returns the median attention mass over traces, by segment."""
    for run in data["attention"]:
        for source, boxes in run["boxes"].items():
            for segment, box in boxes["segments"].items():
                series = f"from {source}, {words(run['setting'])}"
                yield name_of(run), series, SEGMENT_LABELS[segment].strip("<>"), box["median"]


def head_rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Mass from the answer to the reasoning of every head, by rank; that of even reading, sinks too, beside it."""
    for run in data["heads"]:
        scores = run["scores"]
        for name, series in (("answer_to_reasoning", "answer to reasoning"), (EVEN, "even reading")):
            for rank, value in sorted(zip(scores["rank"], scores[name], strict=True)):
                yield name_of(run), series, str(rank), value


def patching_rows(data: Mapping[str, Any]) -> Iterator[Row]:
    """Returns the mean NLD over pairs, by layer."""
    for run in data["patching"]:
        for curve in run["curves"]:
            for layer, mean in zip(curve["layer"], curve["mean"], strict=True):
                yield f"{run['model']}, {curve['probe']} probe", words(curve["curve"]), str(layer), mean
