"""From responses to accuracy (paper section 3): the funnel, the grades and the comparison of both settings.

items, generations of each setting, judgements of open answers -> `Evaluation`: one row per response
(data/evaluation/<model>/<dataset>.parquet) and a summary (the .json beside it, and
data/metrics/evaluate-<model>-<dataset>.json).

Run r counts from 0; with retry on, run `runs` + r holds a second attempt at the items that failed in run r. "Once"
counts first attempts only; "twice" replaces a first attempt by the second one where that gets further.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from r2a_core.config import EvaluateParams
from r2a_core.data.gym import recipe_of
from r2a_core.data.items import Item
from r2a_core.evaluation.answers import chance_level, count_answers, options_of
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
    "option": pl.Int32,
    "common": pl.Boolean,
}

BOUNDS = ("think_open", "think_close", "answer_start", "answer_end")

GRADING_FAULTS = {  # of grading, and what becomes of the answers
    "timeout": "were not graded in time and count as wrong",
    "undecided": "have an open verdict and are left out",
}

GRADED_KINDS = ("math", "comparison", "gym")


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
    """Grades the responses of the settings that ran (keys of `generations`) and compares them item by item.

    `decoding` is a label for the tables, "greedy" for example. Items of kind `open` have the scores of `judgements`
    (r2a_core.evaluation.judged_scores), and none without; those that the judge scored in one setting only do not
    count. Raises R2AError when judgements and responses do not belong together.
    """
    settings = [setting for setting in SETTINGS if setting in generations]
    options = {item.item_id: options_of(item) for item in items}
    graded = _graded(_attempts(items, generations, runs), items, options, params.timeout_seconds)
    rows = graded.rows if judgements is None else with_judged_scores(graded.rows, judgements)
    once, twice = rows.filter(pl.col("run") < runs), _best_attempts(rows)
    pairs = {"paired": _common(twice, settings), "paired_once": _common(once, settings)}
    summary: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "decoding": decoding,
        "kind": ", ".join(sorted({item.kind for item in items})),
        "chance": chance_level(items),
        "runs": runs,
        "retried": rows.height - once.height,
        "timeouts": graded.timeouts,
        "undecided": graded.undecided,
    }
    summary |= _by_setting(once, twice, settings, options)
    how = (params.bootstrap_draws, params.seed, settings)
    if judgements is None or judgements.is_empty():
        summary |= {name: compare_settings(common, *how) for name, common in pairs.items()}
    else:
        pairs = {name: judged_in_both(common) for name, common in pairs.items()}
        summary |= {name: without_accuracy(compare_settings(common, *how)) for name, common in pairs.items()}
        summary |= judged_parts(pairs["paired"], items, judgements, *how)
    return Evaluation(_evaluated(rows, pairs["paired"]), summary)


def _evaluated(rows: pl.DataFrame, common: pl.DataFrame) -> pl.DataFrame:
    """Rows of EVALUATION_SCHEMA; column common: whether a row counts where both settings are compared."""
    keys = ["setting", "run", "item_id"]
    frame = rows.join(common.select(*keys, common=pl.lit(True)), on=keys, how="left", maintain_order="left")
    frame = frame.with_columns(pl.col("common").fill_null(value=False)).select(list(EVALUATION_SCHEMA))
    return frame.cast(EVALUATION_SCHEMA)  # type: ignore[arg-type]


def _by_setting(
    once: pl.DataFrame, twice: pl.DataFrame, settings: Sequence[str], options: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What the summary says of each setting by itself; of `answers`, those with exact answers."""
    return {
        "funnel": {
            setting: {"once": _funnel(once, setting, settings), "twice": _funnel(twice, setting, settings)}
            for setting in settings
        },
        "unfinished": {setting: _share_unfinished(once, setting) for setting in settings},
        "tokens": {setting: _mean_lengths(twice, setting) for setting in settings},
        "accuracy_all": {setting: _accuracy_of_all(once, setting) for setting in settings},
        "answers": {
            setting: count_answers(rows, options) for setting in settings if (rows := _gradable(once, setting)).height
        },
    }


