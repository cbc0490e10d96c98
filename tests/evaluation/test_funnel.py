"""The funnel and the comparison on responses small enough to count by hand, and on any statuses of any responses."""

import json
import math
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.config import EvaluateParams
from r2a_core.data.items import Item
from r2a_core.evaluation.answers import KINDS
from r2a_core.evaluation.funnel import EVALUATION_SCHEMA, STEPS, Evaluation, evaluate
from r2a_core.evaluation.paired import compare_settings
from r2a_core.infra.files import json_text
from r2a_core.trace import SETTINGS

PARAMS = EvaluateParams(timeout_seconds=10, bootstrap_draws=200, seed=0)
ITEMS = [Item(name, f"question {name}", gold, "math") for name, gold in zip("abcdef", "123456", strict=True)]
Attempt = tuple[str, int, str, str]  # item, run, status, boxed answer


def responses(given: Sequence[Attempt]) -> pl.DataFrame:
    """Generations with 7 reasoning tokens and 4 answer tokens each; where an answer is given, it stands in a box."""
    bounds = {"think_close": 18, "answer_start": 19, "answer_end": 23}
    rows = []
    for item, run, status, answer in given:
        row: dict[str, Any] = {"item_id": item, "run": run, "status": status, "think_open": 10}
        text = f"Hm, \\boxed{{0}}\n</think>\nSo \\boxed{{{answer}}}" if status == "ok" else "no"
        rows.append(row | {"response": text} | (bounds if status == "ok" else dict.fromkeys(bounds)))
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(["run", "think_open", *bounds], pl.Int32))


def attempts(run: int, names: str, outcomes: str) -> list[Attempt]:
    """An attempt per item and word: a number is the boxed answer, any other word the status."""
    pairs = zip(names, outcomes.split(), strict=True)
    return [(item, run, "ok", word) if word.isdigit() else (item, run, word, "") for item, word in pairs]


FIRST, SECOND = attempts(0, "abcdef", "1 2 3 unfinished bad_think no_answer"), "4 no_answer unfinished"
WITH = responses([*FIRST, *attempts(1, "def", SECOND)])  # d passes, e gets one step further, f falls back
WITHOUT = responses([*attempts(0, "abcdef", "1 7 no_answer 0 5 6"), ("c", 1, "ok", "3")])


def run_evaluation(
    with_: pl.DataFrame = WITH, without: pl.DataFrame = WITHOUT, items: Sequence[Item] = ITEMS, runs: int = 1
) -> Evaluation:
    generations: dict[str, pl.DataFrame] = dict(zip(SETTINGS, (with_, without), strict=True))
    return evaluate(items, generations, runs, PARAMS, model="m", dataset="d", decoding="greedy")


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return run_evaluation()


def test_the_funnel_counts_first_attempts_and_both_and_the_comparison_common_items(evaluation: Evaluation) -> None:
    funnel = evaluation.summary["funnel"]
    counted = (*STEPS, "common")
    assert funnel["with_reasoning"]["once"] == dict(zip(counted, (6, 5, 4, 3, 2), strict=True))
    # e moved up to "no answer", f stays with its better first attempt
    assert funnel["with_reasoning"]["twice"] == dict(zip(counted, (6, 6, 6, 4, 4), strict=True))
    assert funnel["without_reasoning"]["once"]["answer_format"] == 5
    assert funnel["without_reasoning"]["twice"]["answer_format"] == 6
    assert evaluation.summary["retried"] == 4
    assert evaluation.summary["unfinished"] == {"with_reasoning": pytest.approx(1 / 6), "without_reasoning": 0}
    # failed responses count in the accuracy of all; mean lengths are of responses that passed
    assert evaluation.summary["accuracy_all"] == {"with_reasoning": 3 / 6, "without_reasoning": 3 / 6}
    assert evaluation.summary["tokens"]["with_reasoning"] == {"reasoning": 7.0, "answer": 4.0}
    paired, once = evaluation.summary["paired"], evaluation.summary["paired_once"]
    # after the second attempt: a, b, c, d; right with reasoning: all four, without: a and c
    assert (paired["n"], paired["accuracy_with"], paired["accuracy_without"]) == (4, 1.0, 0.5)
    assert paired["t"] == pytest.approx(math.sqrt(3))  # differences 0, 1, 0, 1
    assert (paired["win"], paired["tie"], paired["loss"]) == (2, 2, 0)
    assert paired["mcnemar_p"] == pytest.approx(0.5)  # 2 of 2 heads, two-sided
    # first attempts alone: a and b
    assert (once["n"], once["accuracy_with"], once["accuracy_without"]) == (2, 1.0, 0.5)


