"""The funnel and the comparison on responses small enough to count by hand, and on any statuses of any responses."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.config import EvaluateParams
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import EVALUATION_SCHEMA, STEPS, Evaluation, evaluate
from r2a_core.evaluation.paired import compare_settings
from r2a_core.infra.files import json_text
from r2a_core.trace import SETTINGS

PARAMS = EvaluateParams(timeout_seconds=10, bootstrap_draws=200, seed=0)
ITEMS = [Item(name, f"question {name}", gold, "math") for name, gold in zip("abcdef", "123456", strict=True)]
Attempt = tuple[str, int, str, str]  # item, run, status, boxed answer


def responses(attempts: Sequence[Attempt]) -> pl.DataFrame:
    """Generations with 7 reasoning tokens and 4 answer tokens each; where an answer is given, it stands in a box."""
    rows = [
        {
            "item_id": item,
            "run": run,
            "status": status,
            "response": f"Hm, \\boxed{{0}}\n</think>\nSo \\boxed{{{answer}}}" if status == "ok" else "no",
            "think_open": 10,
            "think_close": 18 if status == "ok" else None,
            "answer_start": 19 if status == "ok" else None,
            "answer_end": 23 if status == "ok" else None,
        }
        for item, run, status, answer in attempts
    ]
    numbers = ("run", "think_open", "think_close", "answer_start", "answer_end")
    ints: dict[str, Any] = dict.fromkeys(numbers, pl.Int32)
    return pl.DataFrame(rows, schema_overrides=ints)


WITH = responses(
    [
        ("a", 0, "ok", "1"),
        ("b", 0, "ok", "2"),
        ("c", 0, "ok", "3"),
        ("d", 0, "unfinished", ""),
        ("e", 0, "bad_think", ""),
        ("f", 0, "no_answer", ""),
        ("d", 1, "ok", "4"),  # second attempts: d passes, e gets one step further, f falls back
        ("e", 1, "no_answer", ""),
        ("f", 1, "unfinished", ""),
    ]
)
WITHOUT = responses(
    [
        ("a", 0, "ok", "1"),
        ("b", 0, "ok", "7"),
        ("c", 0, "no_answer", ""),
        ("d", 0, "ok", "0"),
        ("e", 0, "ok", "5"),
        ("f", 0, "ok", "6"),
        ("c", 1, "ok", "3"),
    ]
)


def run_evaluation(
    with_: pl.DataFrame = WITH, without: pl.DataFrame = WITHOUT, items: Sequence[Item] = ITEMS, runs: int = 1
) -> Evaluation:
    generations = {"with_reasoning": with_, "without_reasoning": without}
    return evaluate(items, generations, runs, PARAMS, model="m", dataset="d", decoding="greedy")


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return run_evaluation()


def test_the_funnel_counts_first_attempts_and_both(evaluation: Evaluation) -> None:
    funnel = evaluation.summary["funnel"]
    assert funnel["with_reasoning"]["once"] == {
        "all": 6,
        "finished": 5,
        "think_format": 4,
        "answer_format": 3,
        "common": 2,
    }
    assert funnel["with_reasoning"]["twice"] == {
        "all": 6,
        "finished": 6,
        "think_format": 6,  # e moved up to "no answer", f stays with its better first attempt
        "answer_format": 4,
        "common": 4,
    }
    assert funnel["without_reasoning"]["once"]["answer_format"] == 5
    assert funnel["without_reasoning"]["twice"]["answer_format"] == 6
    assert evaluation.summary["retried"] == 4


def test_the_comparison_is_over_common_items(evaluation: Evaluation) -> None:
    paired, once = evaluation.summary["paired"], evaluation.summary["paired_once"]
    # after the second attempt: a, b, c, d; right with reasoning: all four, without: a and c
    assert (paired["n"], paired["accuracy_with"], paired["accuracy_without"]) == (4, 1.0, 0.5)
    assert paired["t"] == pytest.approx(math.sqrt(3))  # differences 0, 1, 0, 1
    assert (paired["win"], paired["tie"], paired["loss"]) == (2, 2, 0)
    assert paired["mcnemar_p"] == pytest.approx(0.5)  # 2 of 2 heads, two-sided
    # first attempts alone: a and b
    assert (once["n"], once["accuracy_with"], once["accuracy_without"]) == (2, 1.0, 0.5)


def test_failed_responses_count_in_the_accuracy_of_all(evaluation: Evaluation) -> None:
    assert evaluation.summary["accuracy_all"] == {"with_reasoning": 3 / 6, "without_reasoning": 3 / 6}


def test_mean_lengths_are_of_responses_that_passed(evaluation: Evaluation) -> None:
    assert evaluation.summary["tokens"]["with_reasoning"] == {"reasoning": 7.0, "answer": 4.0}


def test_the_frame_holds_every_attempt_and_gives_the_same_comparison(evaluation: Evaluation) -> None:
    frame = evaluation.frame
    assert dict(frame.schema) == EVALUATION_SCHEMA
    assert frame.height == WITH.height + WITHOUT.height
    assert frame.filter(pl.col("item_id") == "b")["extracted"].to_list() == ["2", "7"]
    common = frame.filter("common")
    assert common.filter(pl.col("setting") == "with_reasoning").select("item_id", "run").rows() == [
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("d", 1),
    ]
    assert frame.filter(pl.col("status") != "ok")["score"].null_count() == 5 + 1
    assert compare_settings(common, PARAMS.bootstrap_draws, PARAMS.seed) == evaluation.summary["paired"]


def test_the_order_of_the_responses_changes_nothing(evaluation: Evaluation) -> None:
    again = run_evaluation(WITH.reverse(), WITHOUT.sample(fraction=1, shuffle=True, seed=1))
    assert again.frame.equals(evaluation.frame)
    assert json_text(again.summary) == json_text(evaluation.summary)


def test_several_runs_are_averaged_item_by_item() -> None:
    answers = {"with_reasoning": {0: "1233", 1: "1204"}, "without_reasoning": {0: "1034", 1: "1034"}}
    frames = {
        setting: responses([(item, run, "ok", a) for run, row in runs.items() for item, a in zip("abcd", row)])  # noqa: B905
        for setting, runs in answers.items()
    }
    done = evaluate(ITEMS, frames, 2, PARAMS, model="m", dataset="d", decoding="greedy")
    paired = done.summary["paired"]
    # with: a 1, b 1, c 1/2, d 1/2; without: a 1, b 0, c 1, d 1
    assert (paired["n"], paired["accuracy_with"], paired["accuracy_without"]) == (4, 0.75, 0.75)
    assert (paired["win"], paired["tie"], paired["loss"]) == (1, 1, 2)
    assert paired["mcnemar_p"] is None
    assert done.summary["funnel"]["with_reasoning"]["once"]["all"] == 8


def test_with_several_runs_a_retry_belongs_to_its_own_run() -> None:
    with_ = responses([("a", 0, "ok", "1"), ("a", 1, "unfinished", ""), ("a", 3, "ok", "9")])
    without = responses([("a", 0, "ok", "1"), ("a", 1, "ok", "1")])
    done = run_evaluation(with_, without, runs=2)
    assert done.summary["paired"]["accuracy_with"] == 0.5
    assert done.summary["paired_once"]["accuracy_with"] == 1.0  # run 1 is common only after the second attempt
    assert done.summary["funnel"]["with_reasoning"]["twice"]["common"] == 2


def test_open_items_are_not_graded_but_counted() -> None:
    items = [Item(name, "Tell me.", None, "open") for name in "ab"]
    frame = responses([("a", 0, "ok", "x"), ("b", 0, "ok", "y")])
    done = run_evaluation(frame, frame, items)
    assert done.frame["score"].null_count() == 4
    assert done.frame["common"].all()
    assert (done.summary["paired"]["n"], done.summary["paired"]["t"]) == (2, None)
    assert "no scores" in done.summary["paired"]["reason"]
    assert done.summary["accuracy_all"]["with_reasoning"] is None


def test_no_common_item_is_said_not_computed() -> None:
    done = run_evaluation(responses([("a", 0, "ok", "1")]), responses([("b", 0, "ok", "2")]))
    assert done.summary["paired"]["n"] == 0
    assert done.summary["paired"]["accuracy_with"] is None
    assert "no common items" in done.summary["paired"]["reason"]
    assert "NaN" not in json_text(done.summary)


def test_no_response_at_all_gives_null_not_a_number() -> None:
    done = run_evaluation(WITH.clear(), WITHOUT.clear())
    paired = done.summary["paired"]
    assert (paired["n"], paired["t"], paired["p"], paired["reason"]) == (0, None, None, "no common items")
    assert done.summary["accuracy_all"] == {"with_reasoning": None, "without_reasoning": None}
    assert done.summary["tokens"]["with_reasoning"] == {"reasoning": None, "answer": None}


STATUSES = ("ok", "no_answer", "bad_think", "unfinished")
REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)
item_ids = st.lists(st.text("ab/.\0é", min_size=1, max_size=3), min_size=1, max_size=6, unique=True)


@st.composite
def studies(draw: Any) -> tuple[list[str], int, dict[str, list[tuple[str, int, str]]]]:
    """Items, runs, and the attempts of both settings: a second one only where the first did not pass."""
    ids, runs = draw(item_ids), draw(st.integers(1, 2))
    attempts: dict[str, list[tuple[str, int, str]]] = {}
    for setting in SETTINGS:
        rows = []
        for run in range(runs):
            for item in ids:
                status = draw(st.sampled_from(STATUSES))
                rows.append((item, run, status))
                if status != "ok" and draw(st.booleans()):
                    rows.append((item, runs + run, draw(st.sampled_from(STATUSES))))
        attempts[setting] = rows
    return ids, runs, attempts


@REPEATABLE
@given(studies())
def test_steps_count_down_and_common_items_passed_in_both_settings(study: Any) -> None:
    ids, runs, attempts = study
    frames = {
        setting: responses([(item, run, status, "1") for item, run, status in rows])
        for setting, rows in attempts.items()
    }
    found = run_evaluation(
        frames["with_reasoning"], frames["without_reasoning"], [Item(i, "Q?", None, "open") for i in ids], runs
    )
    passed = {
        setting: {(item, run % runs) for item, run, status in rows if status == "ok"}
        for setting, rows in attempts.items()
    }
    common = passed["with_reasoning"] & passed["without_reasoning"]
    for setting in SETTINGS:
        once, twice = (found.summary["funnel"][setting][name] for name in ("once", "twice"))
        for counts in (once, twice):
            steps = [counts[step] for step in STEPS]
            assert steps == sorted(steps, reverse=True)
            assert counts["all"] == len(ids) * runs
            assert counts["common"] <= counts["answer_format"]
        assert all(once[name] <= twice[name] for name in once)
        first = [status for _, run, status in attempts[setting] if run < runs]
        assert once["answer_format"] == first.count("ok")
        assert once["finished"] == len(first) - first.count("unfinished")
        assert twice["answer_format"] == len(passed[setting])
        assert twice["common"] == len(common)
    rows = found.frame.filter("common")
    assert set(rows["status"]) <= {"ok"}
    counted = rows.select("item_id", "setting", run=pl.col("run") % runs)
    assert set(counted.iter_rows()) == {(item, setting, run) for item, run in common for setting in SETTINGS}
    assert rows.height == 2 * len(common)
    assert found.frame.height == sum(map(len, attempts.values()))
