"""Grades answers in a process of its own, with a time and a memory limit: one that hangs or kills it costs only itself.

`grade_many`: pairs (extracted, gold) -> verdicts in the same order. The process is this module, run as
`python -m r2a_core.evaluation.sandbox`: one JSON line [extracted, gold] in, one JSON line [outcome, reason] out.

Covered: endless algebra, memory, a crash of the interpreter, text that is code (it is parsed, never run). Not covered:
the network and the file system, which the process shares with the stage; nothing in an answer can ask for them.
"""

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from r2a_core.evaluation.grade import Verdict, grade
from r2a_core.infra.errors import MissingPrerequisite

PROJECT = Path(__file__).resolve().parents[2]

COMMAND = (sys.executable, "-m", "r2a_core.evaluation.sandbox")

READY = '"ready"'

START_SECONDS = 120.0  # sympy and its parser load in a second or two; a cold disk takes longer

MEMORY_BYTES = 4 * 1024**3


def grade_many(
    pairs: Sequence[tuple[str, str]], timeout_seconds: float, command: Sequence[str] = COMMAND
) -> list[Verdict]:
    """Grades pairs (extracted, gold), each within `timeout_seconds` of wall time; the same pair once.

    An answer past its time is a `timeout`, one that ends the process is `wrong`; a new process goes on with the next.
    command: the grading process. Raises MissingPrerequisite when it does not start at all.
    """
    verdicts: dict[tuple[str, str], Verdict] = {}
    with closing(GradingProcess(timeout_seconds, command)) as process:
        for pair in pairs:
            if pair not in verdicts:
                verdicts[pair] = process.ask(*pair)
    return [verdicts[pair] for pair in pairs]


class GradingProcess:
    """The grading process, started at the first question and again after each one that it does not survive."""

    def __init__(self, timeout_seconds: float, command: Sequence[str] = COMMAND) -> None:
        self.timeout_seconds = timeout_seconds
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def ask(self, extracted: str, gold: str) -> Verdict:
        """Grades one answer."""
        process = self._process or self._start()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps([extracted, gold]).encode() + b"\n")
            process.stdin.flush()
            line = self._line(process, self.timeout_seconds)
        except TimeoutError:
            self.close()
            return Verdict("timeout", f"not graded within {self.timeout_seconds:g} s")
        except (BrokenPipeError, EOFError):
            self.close()
            return Verdict("wrong", "the grading process ended on this answer")
        return Verdict(*json.loads(line))

    def _start(self) -> "subprocess.Popen[bytes]":
        """Starts the process and waits until it has loaded. A fixed hash seed makes sympy's choices repeatable."""
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=PROJECT,
                env=os.environ | {"PYTHONHASHSEED": "0"},
            )
            try:
                self._line(self._process, START_SECONDS)
            except (TimeoutError, EOFError):
                self.close()
                complaints.seek(0)
                last = complaints.read().decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
                raise MissingPrerequisite(
                    f"the grading process does not start: {last[0]}", "install the project again: make install"
                ) from None
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", seconds: float) -> str:
        """Reads its next line. Raises TimeoutError when none comes in time, EOFError when the process has ended."""
        assert process.stdout is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError
            received = os.read(process.stdout.fileno(), 65536)
            if not received:
                raise EOFError
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        """Kills the process, if there is one, and closes its pipes."""
        process, self._process, self._unread = self._process, None, b""
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


def serve(questions: Iterable[str]) -> None:
    """Runs in the process: loads the algebra, limits its own memory, then answers line by line."""
    import logging

    import math_verify  # noqa: F401  loaded before the clock of the first answer starts

    logging.disable(logging.CRITICAL)  # math-verify warns that its own time limit is off: this process has one
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(READY, flush=True)
    for question in questions:
        extracted, gold = json.loads(question)
        try:
            verdict = grade(extracted, gold)
        except Exception as error:  # whatever the algebra trips over is no fault of the other answers
            verdict = Verdict("wrong", f"cannot be graded: {type(error).__name__}")
        print(json.dumps([verdict.outcome, verdict.reason]), flush=True)


if __name__ == "__main__":
    serve(sys.stdin)
