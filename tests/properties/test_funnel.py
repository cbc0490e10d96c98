"""Any statuses of any responses: each step counts no more than the one before, and the common items passed in both."""

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.config import EvaluateParams
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import STEPS, evaluate
from r2a_core.trace import GENERATION_SCHEMA, SETTINGS

PARAMS = EvaluateParams(timeout_seconds=10.0, bootstrap_draws=100, seed=0)
STATUSES = ("ok", "no_answer", "bad_think", "unfinished")
REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)
items = st.lists(st.text("ab/.\0é", min_size=1, max_size=3), min_size=1, max_size=6, unique=True)


def frame(rows: list[tuple[str, int, str]]) -> pl.DataFrame:
    empty = {"prompt": "", "response": "x", "prompt_ids": [0], "response_ids": [1], "finish": "stop", "seed": 0}
    bounds = {"think_open": 1, "think_close": 4, "answer_start": 5, "answer_end": 7}
    named = [{**empty, **bounds, "item_id": item, "run": run, "status": status} for item, run, status in rows]
    return pl.DataFrame(named, schema=GENERATION_SCHEMA)


@st.composite
def studies(draw: Any) -> tuple[list[str], int, dict[str, list[tuple[str, int, str]]]]:
    """Items, runs, and the attempts of both settings: a second one only where the first did not pass."""
    ids, runs = draw(items), draw(st.integers(1, 2))
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
    frames = {setting: frame(rows) for setting, rows in attempts.items()}
    found = evaluate(
        [Item(i, "Q?", None, "open") for i in ids], frames, runs, PARAMS, model="m", dataset="d", decoding="x"
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
