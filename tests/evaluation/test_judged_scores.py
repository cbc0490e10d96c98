"""Judged scores, the disagreement of repeats and areas, compared by hand."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pytest
from scipy.stats import t as student

from r2a_core.config import EvaluateParams
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import EVALUATION_SCHEMA, Evaluation, evaluate
from r2a_core.evaluation.judge_reply import JUDGEMENT_SCHEMA
from r2a_core.evaluation.judged_scores import areas_in_order
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import json_text
from r2a_core.trace import SETTINGS

PARAMS = EvaluateParams(timeout_seconds=10, bootstrap_draws=200, seed=0)
AREAS = {"poem": "creative tasks", "code": "coding & analysis"}
# Scores with and without reasoning, one number per repeat; None: the reply could not be used.
SCORES: dict[str, tuple[list[int | None], list[int | None]]] = {
    "poem-1": ([8, 8], [6, 6]),  # difference 2
    "poem-2": ([7, 8], [6, 7]),  # 1
    "poem-3": ([9, 9], [6, 6]),  # 3
    "code-1": ([5, 5], [6, 6]),  # -1
    "code-2": ([6, None], [5, 5]),  # 1: the mean of the repeats that gave a score
    "code-3": ([7, 7], [None, None]),  # not judged without reasoning: counts in no test
}
UNFINISHED = ("poem-4", "with_reasoning")


ITEMS = [Item(name, f"Question {name}", None, "open", AREAS[name.split("-")[0]]) for name in [*SCORES, "poem-4"]]
BOUNDS = {"think_open": 4, "think_close": 6, "answer_start": 7, "answer_end": 9}


def generations(setting: str, statuses: dict[str, str]) -> pl.DataFrame:
    rows = []
    for item in ITEMS:
        status = "unfinished" if (item.item_id, setting) == UNFINISHED else "ok"
        row = {"item_id": item.item_id, "run": 0, "status": statuses.get(item.item_id, status), "response": "words"}
        rows.append(row | (BOUNDS if row["status"] == "ok" else dict.fromkeys(BOUNDS)))
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(["run", *BOUNDS], pl.Int32))


def judged(scores: Mapping[tuple[str, str], Sequence[int | None]]) -> pl.DataFrame:
    """Judgements by (item, setting), one score per repeat."""
    about = {"run": 0, "judge_model": "j", "attempts": 1, "prompt_tokens": 100, "completion_tokens": 10, "reply": ""}
    names = ("item_id", "setting", "repeat", "score", "status")
    rows = [
        about | dict(zip(names, (name, setting, repeat, score, "ok" if score else "refused"), strict=True))
        for (name, setting), given in scores.items()
        for repeat, score in enumerate(given)
    ]
    return pl.DataFrame(rows, schema=JUDGEMENT_SCHEMA)


BOTH = {**SCORES, "poem-4": ([], [4, 6])}
JUDGED = judged({(name, setting): sides[n] for name, sides in BOTH.items() for n, setting in enumerate(SETTINGS)})


def evaluated(table: pl.DataFrame | None, statuses: dict[str, str] | None = None) -> Evaluation:
    frames = {setting: generations(setting, statuses or {}) for setting in SETTINGS}
    return evaluate(ITEMS, frames, 1, PARAMS, model="m", dataset="d", decoding="greedy", judgements=table)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return evaluated(JUDGED)


def test_areas_and_overall_are_compared_over_the_items_judged_in_both_settings(result: Evaluation) -> None:
    poems = result.summary["areas"]["creative tasks"]
    assert (poems["n"], poems["mean_with"], poems["mean_without"]) == (3, 24.5 / 3, 18.5 / 3)
    # differences 2, 1, 3: mean 2, standard deviation 1, so t = 2 / (1 / sqrt(3)) with two degrees of freedom
    assert poems["t"] == pytest.approx(2 * math.sqrt(3))
    assert poems["p"] == pytest.approx(2 * student.sf(2 * math.sqrt(3), 2))
    assert (poems["win"], poems["tie"], poems["loss"]) == (3, 0, 0)
    code = result.summary["areas"]["coding & analysis"]
    assert (code["n"], code["mean_with"], code["mean_without"], code["difference"]) == (2, 5.5, 5.5, 0.0)
    assert code["t"] == pytest.approx(0.0)
    assert (code["win"], code["tie"], code["loss"]) == (1, 0, 1)
    overall = result.summary["areas"]["overall"]  # over all items, not over areas
    # differences 2, 1, 3, -1, 1: mean 1.2, sum of squares 16, variance (16 - 5 * 1.44) / 4 = 2.2
    assert overall["n"] == 5
    assert overall["difference"] == pytest.approx(1.2)
    assert overall["t"] == pytest.approx(1.2 / math.sqrt(2.2 / 5))
    assert overall["mean_with"] == pytest.approx((8 + 7.5 + 9 + 5 + 6) / 5)
    assert overall["low_with"] <= overall["mean_with"] <= overall["high_with"]
    areas = result.summary["areas"]
    # with and without: 8 8 | 6 6 | 7 8 | 6 7 | 9 9 | 6 6, and 4 6 of the response that has no partner
    expected = {"responses": 7, "mean_difference": 4 / 7, "exact": 4 / 7, "sd": math.sqrt((0.5 + 0.5 + 2) / 7)}
    assert areas["creative tasks"]["disagreement"] == pytest.approx(expected)
    assert areas["overall"]["disagreement"]["responses"] == 11
    assert result.summary["judge"]["disagreement"] == areas["overall"]["disagreement"]


def test_the_frame_and_the_summary_hold_what_counts_and_no_accuracy(result: Evaluation) -> None:
    frame = result.frame
    assert dict(frame.schema) == EVALUATION_SCHEMA
    scores = {(row["item_id"], row["setting"]): row["score"] for row in frame.iter_rows(named=True)}
    assert scores["poem-2", "with_reasoning"] == 7.5
    assert scores["code-2", "with_reasoning"] == 6.0
    assert scores["code-3", "without_reasoning"] is None
    assert scores["poem-4", "without_reasoning"] == 5.0
    counted = set(frame.filter("common")["item_id"])
    assert counted == {"poem-1", "poem-2", "poem-3", "code-1", "code-2"}
    paired = result.summary["paired"]
    assert paired["accuracy_with"] is paired["low_with"] is paired["mcnemar_p"] is None
    assert (paired["n"], paired["t"], paired["win"]) == (5, result.summary["areas"]["overall"]["t"], 4)
    assert result.summary["accuracy_all"]["with_reasoning"] is None
    assert result.summary["funnel"]["with_reasoning"]["once"]["common"] == 6  # valid responses, judged or not
    judge = result.summary["judge"]
    assert (judge["model"], judge["repeats"], judge["tokens"]) == ("j", 2, {"prompt": 2600, "completion": 260})
    assert judge["replies"] == {"ok": 23, "bad_reply": 0, "refused": 3}
    assert list(result.summary["areas"]) == ["coding & analysis", "creative tasks", "overall"]
    found = areas_in_order(["b", "reasoning & planning", "", "a", "coding & analysis", "b"])
    assert found == ["coding & analysis", "reasoning & planning", "a", "b"]  # the paper's, then others


def test_nothing_judged_is_said_not_computed() -> None:
    nothing = JUDGED.with_columns(score=pl.lit(None, pl.Int32), status=pl.lit("bad_reply"))
    summary = evaluated(nothing).summary
    assert summary["areas"]["overall"]["n"] == 0
    assert summary["areas"]["overall"]["mean_with"] is None
    assert "no common items" in summary["areas"]["overall"]["reason"]
    assert "NaN" not in json_text(summary)
    unjudged = evaluated(None).summary
    assert "areas" not in unjudged
    assert "no scores" in unjudged["paired"]["reason"]


def test_an_empty_table_changes_nothing_for_graded_items() -> None:
    """Byte for byte: the summary and the frame of a maths dataset with and without the judge's (empty) table."""
    maths = [Item(name, f"q {name}", "1", "math") for name in "ab"]
    frame = pl.DataFrame(
        [
            {"item_id": name, "run": 0, "status": "ok", "response": f"</think>\\boxed{{{box}}}"} | BOUNDS
            for name, box in (("a", 1), ("b", 2))
        ]
    )
    empty = pl.DataFrame(schema=JUDGEMENT_SCHEMA)
    about: dict[str, Any] = {"model": "m", "dataset": "d", "decoding": "-"}
    frames: dict[str, pl.DataFrame] = dict.fromkeys(SETTINGS, frame)
    one, other = (evaluate(maths, frames, 1, PARAMS, judgements=table, **about) for table in (None, empty))
    assert json_text(one.summary) == json_text(other.summary)
    assert one.frame.equals(other.frame)


def test_judgements_of_other_responses_are_refused() -> None:
    with pytest.raises(R2AError, match="a response that was not judged, to 'poem-2'"):
        evaluated(JUDGED.filter(pl.col("item_id") != "poem-2"))
    with pytest.raises(R2AError, match="a judgement of no response, to 'code-1'"):
        evaluated(JUDGED, {"code-1": "unfinished"})