def _attempts(items: Sequence[Item], generations: Mapping[str, pl.DataFrame], runs: int) -> pl.DataFrame:
    """Every response in the order setting, run, item, with its item's gold and kind.

    first_run: the run that this one is, or is a second attempt at; reached: the funnel steps passed.
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
    for setting in (setting for setting in SETTINGS if setting in generations):
        rows = generations[setting].select("item_id", "run", "status", "response", *BOUNDS)
        rows = rows.join(order, on="item_id", how="left", maintain_order="left")
        parts.append(rows.with_columns(setting=pl.lit(setting)).sort("run", "place"))
    first_run = pl.when(pl.col("run") < runs).then("run").otherwise(pl.col("run") - runs)
    return pl.concat(parts).with_columns(first_run=first_run, reached=pl.col("status").replace_strict(STEP_REACHED))


@dataclass(frozen=True)
class _Graded:
    """Attempts with their grades: null where the response failed or its item has no exact answer.

    rows: with extracted, score (0 or 1; null where the verdict is open) and option (place, from 0, of the one that the
    answer names). status "undecided": such a response has passed the funnel but is in no comparison.
    """

    rows: pl.DataFrame
    timeouts: int  # answers that were not graded in time; they score 0
    undecided: int  # answers that are right in one reading of their notation and wrong in another


def _graded(
    attempts: pl.DataFrame, items: Sequence[Item], options: Mapping[str, Sequence[str]], timeout_seconds: float
) -> _Graded:
    """Grades the attempts that passed, all in one grading process, against the right answer and against each option.

    An answer that equals the right one names that option.
    """
    due = attempts.with_row_index("row").filter((pl.col("status") == "ok") & pl.col("kind").is_in(GRADED_KINDS))
    pairs = _answers(due, {item.item_id: recipe_of(item) for item in items if item.kind == "gym"})
    compared = [
        (pair[0], option) for item_id, pair in zip(due["item_id"], pairs, strict=True) for option in options[item_id]
    ]
    asked = list(dict.fromkeys([*pairs, *compared]))
    verdicts = dict(zip(asked, grade_many(asked, timeout_seconds), strict=True))
    extracted: list[str | None] = [None] * attempts.height
    scores: list[float | None] = [None] * attempts.height
    named: list[int | None] = [None] * attempts.height
    status = attempts["status"].to_list()
    for row, item_id, pair in zip(due["row"], due["item_id"], pairs, strict=True):
        extracted[row], scores[row] = pair[0], verdicts[pair].score
        status[row] = "undecided" if verdicts[pair].outcome == "undecided" else "ok"
        same = [place for place, option in enumerate(options[item_id]) if verdicts[pair[0], option].score]
        own = [place for place in same if options[item_id][place] == pair[1]]
        named[row] = next(iter(own + same), None)
    counts = Counter(verdicts[pair].outcome for pair in pairs)
    for outcome, said in GRADING_FAULTS.items():
        if counts[outcome]:
            log.warning("%d of %d answers %s", counts[outcome], len(pairs), said)
    columns = [pl.Series("extracted", extracted, pl.String), pl.Series("score", scores, pl.Float64)]
    columns += [pl.Series("option", named, pl.Int32), pl.Series("status", status, pl.String)]
    return _Graded(attempts.with_columns(columns), counts["timeout"], counts["undecided"])


def _answers(due: pl.DataFrame, recipes: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Each answer with the right one, and with its recipe where its task grades it (recipes: by item)."""
    pairs: list[tuple[str, ...]] = []
    for item_id, response, gold in due.select("item_id", "response", "gold").iter_rows():
        if gold is None and item_id not in recipes:
            raise R2AError(f"the item {item_id!r} has no right answer to grade against", "give it one in the dataset")
        box = last_boxed_answer(response)
        assert box is not None  # its status says so
        recipe = (recipes[item_id],) if item_id in recipes else ()
        pairs.append((box.content, gold or "", *recipe))
    return pairs


def _best_attempts(graded: pl.DataFrame) -> pl.DataFrame:
    """One row per item, setting and first run: the attempt that gets further, the first one in a tie."""
    best = graded.sort(["reached", "run"], descending=[True, False], maintain_order=True)
    best = best.unique(["setting", "first_run", "item_id"], keep="first", maintain_order=True)
    return best.sort("setting", "first_run", "place")


def _common(attempts: pl.DataFrame, settings: Sequence[str]) -> pl.DataFrame:
    """Rows of the items that passed in all settings in the same first run."""
    passed = attempts.filter(pl.col("status") == "ok")
    return passed.filter(pl.col("setting").n_unique().over("item_id", "first_run") == len(settings))


def _funnel(attempts: pl.DataFrame, setting: str, settings: Sequence[str]) -> dict[str, int]:
    """Counts the responses of a setting that pass each step (Table 2); a step counts those that passed the last.

    Items of kind `open` ask for no box: there `answer_format` counts answers that are not empty.
    """
    reached = attempts.filter(pl.col("setting") == setting)["reached"]
    counts = {step: int((reached >= number).sum()) for number, step in enumerate(STEPS)}
    return counts | {"common": _common(attempts, settings).filter(pl.col("setting") == setting).height}


def _share_unfinished(once: pl.DataFrame, setting: str) -> float | None:
    """Returns the share of first attempts that did not end: cut at max_new_tokens, or imported so; None if none."""
    reached = once.filter(pl.col("setting") == setting)["reached"]
    return (reached == 0).mean() if reached.len() else None  # type: ignore[return-value]


def _mean_lengths(attempts: pl.DataFrame, setting: str) -> dict[str, float | None]:
    """Averages the reasoning and answer tokens of the responses that passed; None without any."""
    passed = attempts.filter((pl.col("setting") == setting) & (pl.col("status") == "ok"))
    reasoning = passed.select(pl.col("think_close") - pl.col("think_open") - 1).to_series().mean()
    answer = passed.select(pl.col("answer_end") - pl.col("answer_start")).to_series().mean()
    return {"reasoning": reasoning, "answer": answer}  # type: ignore[dict-item]


def _gradable(once: pl.DataFrame, setting: str) -> pl.DataFrame:
    """First attempts of a setting at questions with an exact answer, failed ones among them."""
    return once.filter((pl.col("setting") == setting) & pl.col("kind").is_in(GRADED_KINDS))


def _accuracy_of_all(once: pl.DataFrame, setting: str) -> float | None:
    """Returns the share of first attempts that are right, failed ones counting as wrong and open ones left out."""
    rows = _gradable(once, setting)
    rows = rows.filter(pl.col("status") != "undecided")
    return rows["score"].fill_null(0).mean() if rows.height else None  # type: ignore[return-value]
