"""From responses to accuracy (paper section 3): the funnel, the grades and the comparison of both settings.

items, generations of each setting, judgements of open answers -> `Evaluation`: one row a response
(data/evaluation/<model>/<dataset>.parquet), and a summary (the .json beside it, and
data/metrics/evaluate-<model>-<dataset>.json).

Run r counts from 0; with retry on, run `runs` + r holds a second attempt at the items that failed in run r. "Once"
counts first attempts only; "twice" puts the second attempt in the place of a first one that it gets further than.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from r2a_core.config import EvaluateParams
from r2a_core.data.items import Item
from r2a_core.evaluation.judged_scores import judged_in_both, judged_parts, with_judged_scores, without_accuracy
from r2a_core.evaluation.paired import compare_settings
from r2a_core.evaluation.sandbox import grade_many
from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS, last_boxed_answer

log = logging.getLogger(__name__)

STEP_REACHED = {"unfinished": 0, "bad_think": 1, "no_answer": 2, "ok": 3}  # funnel steps passed after "all"

STEPS = ("all", "finished", "think_format", "answer_format")

EVALUATION_SCHEMA = {
    "item_id": pl.String,
    "setting": pl.String,
    "run": pl.Int32,
    "status": pl.String,
    "extracted": pl.String,
    "gold": pl.String,
    "score": pl.Float64,
    "common": pl.Boolean,
}

BOUNDS = ("think_open", "think_close", "answer_start", "answer_end")

GRADED_KINDS = ("math", "comparison")


@dataclass(frozen=True)
class Evaluation:
    """Rows of EVALUATION_SCHEMA and the summary record (JSON-able, no NaN)."""

    frame: pl.DataFrame
    summary: dict[str, Any]


def evaluate(
    items: Sequence[Item],
    generations: Mapping[str, pl.DataFrame],
    runs: int,
    params: EvaluateParams,
    *,
    model: str,
    dataset: str,
    decoding: str,
    judgements: pl.DataFrame | None = None,
) -> Evaluation:
    """Grades the responses of both settings (keys of `generations`) and compares them item by item.

    `decoding` is a label for the tables, "greedy" for example. Items of kind `open` have the scores of `judgements`
    (r2a_core.evaluation.judge_reply), and none without; those that the judge scored in one setting only do not count.
    Raises R2AError when a response belongs to no item, stands there twice or carries no box although its status says
    so, and when judgements and responses do not belong together.
    """
    attempts = _attempts(items, generations, runs)
    grades = _grades(attempts, params.timeout_seconds)
    graded = attempts.with_columns(grades.extracted, grades.scores)
    if judgements is not None:
        graded = with_judged_scores(graded, judgements)
    is_judged = judgements is not None and judgements.height > 0
    once = graded.filter(pl.col("run") < runs)
    twice = _best_attempts(graded)
    keys = ["setting", "run", "item_id"]
    common, common_once = _common(twice), _common(once)
    if is_judged:
        common, common_once = judged_in_both(common), judged_in_both(common_once)
    frame = graded.join(common.select(*keys, common=pl.lit(True)), on=keys, how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("common").fill_null(value=False)).select(list(EVALUATION_SCHEMA))
    summary: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "decoding": decoding,
        "kind": ", ".join(sorted({item.kind for item in items})),
        "runs": runs,
        "retried": graded.height - once.height,
        "timeouts": grades.timeouts,
        "funnel": {
            setting: {"once": _funnel(once, setting), "twice": _funnel(twice, setting)} for setting in generations
        },
        "tokens": {setting: _mean_lengths(twice, setting) for setting in generations},
        "accuracy_all": {setting: _accuracy_of_all(once, setting) for setting in generations},
        "paired": compare_settings(common, params.bootstrap_draws, params.seed),
        "paired_once": compare_settings(common_once, params.bootstrap_draws, params.seed),
    }
    if is_judged:
        assert judgements is not None
        summary |= {name: without_accuracy(summary[name]) for name in ("paired", "paired_once")}
        summary |= judged_parts(common, items, judgements, params.bootstrap_draws, params.seed)
    return Evaluation(frame.cast(EVALUATION_SCHEMA), summary)  # type: ignore[arg-type]


def _attempts(items: Sequence[Item], generations: Mapping[str, pl.DataFrame], runs: int) -> pl.DataFrame:
    """Every response in the order setting, run, item, with its item's gold and kind, and `first_run`, its run's number.

    Raises R2AError for an unknown setting, item, status or run, and for a response that stands there twice.
    """
    order = pl.DataFrame(
        {
            "item_id": [item.item_id for item in items],
            "gold": [item.gold for item in items],
            "kind": [item.kind for item in items],
            "place": list(range(len(items))),
        },
        schema={"item_id": pl.String, "gold": pl.String, "kind": pl.String, "place": pl.Int64},
    )
    parts = []
    for setting in SETTINGS:
        if setting not in generations:
            continue
        rows = generations[setting].select("item_id", "run", "status", "response", *BOUNDS)
        rows = rows.join(order, on="item_id", how="left", maintain_order="left")
        _check(rows, setting, runs)
        parts.append(rows.with_columns(setting=pl.lit(setting)).sort("run", "place"))
    if not parts or len(parts) != len(generations):
        raise R2AError(
            f"settings to evaluate: {', '.join(generations) or 'none'}", f"the settings are {', '.join(SETTINGS)}"
        )
    first_run = pl.when(pl.col("run") < runs).then("run").otherwise(pl.col("run") - runs)
    return pl.concat(parts).with_columns(first_run=first_run, reached=pl.col("status").replace_strict(STEP_REACHED))


def _check(rows: pl.DataFrame, setting: str, runs: int) -> None:
    """Raises R2AError at the first row that the generations of a setting may not hold."""
    again = f"generate it again: dvc repro generate ({setting})"
    if (lost := rows.filter(pl.col("place").is_null())).height:
        raise R2AError(f"{setting}: a response to {lost['item_id'][0]!r}, which is no item of the dataset", again)
    if (odd := rows.filter(~pl.col("status").is_in(list(STEP_REACHED)))).height:
        raise R2AError(f"{setting}: {odd['item_id'][0]!r} has the unknown status {odd['status'][0]!r}", again)
    if (late := rows.filter(~pl.col("run").is_between(0, 2 * runs - 1))).height:
        raise R2AError(
            f"{setting}: run {late['run'][0]} of {late['item_id'][0]!r}, with {runs} runs and a retry", again
        )
    if (twin := rows.filter(pl.struct("item_id", "run").is_duplicated())).height:
        raise R2AError(f"{setting}: run {twin['run'][0]} holds two responses to {twin['item_id'][0]!r}", again)
    passed = rows.filter((pl.col("run") < runs) & (pl.col("status") == "ok")).select(
        "item_id", run=pl.col("run") + runs
    )
    if (needless := rows.join(passed, on=["item_id", "run"], how="semi")).height:
        raise R2AError(f"{setting}: {needless['item_id'][0]!r} was tried again although it had passed", again)


@dataclass(frozen=True)
class _Grades:
    """Per attempt, null where the response failed or its item has no exact answer."""

    extracted: pl.Series
    scores: pl.Series  # 0 or 1
    timeouts: int  # answers that were not graded in time; they score 0


def _grades(attempts: pl.DataFrame, timeout_seconds: float) -> _Grades:
    """Grades the attempts that passed. Raises R2AError when one of them has no box, or its item no reference answer."""
    due = attempts.with_row_index("row").filter((pl.col("status") == "ok") & pl.col("kind").is_in(GRADED_KINDS))
    pairs, rows = [], due["row"].to_list()
    for item_id, setting, response, gold in due.select("item_id", "setting", "response", "gold").iter_rows():
        box = last_boxed_answer(response)
        if box is None or gold is None:
            missing = "no boxed answer in a response that passed" if box is None else "no reference answer"
            raise R2AError(f"{setting}: {item_id!r} has {missing}", "rebuild it: dvc repro prepare_dataset generate")
        pairs.append((box.content, gold))
    verdicts = grade_many(pairs, timeout_seconds) if pairs else []
    extracted: list[str | None] = [None] * attempts.height
    scores: list[float | None] = [None] * attempts.height
    for row, (answer, _), verdict in zip(rows, pairs, verdicts, strict=True):
        extracted[row], scores[row] = answer, float(verdict.score)
    timeouts = sum(verdict.outcome == "timeout" for verdict in verdicts)
    if timeouts:
        log.warning("%d of %d answers were not graded in time and count as wrong", timeouts, len(pairs))
    return _Grades(pl.Series("extracted", extracted, pl.String), pl.Series("score", scores, pl.Float64), timeouts)


def _best_attempts(graded: pl.DataFrame) -> pl.DataFrame:
    """One row for each item, setting and first run: the attempt that gets further, the first one when they are even."""
    best = graded.sort(["reached", "run"], descending=[True, False], maintain_order=True)
    best = best.unique(["setting", "first_run", "item_id"], keep="first", maintain_order=True)
    return best.sort("setting", "first_run", "place")


def _common(attempts: pl.DataFrame) -> pl.DataFrame:
    """Rows of the items that passed in every setting in the same first run; none when there is but one setting."""
    passed = attempts.filter(pl.col("status") == "ok")
    both = pl.col("setting").n_unique().over("item_id", "first_run") == len(SETTINGS)
    return passed.filter(both)


def _funnel(attempts: pl.DataFrame, setting: str) -> dict[str, int]:
    """Table 2: how many responses of a setting pass each step, each step counting only those that passed the last.

    Items of kind `open` ask for no box: there `answer_format` counts answers that are not empty.
    """
    reached = attempts.filter(pl.col("setting") == setting)["reached"]
    counts = {step: int((reached >= number).sum()) for number, step in enumerate(STEPS)}
    return counts | {"common": _common(attempts).filter(pl.col("setting") == setting).height}


def _mean_lengths(attempts: pl.DataFrame, setting: str) -> dict[str, float | None]:
    """Mean number of reasoning and of answer tokens over responses that passed; None without any."""
    passed = attempts.filter((pl.col("setting") == setting) & (pl.col("status") == "ok"))
    reasoning = passed.select(pl.col("think_close") - pl.col("think_open") - 1).to_series().mean()
    answer = passed.select(pl.col("answer_end") - pl.col("answer_start")).to_series().mean()
    return {"reasoning": reasoning, "answer": answer}  # type: ignore[dict-item]


def _accuracy_of_all(once: pl.DataFrame, setting: str) -> float | None:
    """Share of right answers among all first attempts, a failed one counting as wrong; None where nothing is graded."""
    rows = once.filter((pl.col("setting") == setting) & pl.col("kind").is_in(GRADED_KINDS))
    return rows["score"].fill_null(0).mean() if rows.height else None  # type: ignore[return-value]