def test_the_frame_holds_every_attempt_and_gives_the_same_comparison(evaluation: Evaluation) -> None:
    frame = evaluation.frame
    assert dict(frame.schema) == EVALUATION_SCHEMA
    assert frame.height == WITH.height + WITHOUT.height
    assert frame.filter(pl.col("item_id") == "b")["extracted"].to_list() == ["2", "7"]
    common = frame.filter("common")
    kept = common.filter(pl.col("setting") == "with_reasoning").select("item_id", "run").rows()
    assert kept == [("a", 0), ("b", 0), ("c", 0), ("d", 1)]
    assert frame.filter(pl.col("status") != "ok")["score"].null_count() == 5 + 1
    assert compare_settings(common, PARAMS.bootstrap_draws, PARAMS.seed) == evaluation.summary["paired"]
    # the order of the responses changes nothing
    again = run_evaluation(WITH.reverse(), WITHOUT.sample(fraction=1, shuffle=True, seed=1))
    assert again.frame.equals(evaluation.frame)
    assert json_text(again.summary) == json_text(evaluation.summary)


def test_several_runs_are_averaged_item_by_item() -> None:
    with_ = responses([*attempts(0, "abcd", "1 2 3 3"), *attempts(1, "abcd", "1 2 0 4")])
    without = responses([answer for run in (0, 1) for answer in attempts(run, "abcd", "1 0 3 4")])
    done = run_evaluation(with_, without, runs=2)
    paired = done.summary["paired"]
    # with: a 1, b 1, c 1/2, d 1/2; without: a 1, b 0, c 1, d 1
    assert (paired["n"], paired["accuracy_with"], paired["accuracy_without"]) == (4, 0.75, 0.75)
    assert (paired["win"], paired["tie"], paired["loss"]) == (1, 1, 2)
    assert paired["mcnemar_p"] is None
    assert done.summary["funnel"]["with_reasoning"]["once"]["all"] == 8
    # a retry belongs to its own run
    with_ = responses([("a", 0, "ok", "1"), ("a", 1, "unfinished", ""), ("a", 3, "ok", "9")])
    without = responses([("a", 0, "ok", "1"), ("a", 1, "ok", "1")])
    done = run_evaluation(with_, without, runs=2)
    assert done.summary["paired"]["accuracy_with"] == 0.5
    assert done.summary["paired_once"]["accuracy_with"] == 1.0  # run 1 is common only after the second attempt
    assert done.summary["funnel"]["with_reasoning"]["twice"]["common"] == 2


def test_what_was_answered_is_counted_by_the_option_that_the_grader_finds() -> None:
    two, four = ({"options": list(names), "chance": 1 / len(names)} for names in (("red fox", "owl"), "1234"))
    options = [("a", "owl", two), ("b", "red fox", two), ("c", "owl", two), ("d", "owl", two), ("e", "2", four)]
    options += [("f", "3", four), ("g", "3", four)]
    items = [Item(name, name, gold, "comparison", extra=json.dumps(extra)) for name, gold, extra in options]
    boxes = [r"\text{Owl}", "owl", "Red Fox", "dog", "2.0", "4", "17"]
    with_ = responses([(name, 0, "ok", box) for name, box in zip("abcdefg", boxes, strict=True)])
    failed = [(name, 0, "bad_think", "") for name in "bcdefg"]
    without = responses([("a", 0, "ok", "fox"), *failed])
    found = run_evaluation(with_, without, items)
    assert found.frame["option"].to_list() == [1, 1, 0, None, 1, 3, None, *[None] * 7]
    kinds = ("n", *KINDS, "named_first", "named_second")
    answers = found.summary["answers"]
    # right, first, second, another, third, wrong, undecided, nothing
    assert answers["with_reasoning"] == dict(zip(kinds, (7, 2, 1, 1, 1, 2, 0, 0, 0, 1, 2), strict=True))
    assert answers["without_reasoning"] == dict(zip(kinds, (7, 0, 0, 0, 0, 1, 0, 0, 6, 0, 0), strict=True))
    assert found.summary["chance"] == pytest.approx((4 * 0.5 + 3 * 0.25) / 7)
    known = run_evaluation().summary
    assert known["chance"] is None
    assert [known["answers"]["with_reasoning"][kind] for kind in KINDS] == [3, 0, 0, 0, 0, 0, 0, 3]
    assert run_evaluation(items=[Item(name, "Q?", None, "open") for name in "abcdef"]).summary["answers"] == {}


