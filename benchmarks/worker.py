"""One side of a benchmark: a process that keeps its model loaded and runs a way each time it is told to.

usage (by turns.Worker): PYTHON -m benchmarks.worker ours|theirs THREADS
Reads one JSON message a line, answers one a line:
    {"do": "prepare", "way": NAME, "case": {...}}   builds what the way needs
    {"do": "run", "way": NAME, "case": {...}, "times": N}   -> {"cpu": [s, ...], "wall": [s, ...], "result": NUMBERS}
    {"do": "peak", "way": NAME, "case": {...}}      -> {"mb": growth of the resident memory over before the run}
    {"do": "versions"}
"""

import gc
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

Run = Callable[[], Any]
PACKAGES = ("torch", "transformers", "transformer-lens", "nnsight", "safetensors", "numpy")


class Side:
    """The prepared ways of one side. torch and the side's own packages load with the first way that is asked for."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.prepared: dict[str, Run] = {}

    @cached_property
    def ways(self) -> dict[str, Callable[..., Run]]:
        import torch

        torch.set_num_threads(self.threads)
        torch.set_grad_enabled(False)
        return importlib.import_module(f"benchmarks.{self.name}").WAYS

    def run_of(self, message: dict[str, Any]) -> Run:
        key = json.dumps([message["way"], message["case"]], sort_keys=True)
        if key not in self.prepared:
            self.prepared[key] = self.ways[message["way"]](**message["case"])
        return self.prepared[key]

    def do_prepare(self, message: dict[str, Any]) -> dict[str, Any]:
        self.run_of(message)
        return {}

    def do_forget(self, message: dict[str, Any]) -> dict[str, Any]:
        self.prepared.clear()
        gc.collect()
        return {}

    def do_run(self, message: dict[str, Any]) -> dict[str, Any]:
        run, result = self.run_of(message), None
        cpu, wall = [], []
        for _ in range(message["times"]):
            started = time.process_time(), time.perf_counter()
            result = run()
            cpu.append(time.process_time() - started[0])
            wall.append(time.perf_counter() - started[1])
        return {"cpu": cpu, "wall": wall, "result": result}

    def do_peak(self, message: dict[str, Any]) -> dict[str, Any]:
        run = self.run_of(message)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
        before = resident("VmRSS")
        run()
        return {"mb": resident("VmHWM") - before}

    def do_versions(self, message: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name in PACKAGES:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return {"python": sys.version.split()[0], **found}


def resident(name: str) -> float:
    """A size from Linux's account of this process, MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries chat on stdout
    side = Side(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = getattr(side, f"do_{message['do']}")(message)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
            raise
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
