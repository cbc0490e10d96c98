"""The page's table of items: outcome, what each setting answered, what the reasoning concluded, and the texts.

ReportInputs, evaluation frame -> one record per model and dataset. What is absent goes to `gaps`.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import polars as pl

from r2a_core.data.items import ITEM_SCHEMA, Item
from r2a_core.evaluation.answers import options_of
from r2a_core.evaluation.funnel import STEP_REACHED
from r2a_core.evaluation.values import agree
from r2a_core.report.conclusions import concluded
from r2a_core.report.encode import pack_json
from r2a_core.report.inputs import WITH_REASONING, Gaps, ReportInputs, add_gap, read_if_there, words
from r2a_core.trace import SETTINGS

OUTCOMES = ("win", "loss", "unpaired", "tie")  # items with texts are chosen one of each in turn


def item_table(frame: pl.DataFrame, runs: int) -> pl.DataFrame:
    """Tabulates items in file order: gold, outcome, and by setting status, extracted answer, score and shown run.

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


def items_record(inputs: ReportInputs, run: tuple[str, str], items: pl.DataFrame, gaps: Gaps) -> dict[str, Any]:
    """Describes the items of a run: their table, all questions, and the texts of those that the page carries."""
    by_id = read_questions(inputs, run[1], gaps)
    asked = [by_id.get(item_id) for item_id in items["item_id"]]
    responses = {setting: shown_responses(inputs, run, setting, items, gaps) for setting in inputs.settings}
    table = items.with_columns(**conclusions(inputs, run[0], items, asked, responses.get(WITH_REASONING)))
    first = evidence(inputs, run)
    chosen = items_with_texts(table, inputs.params.texts, first)
    return {
        "items": table.to_dict(as_series=False),
        "questions": pack_json([None if one is None else one.question for one in asked]),
        "texts": [{"row": row, **pack_json({name: said[row] for name, said in responses.items()})} for row in chosen],
    }


def read_questions(inputs: ReportInputs, dataset: str, gaps: Gaps) -> dict[str, Item]:
    """Reads each item by its id; nothing where the dataset is absent."""
    frame = read_if_there(inputs.paths.items(dataset), list(ITEM_SCHEMA), "prepare_dataset")
    if frame is None:
        add_gap(gaps, "Evaluation", f"the questions of {dataset} are not here", "prepare_dataset")
        return {}
    return {row["item_id"]: Item(**row) for row in frame.iter_rows(named=True)}


def shown_responses(
    inputs: ReportInputs, run: tuple[str, str], setting: str, items: pl.DataFrame, gaps: Gaps
) -> list[str | None]:
    """Reads the response of the shown attempt of each item, None where there is none."""
    responses = read_if_there(inputs.paths.generations(*run, setting), ["item_id", "run", "response"], "generate")
    if responses is None:
        add_gap(gaps, "Evaluation", f"the texts of {run[0]} on {run[1]}, {words(setting)}", "generate")
        return [None] * items.height
    by_run = {(item_id, number): text for item_id, number, text in responses.iter_rows()}
    return [by_run.get(key) for key in items.select("item_id", f"run_{setting}").iter_rows()]


def conclusions(
    inputs: ReportInputs,
    model: str,
    items: pl.DataFrame,
    asked: Sequence[Item | None],
    responses: Sequence[str | None] | None,
) -> dict[str, pl.Series]:
    """Reads what each reasoning concludes, and whether the answer after it is another; null where that is unknown."""
    tags = inputs.values.get("models", {}).get(model, {}).get("tags") or {}
    close = tags.get("think_close", "</think>")
    said, differs = [], []
    answers = items[f"extracted_{WITH_REASONING}"]
    for response, one, gold, answer in zip(
        responses or [None] * items.height, asked, items["gold"], answers, strict=True
    ):
        options = [] if one is None else options_of(one)
        reasoning, closed, _ = (response or "").partition(close)
        found = concluded(reasoning, options, gold) if closed else None
        said.append(found)
        differs.append(None if found is None or answer is None else not agree(found, answer))
    return {"concludes": pl.Series(said, dtype=pl.String), "differs": pl.Series(differs, dtype=pl.Boolean)}


def evidence(inputs: ReportInputs, run: tuple[str, str]) -> set[str]:
    """Finds the items that have maps, knock-outs or changed reasoning."""
    paths = inputs.paths
    files = ((paths.map_tokens, "maps"), (paths.knockout, "knockout"), (paths.perturb, "perturb"))
    frames = [read_if_there(path(*run), ["item_id"], stage) for path, stage in files]
    return {item_id for frame in frames if frame is not None for item_id in frame["item_id"].unique()}


def items_with_texts(table: pl.DataFrame, count: int, first: set[str]) -> list[int]:
    """Chooses the rows whose texts the page carries, the most wanted first.

    Those of `first` and those whose answer differs from its reasoning lead, then a win, a loss, an unpaired item, a tie
    and so on, in order.
    """
    ahead = (table["item_id"].is_in(list(first)) | table["differs"].fill_null(value=False)).to_list()
    rows = [row for row, is_ahead in enumerate(ahead) if is_ahead]
    by_outcome = [
        [row for row, outcome in enumerate(table["outcome"]) if outcome == kind and not ahead[row]] for kind in OUTCOMES
    ]
    rows += [row for turn in zip_longest(*by_outcome) for row in turn if row is not None]
    return rows[:count]
