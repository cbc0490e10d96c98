"""Grading in a process of its own: what hangs or ends it costs one answer."""

import sys
import time
from pathlib import Path

import pytest

from r2a_core.evaluation import sandbox as worker
from r2a_core.evaluation.sandbox import GradingProcess, grade_many
from r2a_core.infra.errors import MissingPrerequisite

# A grading process that obeys the answer it is given: it hangs, ends, or calls the answer correct.
OBEDIENT = """
import json, os, sys, time
open("started", "a").write("x")
print('"ready"', flush=True)
for line in sys.stdin:
    answer, gold = json.loads(line)
    if answer == "hang":
        time.sleep(60)
    if answer == "end":
        os._exit(1)
    if answer == "half":
        print('["correct", ', end="", flush=True)
        time.sleep(0.05)
        print('"in two pieces"]', flush=True)
        continue
    print(json.dumps(["correct", answer]), flush=True)
"""


def use(monkeypatch: pytest.MonkeyPatch, folder: Path, program: str) -> Path:
    """Makes `program` the grading process; returns a file with one letter for each time it was started."""
    monkeypatch.setattr(worker, "COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(worker, "PROJECT", folder)
    return folder / "started"


def test_a_real_answer_that_never_ends_costs_only_itself() -> None:
    pairs = [(r"\frac{2}{4}", r"\frac{1}{2}"), ("9^{9^{9}}", "5"), ("7", "3, 5, 7"), ("Otter", r"\text{otter}")]
    started = time.monotonic()
    verdicts = grade_many(pairs, timeout_seconds=2)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "timeout", "wrong", "correct"]
    assert [verdict.score for verdict in verdicts] == [1, 0, 0, 1]
    assert time.monotonic() - started < 30


def test_a_hang_and_a_crash_each_cost_one_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = use(monkeypatch, tmp_path, OBEDIENT)
    answers = ["a", "hang", "b", "end", "c", "half"]
    verdicts = grade_many([(answer, "gold") for answer in answers], timeout_seconds=1)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "timeout", "correct", "wrong", "correct", "correct"]
    assert [verdict.reason for verdict in verdicts][::2] == ["a", "b", "c"]
    assert started.read_text() == "xxx"  # at first, after the hang, after the crash


def test_a_pair_that_comes_again_is_not_graded_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = use(monkeypatch, tmp_path, OBEDIENT)
    verdicts = grade_many([("end", "x"), ("end", "x"), ("end", "x")], timeout_seconds=5)
    assert [verdict.outcome for verdict in verdicts] == ["wrong"] * 3
    assert started.read_text() == "x"


def test_nothing_is_started_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = use(monkeypatch, tmp_path, OBEDIENT)
    assert grade_many([]) == []
    assert not started.exists()


def test_a_process_that_cannot_start_is_an_error_not_a_wrong_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, tmp_path, "import no_such_module_at_all")
    with pytest.raises(MissingPrerequisite, match="no_such_module_at_all"):
        grade_many([("5", "5")])


def test_no_process_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path, OBEDIENT)
    with GradingProcess(5) as process:
        process.ask("a", "b")
        child = process._process
    assert child is not None
    assert child.poll() is not None