def test_no_common_item_is_said_not_computed() -> None:
    other = (responses([("a", 0, "ok", "1")]), responses([("b", 0, "ok", "2")]))
    none_common, nothing = (run_evaluation(*given).summary for given in (other, (WITH.clear(), WITHOUT.clear())))
    for summary in (none_common, nothing):
        paired = summary["paired"]
        assert (paired["n"], paired["t"], paired["p"], paired["reason"]) == (0, None, None, "no common items")
        assert paired["accuracy_with"] is None
        assert "NaN" not in json_text(summary)
    assert nothing["accuracy_all"] == {"with_reasoning": None, "without_reasoning": None}
    assert nothing["tokens"]["with_reasoning"] == {"reasoning": None, "answer": None}


STATUSES = ("ok", "no_answer", "bad_think", "unfinished")
REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)
item_ids = st.lists(st.text("ab/.\0é", min_size=1, max_size=3), min_size=1, max_size=6, unique=True)


@st.composite
def studies(draw: Any) -> tuple[list[str], int, dict[str, list[tuple[str, int, str]]]]:
    """Items, runs, and the attempts of both settings: a second one only where the first did not pass."""
    ids, runs = draw(item_ids), draw(st.integers(1, 2))
    given: dict[str, list[tuple[str, int, str]]] = {}
    for setting in SETTINGS:
        rows = given[setting] = []
        for run in range(runs):
            for item in ids:
                status = draw(st.sampled_from(STATUSES))
                rows.append((item, run, status))
                if status != "ok" and draw(st.booleans()):
                    rows.append((item, runs + run, draw(st.sampled_from(STATUSES))))
    return ids, runs, given


@REPEATABLE
@given(studies())
def test_steps_count_down_and_common_items_passed_in_both_settings(study: Any) -> None:
    ids, runs, given = study
    with_, without = (responses([(*row, "1") for row in given[setting]]) for setting in SETTINGS)
    found = run_evaluation(with_, without, [Item(i, "Q?", None, "open") for i in ids], runs)
    passed = {name: {(item, run % runs) for item, run, status in given[name] if status == "ok"} for name in SETTINGS}
    common = passed["with_reasoning"] & passed["without_reasoning"]
    for setting in SETTINGS:
        once, twice = (found.summary["funnel"][setting][name] for name in ("once", "twice"))
        for counts in (once, twice):
            steps = [counts[step] for step in STEPS]
            assert steps == sorted(steps, reverse=True)
            assert counts["all"] == len(ids) * runs
            assert counts["common"] <= counts["answer_format"]
        assert all(once[name] <= twice[name] for name in once)
        first = [status for _, run, status in given[setting] if run < runs]
        assert once["answer_format"] == first.count("ok")
        assert once["finished"] == len(first) - first.count("unfinished")
        assert twice["answer_format"] == len(passed[setting])
        assert twice["common"] == len(common)
    rows = found.frame.filter("common")
    assert set(rows["status"]) <= {"ok"}
    counted = rows.select("item_id", "setting", run=pl.col("run") % runs)
    assert set(counted.iter_rows()) == {(item, setting, run) for item, run in common for setting in SETTINGS}
    assert rows.height == 2 * len(common)
    assert found.frame.height == sum(map(len, given.values()))


def test_an_open_verdict_passes_the_funnel_and_is_in_no_comparison() -> None:
    items = [Item(name, f"question {name}", gold, "math") for name, gold in (("a", "1"), ("b", "2.5"))]
    with_ = responses([("a", 0, "ok", "1"), ("b", 0, "ok", "2,5")])
    without = responses([("a", 0, "ok", "7"), ("b", 0, "ok", "2.5")])
    found = run_evaluation(with_, without, items)
    assert found.frame["status"].to_list() == ["ok", "undecided", "ok", "ok"]
    assert found.frame["score"].to_list() == [1.0, None, 0.0, 1.0]
    assert found.frame["common"].to_list() == [True, False, True, False]
    summary = found.summary
    assert summary["undecided"] == 1
    assert [summary["funnel"][SETTINGS[0]]["once"][step] for step in ("answer_format", "common")] == [2, 1]
    assert (summary["paired"]["n"], summary["accuracy_all"]) == (1, {SETTINGS[0]: 1.0, SETTINGS[1]: 0.5})
    assert summary["answers"][SETTINGS[0]]["undecided"] == 1
