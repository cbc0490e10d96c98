"""Grades answers in a process of its own, with a time and a memory limit: one that hangs or kills it costs only itself.

`grade_many`: pairs (extracted, gold) -> verdicts in the same order. The process is this module, run as
`python -m r2a_core.evaluation.sandbox SECONDS`: one JSON line [extracted, gold] in, one [outcome, reason] out. It ends
with the process that started it. Answers to a task of reasoning-gym come with a third text, the recipe of their
question, and the task scores them.

Covered: endless algebra, memory, a crash of the interpreter, text that is code (it is parsed, never run). Not covered:
the network and the file system, which the process shares with the stage; nothing in an answer can ask for them.
"""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from r2a_core.data.gym import FIXED_HASHES, gym_score, require_package
from r2a_core.evaluation.grade import Verdict, grade
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.processes import end_with_parent

PROJECT = Path(__file__).resolve().parents[2]

COMMAND = (sys.executable, "-m", "r2a_core.evaluation.sandbox")

READY = '"ready"'

WITH_GYM = "gym"  # argument of the process that loads reasoning-gym before its first question

START_SECONDS = 120.0  # the modules load in a second or two; a cold disk takes longer

MEMORY_BYTES = 4 * 1024**3

STOPPED = (-signal.SIGKILL, -signal.SIGXCPU)  # by the clock, by its CPU limit, or by a machine without memory


def grade_many(
    pairs: Sequence[tuple[str, ...]], timeout_seconds: float, command: Sequence[str] = COMMAND
) -> list[Verdict]:
    """Grades pairs (extracted, gold), each within `timeout_seconds` of wall time; the same pair once.

    An answer past its time is a `timeout`, also when the process was stalled or killed; one that ends the process is
    `wrong`. A new process goes on with the next. A third text is the recipe of a question of reasoning-gym.
    command: the grading process. Raises MissingPrerequisite when it does not start at all, or reasoning-gym is asked
    for and absent, R2AError when that makes another question than it did.
    """
    if any(len(pair) > 2 for pair in pairs):
        require_package()
        command = (*command, WITH_GYM)
    verdicts: dict[tuple[str, ...], Verdict] = {}
    with closing(GradingProcess(timeout_seconds, command)) as process:
        for pair in pairs:
            if pair not in verdicts:
                verdicts[pair] = process.ask(*pair)
    return [verdicts[pair] for pair in pairs]


class GradingProcess:
    """The grading process, started at the first question and again after each one that it does not survive."""

    def __init__(self, timeout_seconds: float, command: Sequence[str] = COMMAND) -> None:
        self.timeout_seconds = timeout_seconds
        self.command = (*command, str(timeout_seconds))
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, *question: str) -> Verdict:
        """Grades one answer."""
        process = self._process or self._start()
        line = self._exchange(process, json.dumps(question).encode() + b"\n", self.timeout_seconds)
        if line is not None:
            outcome, reason, *hint = json.loads(line)
            if hint:
                raise R2AError(reason, hint[0])
            return Verdict(outcome, reason)
        self.close()
        if process.returncode in STOPPED:
            return Verdict("timeout", f"not graded within {self.timeout_seconds:g} s")
        return Verdict("wrong", "the grading process ended on this answer")

    def _start(self) -> "subprocess.Popen[bytes]":
        """Starts the process and waits until it has loaded. A fixed hash seed makes its choices repeatable."""
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=PROJECT,
                env=os.environ | FIXED_HASHES,
            )
            if self._exchange(self._process, b"", START_SECONDS) is None:
                self.close()
                complaints.seek(0)
                last = complaints.read().decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
                raise MissingPrerequisite(
                    f"the grading process does not start: {last[0]}", "install the project again: make install"
                )
        return self._process

    @staticmethod
    def _exchange(process: "subprocess.Popen[bytes]", question: bytes, seconds: float) -> bytes | None:
        """Returns its next line; None when it has ended, by itself or because its time was over.

        Killing it also frees a write or a read that would wait for ever, as for a process that was stopped.
        """
        assert process.stdin is not None
        assert process.stdout is not None
        over = threading.Event()

        def end() -> None:
            over.set()
            process.kill()

        clock = threading.Timer(seconds, end)
        clock.start()
        try:
            process.stdin.write(question)
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            return None
        finally:
            clock.cancel()
            clock.join()
        return line if line.endswith(b"\n") and not over.is_set() else None

    def close(self) -> None:
        """Kills the process, if there is one, and closes its pipes."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # an unsent question to a process that had ended


def serve(questions: Iterable[str], seconds: float, with_gym: bool = False) -> None:
    """Runs in the process: loads what grades, limits its own memory and its CPU time, then answers line by line.

    seconds: of CPU time for one answer, and a little more. The parent looks at the clock; this holds without it too.
    """
    end_with_parent()
    if with_gym:
        require_package()
    answers, sys.stdout = sys.stdout, sys.stderr  # some tasks of reasoning-gym print
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    print(READY, file=answers, flush=True)
    for question in questions:
        extracted, gold, *recipe = json.loads(question)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds) + 1, most))
        try:
            verdict = grade_by_task(extracted, recipe[0]) if recipe else grade(extracted, gold)
        except R2AError as error:
            print(json.dumps(["fault", error.message, error.hint]), file=answers, flush=True)
            continue
        except Exception as error:  # whatever the algebra trips over is no fault of the other answers
            verdict = Verdict("wrong", f"cannot be graded: {type(error).__name__}")
        print(json.dumps([verdict.outcome, verdict.reason]), file=answers, flush=True)


def grade_by_task(extracted: str, recipe: str) -> Verdict:
    """Grades an answer by the task of reasoning-gym that asked: right where it gives the whole score."""
    score = gym_score(extracted, recipe)
    return Verdict("correct" if score >= 1 else "wrong", f"its task scores it {score:g}")


if __name__ == "__main__":
    serve(sys.stdin, float(sys.argv[-1]), WITH_GYM in sys.argv)
