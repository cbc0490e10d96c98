"""Grading in a process of its own: what hangs, ends or tries to use it costs one answer, and no answer is run."""

import json
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from r2a_core.evaluation.sandbox import COMMAND, READY, GradingProcess, grade_many
from r2a_core.infra.errors import MissingPrerequisite

ENDLESS = r"\sin(9^{9^{9}})"  # takes 10^9 digits of pi

# A grading process that obeys the answer it is given: it hangs, ends, or calls the answer correct.
OBEDIENT = """
import json, os, signal, sys, time
open(sys.argv[1], "a").write("x")
print('"ready"', flush=True)
for line in sys.stdin:
    answer, gold = json.loads(line)
    if answer == "hang":
        time.sleep(60)
    if answer == "end":
        os._exit(1)
    if answer == "over":
        os.kill(os.getpid(), signal.SIGXCPU)
    if answer == "half":
        print('["correct", ', end="", flush=True)
        time.sleep(0.05)
        print('"in two pieces"]', flush=True)
        continue
    print(json.dumps(["correct", answer]), flush=True)
"""


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A file with one letter for each time that the obedient process was started."""
    return tmp_path / "started"


@pytest.fixture
def obedient(started: Path) -> tuple[str, ...]:
    """The command of the obedient process."""
    return (sys.executable, "-c", OBEDIENT, str(started))


def test_a_real_answer_that_never_ends_costs_only_itself() -> None:
    pairs = [(r"\frac{2}{4}", r"\frac{1}{2}"), (ENDLESS, "5"), ("7", "3, 5, 7"), ("Otter", r"\text{otter}")]
    began = time.monotonic()
    verdicts = grade_many(pairs, timeout_seconds=2)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "timeout", "wrong", "correct"]
    assert [verdict.score for verdict in verdicts] == [1, 0, 0, 1]
    assert time.monotonic() - began < 30


def test_a_hang_and_a_crash_each_cost_one_answer(obedient: tuple[str, ...], started: Path) -> None:
    assert grade_many([], 5, obedient) == []
    assert not started.exists()  # nothing is started for nothing
    answers = ["a", "hang", "b", "end", "c", "half"]
    verdicts = grade_many([(answer, "gold") for answer in answers], 1, obedient)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "timeout", "correct", "wrong", "correct", "correct"]
    assert [verdict.reason for verdict in verdicts][::2] == ["a", "b", "c"]
    assert started.read_text() == "xxx"  # at first, after the hang, after the crash
    assert [verdict.outcome for verdict in grade_many([("end", "x")] * 3, 5, obedient)] == ["wrong"] * 3
    assert started.read_text() == "xxxx"  # a pair that comes again is not graded again


def test_a_process_that_cannot_start_is_an_error_not_a_wrong_answer() -> None:
    with pytest.raises(MissingPrerequisite, match="no_such_module_at_all") as caught:
        grade_many([("5", "5")], 5, (sys.executable, "-c", "import no_such_module_at_all"))
    target = caught.value.hint.removeprefix("install the project again: make ")
    makefile = (Path(__file__).resolve().parents[2] / "Makefile").read_text(encoding="utf-8")
    assert f"\n{target}:" in makefile


@pytest.mark.parametrize("answer", ["a", "a" * 1_000_000])  # more than the pipe to it holds
def test_a_process_that_was_stalled_is_a_timeout(obedient: tuple[str, ...], answer: str) -> None:
    with closing(GradingProcess(1, obedient)) as process:
        assert process.ask("a", "b").outcome == "correct"
        assert process._process is not None
        process._process.send_signal(signal.SIGSTOP)
        assert process.ask(answer, "b").outcome == "timeout"
        assert process.ask("a", "b").outcome == "correct"


def test_its_cpu_time_is_limited_also_when_nobody_looks_at_the_clock(obedient: tuple[str, ...]) -> None:
    question = json.dumps([ENDLESS, "5"])
    ended = subprocess.run([*COMMAND, "1"], input=question, stdout=subprocess.PIPE, text=True, timeout=120)
    assert (ended.returncode, ended.stdout.strip()) == (-signal.SIGXCPU, READY)
    assert grade_many([("over", "x")], 5, obedient)[0].outcome == "timeout"


def test_no_process_is_left_behind(obedient: tuple[str, ...]) -> None:
    with closing(GradingProcess(5, obedient)) as process:
        process.ask("a", "b")
        child = process._process
    assert child is not None
    assert child.poll() is not None


HOSTILE = json.loads((Path(__file__).parent / "hostile_answers.json").read_text(encoding="utf-8"))


def filled(answers: list[str], canary: Path) -> list[str]:
    nested, long = "(" * 400 + "1" + ")" * 400, "x+" * 5000 + "1"
    return [answer.format(canary=canary, nested=nested, long=long) for answer in answers]


def test_no_answer_is_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    answers = filled(HOSTILE["code"], canary)
    verdicts = grade_many([(answer, "2") for answer in answers] + [("2", answer) for answer in answers], 3.0)
    assert "correct" not in [verdict.outcome for verdict in verdicts]
    assert not canary.exists()


def test_large_answers_cost_their_time_and_no_more(tmp_path: Path) -> None:
    answers = filled(HOSTILE["large"], tmp_path / "canary")
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    verdicts = grade_many([(answer, "2") for answer in answers] + [("4", "4")], 1.0)
    late = sum(verdict.outcome == "timeout" for verdict in verdicts)
    assert {verdict.outcome for verdict in verdicts[:-1]} <= {"wrong", "timeout"}
    assert verdicts[-1].outcome == "correct"
    assert time.monotonic() - began < 20 * (late + 1) + len(answers)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, of the largest child so far
    assert max(used, before) < 5 * 1024**2
