"""Workers that take turns: every round runs each contender once, so that what else the machine does hits all alike.

Contenders -> Timing of each (all rounds), ratios of the same round, and their spread.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHORTEST = 0.2  # seconds that a contender runs in a round, by repeating what is shorter
LONG = 10  # seconds of a first round that counts


class Worker:
    """A process of one side. memory: give freed memory back at once, so that peaks are those of what is in use."""

    def __init__(self, python: Path, side: str, threads: int, memory: bool = False) -> None:
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        if memory:
            environment["MALLOC_MMAP_THRESHOLD_"] = environment["MALLOC_TRIM_THRESHOLD_"] = "65536"
        self.process = subprocess.Popen(
            [str(python), "-m", "benchmarks.worker", side, str(threads)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if os.environ.get("R2A_BENCH_QUIET") else None,
            text=True,
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """The answer to one message. Raises RuntimeError when the worker fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"it ended with code {self.process.wait()}"}
        if "error" in answer:
            raise RuntimeError(f"{message.get('way', message['do'])}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Timing:
    """Seconds of one contender, one number a round, and what it computed last."""

    seconds: list[float] = field(default_factory=list)
    result: Any = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times(self, factor: float) -> "Timing":
        """So many times the work, round by round."""
        return Timing([factor * seconds for seconds in self.seconds], self.result)

    def plus(self, other: "Timing") -> "Timing":
        """Both, round by round."""
        return Timing([a + b for a, b in zip(self.seconds, other.seconds, strict=True)], self.result)


@dataclass(frozen=True)
class Ratio:
    """Other over ours in the same round: median, smallest and largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, other: Timing, ours: Timing, times: float = 1.0) -> "Ratio":
        each = [times * b / a for a, b in zip(ours.seconds, other.seconds, strict=True)]
        return cls(statistics.median(each), min(each), max(each))

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 1 if self.median < 100 else 0
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


Way = tuple[str, dict[str, Any]]  # name of a worker's way, and its arguments beside the case's


@dataclass(frozen=True)
class Contender:
    """A way of a worker on a case. cases: one for each round, in place of the same each time."""

    name: str
    worker: Worker
    way: str
    case: dict[str, Any]


def take_turns(contenders: Sequence[Contender], rounds: int, clock: str) -> dict[str, Timing]:
    """Timings by name; every other round goes backwards. clock: cpu (seconds of the process) or wall.

    A first round warms up and tells how often to repeat what is short; it counts where it took long enough not to care,
    but for ways that are short by themselves, which run again.
    """
    first = one_round(contenders, {}, clock)
    times = {name: max(1, round(SHORTEST / max(seconds, 1e-4))) for name, (seconds, _) in first.items()}
    done = []
    if sum(seconds for seconds, _ in first.values()) > LONG:
        done = [first | one_round([each for each in contenders if first[each.name][0] < LONG], times, clock)]
    while len(done) < rounds:
        done.append(one_round(contenders[:: -1 if len(done) % 2 else 1], times, clock))
    return {each.name: Timing([found[each.name][0] for found in done], done[-1][each.name][1]) for each in contenders}


def one_round(contenders: Sequence[Contender], times: dict[str, int], clock: str) -> dict[str, tuple[float, Any]]:
    """Seconds (median of `times` runs, once if not named) and result of each contender, one after the other."""
    found = {}
    for each in contenders:
        answer = each.worker.ask(do="run", way=each.way, case=each.case, times=times.get(each.name, 1))
        found[each.name] = statistics.median(answer[clock]), answer["result"]
    return found


@dataclass(frozen=True)
class Bench:
    """What the parts share. A part starts workers and closes them, so that each begins with an empty memory."""

    python: Path  # of the peers
    threads: int
    rounds: int
    quick: bool
    scratch: Path
    images: Path

    @property
    def clock(self) -> str:
        """One thread is timed by the CPU, which other processes do not disturb; several by the clock on the wall."""
        return "cpu" if self.threads == 1 else "wall"

    @contextmanager
    def workers(self, *sides: str, memory: bool = False) -> Iterator[list[Worker]]:
        """Running workers of some sides (ours, peers)."""
        pythons = {"ours": Path(sys.executable), "theirs": self.python}
        running = [Worker(pythons[side], side, self.threads, memory) for side in sides]
        try:
            yield running
        finally:
            for worker in running:
                worker.close()
