"""dvc repro, with the stages of the built-in models side by side: each keeps one core busy, most of it in training.

usage: python tools/repro.py
dvc.yaml lists stages in an order in which they can run. Neighbours that belong to a model run as one chain per model,
as many chains at a time as there are cores. Only models that the pipeline trains run side by side: others may need a
device alone. A last `dvc repro` runs what is left, or everything where nothing is trained; its exit code counts.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from r2a_core.config import load_params


def model_of(stage: str, models: list[str]) -> str | None:
    """The model of a stage such as generate@tiny_qwen2-arithmetic-with_reasoning."""
    name = stage.partition("@")[2].partition("-")[0]
    return name if name in models else None


def steps(stages: list[str], models: list[str]) -> Iterator[list[list[str]]]:
    """Chains of stages that may run side by side, step after step."""
    for of_models, neighbours in groupby(stages, lambda stage: model_of(stage, models) is not None):
        own = list(neighbours)
        yield [[stage for stage in own if model_of(stage, models) == model] for model in models] if of_models else [own]


def run_side_by_side(chains: list[list[str]]) -> None:
    """Runs each chain in its order; one that fails is tried once more: dvc may have met dvc.lock half-written.

    A chain has one CPU thread unless R2A_THREADS says otherwise: more would wait for one another.
    """
    own = {"R2A_THREADS": "1"} | dict(os.environ)
    at_once = os.cpu_count() or 1
    for start in range(0, len(chains), at_once):
        left = chains[start : start + at_once]
        for _ in range(2):
            command = ["dvc", "--wait-for-lock", "repro", "--single-item"]
            running = [subprocess.Popen([*command, *chain], env=own) for chain in left]
            codes = [process.wait() for process in running]
            left = [chain for chain, code in zip(left, codes, strict=True) if code]


def main() -> int:
    params = load_params(Path("params.yaml"))
    trained = [name for name in params.run.models if params.models[name].kind == "train"]
    if len(trained) > 1 and len(trained) == len(params.run.models) and subprocess.call(["dvc", "status", "--quiet"]):
        listed = subprocess.run(["dvc", "stage", "list", "--name-only"], check=True, capture_output=True, text=True)
        for chains in steps(listed.stdout.split(), trained):
            run_side_by_side(chains)
    return subprocess.call(["dvc", "repro"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the stages were interrupted too, and have said what is kept
        sys.exit(130)
