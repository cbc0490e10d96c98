"""Does reasoning improve the answer: what the page shows of the evaluate stage (paper section 3).

summaries, evaluation, generation and dataset files -> one record a model and dataset: summary, items, texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import polars as pl

from r2a_core.errors import R2AError
from r2a_core.figures.evaluation import published_accuracy
from r2a_core.figures.judged import published_score
from r2a_core.grading.areas import OVERALL, areas_in_order
from r2a_core.grading.evaluation import EVALUATION_SCHEMA, STEP_REACHED
from r2a_core.grading.statistics import stars
from r2a_core.report.packing import pack_json
from r2a_core.report.sources import Gaps, ReportParams, ReportSources, Run, plain, read_frame
from r2a_core.settings import SETTINGS

OUTCOMES = ("win", "loss", "unpaired", "tie")  # the order in which items with texts are chosen, one of each in turn
SHOWN = ("item_id", "status", "extracted", "score", "common", "run", "gold")


def evaluation_section(sources: ReportSources, params: ReportParams, gaps: Gaps) -> list[dict[str, Any]]:
    """One record for each model and dataset that has been evaluated."""
    records = []
    for run in sources.runs:
        model, dataset = run
        path = sources.summaries[run]
        frame = read_frame(sources.evaluations[run], list(EVALUATION_SCHEMA), "evaluate")
        if not path.is_file() or frame is None:
            gaps.add("Evaluation", f"{model} on {dataset} has not been evaluated", "evaluate")
            continue
        summary = read_summary(path)
        published = published_accuracy(summary)
        items = item_table(frame, int(summary["runs"]))
        chosen = items_with_texts(items["outcome"].to_list(), params.texts)
        records.append(
            {
                "model": model,
                "dataset": dataset,
                "summary": plain(summary),
                "stars": stars(summary["paired"]["p"]),
                "published": None if published is None else asdict(published),
                "judged": plain(judged_areas(summary)),
                "items": {name: items[name].to_list() for name in items.columns},
                "texts": pack_json(texts(sources, run, items, chosen, gaps)),
            }
        )
    return records


def read_summary(path: Any) -> dict[str, Any]:
    """A summary of the evaluate stage. Raises R2AError when it is damaged or lacks a part."""
    again = "rebuild it with: dvc repro evaluate"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise R2AError(f"{path} is damaged: {error}", again) from None
    if missing := [name for name in ("funnel", "paired", "paired_once", "runs", "decoding") if name not in summary]:
        raise R2AError(f"{path} has no {', '.join(missing)}", again)
    return summary


def judged_areas(summary: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Mean judge scores by area, `overall` last, each with its stars and the paper's; None where nothing was judged."""
    if "areas" not in summary:
        return None
    records = []
    for area in [*areas_in_order([area for area in summary["areas"] if area != OVERALL]), OVERALL]:
        record, published = summary["areas"][area], published_score(summary, area)
        paper = None if published is None else asdict(published)
        records.append({**record, "area": area, "stars": stars(record["p"]), "published": paper})
    return records


def item_table(frame: pl.DataFrame, runs: int) -> pl.DataFrame:
    """One row an item, in file order: gold, outcome, and by setting status, extracted answer, score and shown run.

    A score is the mean over the runs that count in the paired test, as in the test itself; outcome is win, tie or loss
    with reasoning, or unpaired. The shown attempt is the first that counts, else the one that got furthest.
    """
    first_run = pl.when(pl.col("run") < runs).then("run").otherwise(pl.col("run") - runs)
    ranked = frame.with_row_index("place").with_columns(
        first_run=first_run, reached=pl.col("status").replace_strict(STEP_REACHED, default=0)
    )
    order = ["common", "reached", "first_run", "run"]
    shown = ranked.sort(order, descending=[True, True, False, False], maintain_order=True)
    shown = shown.unique(["setting", "item_id"], keep="first", maintain_order=True).sort("place")
    scores = (
        frame.filter("common")
        .group_by("setting", "item_id", maintain_order=True)
        .agg(mean_score=pl.col("score").mean())
    )
    shown = shown.join(scores, on=["setting", "item_id"], how="left", maintain_order="left")
    items = frame.select("item_id", "gold").unique("item_id", keep="first", maintain_order=True)
    for setting in SETTINGS:
        side = shown.filter(pl.col("setting") == setting)
        columns = {"status": "status", "extracted": "extracted", "run": "run", "score": "mean_score"}
        named = [pl.col(column).alias(f"{name}_{setting}") for name, column in columns.items()]
        items = items.join(side.select("item_id", *named), on="item_id", how="left", maintain_order="left")
    ours, theirs = (pl.col(f"score_{setting}") for setting in SETTINGS)
    outcome = (
        pl.when(ours > theirs)
        .then(pl.lit("win"))
        .when(ours < theirs)
        .then(pl.lit("loss"))
        .when(ours == theirs)
        .then(pl.lit("tie"))
        .otherwise(pl.lit("unpaired"))
    )
    return items.with_columns(outcome=outcome)


def items_with_texts(outcomes: Sequence[str], count: int) -> list[int]:
    """Rows of the items whose texts the page carries: a win, a loss, an unpaired item, a tie and so on, in order."""
    by_outcome = [[row for row, outcome in enumerate(outcomes) if outcome == kind] for kind in OUTCOMES]
    turns = [row for turn in zip_longest(*by_outcome) for row in turn if row is not None]
    return sorted(turns[:count])


def texts(
    sources: ReportSources, run: Run, items: pl.DataFrame, chosen: Sequence[int], gaps: Gaps
) -> dict[str, dict[str, Any]]:
    """By row of the item table: the question and the response in each setting, null where there is none."""
    model, dataset = run
    rows = items[list(chosen)]
    found: dict[str, dict[str, Any]] = {str(row): {"question": None} for row in chosen}
    questions = read_frame(sources.items[dataset], ["item_id", "question"], "prepare_dataset")
    if questions is None:
        gaps.add("Evaluation", f"the questions of {dataset} are not here", "prepare_dataset")
    else:
        by_item = dict(questions.iter_rows())
        for row, item_id in zip(chosen, rows["item_id"], strict=True):
            found[str(row)]["question"] = by_item.get(item_id)
    for setting in SETTINGS:
        responses = None
        if (model, dataset, setting) in sources.generations:
            columns = ["item_id", "run", "response"]
            responses = read_frame(sources.generations[model, dataset, setting], columns, "generate")
        if responses is None:
            gaps.add("Evaluation", f"the texts of {model} on {dataset}, {setting.replace('_', ' ')}", "generate")
            continue
        by_attempt = {(item_id, number): text for item_id, number, text in responses.iter_rows()}
        for row, item_id, number in zip(chosen, rows["item_id"], rows[f"run_{setting}"], strict=True):
            found[str(row)][setting] = by_attempt.get((item_id, number))
    return found
