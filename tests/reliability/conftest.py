"""A small study whose stages have run once, and a way to run them as processes of their own that can be killed."""

import hashlib
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.study import PARAMS, SMALL_RECIPE, import_texts, params_with, study_folder

TRACES = ("trained", "texts", "with_reasoning")
QUESTIONS = ("trained", "arithmetic", "without_reasoning")
IN_ORDER = (
    *(("prepare_dataset", "texts"), ("prepare_dataset", "arithmetic"), ("prepare_model", "trained")),
    *(("generate", *QUESTIONS), ("generate", *TRACES), ("capture", *TRACES), ("attention", *TRACES)),
    *(("generate", "trained", "arithmetic", "with_reasoning"), ("judge", "trained", "arithmetic")),
    ("evaluate", "trained", "arithmetic"),
)
QUIET = {"OMP_NUM_THREADS": "1", "R2A_THREADS": "1", "R2A_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
# A server that has imported the libraries forks each process, so that a stage starts at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["dvc.api", "polars", "torch", "transformers.models.qwen2.modeling_qwen2"])


def command_line(root: Path, log: Path, stage: str, arguments: tuple[str, ...]) -> None:
    """Does `python -m stages.STAGE ARGUMENTS` in a study's folder. Does not return."""
    os.environ.update(QUIET)
    os.chdir(root)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
    sys.argv = [f"stages/{stage}.py", *arguments]
    module = importlib.import_module(f"stages.{stage}")
    module.run_stage(getattr(module, stage))


@dataclass(frozen=True)
class Project:
    """A study's folder and the last output of a stage run there."""

    root: Path
    log: Path

    def start(self, stage: str, *arguments: str) -> BaseProcess:
        process = PROCESSES.Process(target=command_line, args=(self.root, self.log, stage, arguments))
        process.start()
        return process

    def run(self, stage: str, *arguments: str) -> int:
        """A stage from start to end; its exit code, or minus the signal that ended it."""
        return ended(self.start(stage, *arguments))

    def snapshot(self) -> dict[str, str]:
        """SHA-256 of every file of data/, by path; no temporary file may lie there or in the work store."""
        assert not list(self.root.rglob(".tmp-*"))
        files = [path for path in (self.root / "data").rglob("*") if path.is_file()]
        return {str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    @cached_property
    def undisturbed(self) -> dict[str, str]:
        return self.snapshot()

    def shards(self, stage: str, arguments: tuple[str, ...]) -> Path:
        return self.root / ".work" / stage / "-".join(arguments)


def ended(process: BaseProcess) -> int:
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def await_that(condition: Callable[[], object], log: Path) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.001)


def finished(folder: Path) -> dict[str, int]:
    """Digest files of finished shards and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("[!.]*.sha256")}


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A study in which every stage of IN_ORDER has run; each expensive one has several shards and takes a second."""
    folder = tmp_path_factory.mktemp("reliability")
    rows = [
        {
            "model": "author",
            "setting": "with_reasoning",
            "finish": "stop",
            "unique_id": str(number),
            "problem": f"Which is faster, a car at {number} km/h or a bus at 9 km/h?",
            "answer": str(number),
            "response": "".join(f"First, clearly speed gives {number}={step} here.\n" for step in range(18 + number))
            + f"</think>\n\nSecond, it is {number}.\n\nThus, it is \\boxed{{{number}}}.<｜end▁of▁sentence｜>",
        }
        for number in range(16)
    ]
    texts = import_texts(folder / "project", rows, trained="author")
    kept = {"residual_layers": [0, 1], "z_layers": [0, 1], "stream_rows": "all"}
    params = params_with(
        run={"models": ["trained"], "datasets": ["arithmetic", "texts"]},
        models={"trained": {"kind": "train", "dtype": "float32", "recipe": SMALL_RECIPE}},
        datasets={"texts": texts, "arithmetic": PARAMS["datasets"]["arithmetic"] | {"n": 24}},
        generate={"max_new_tokens": 24, "batch_size": 8, "shard_items": 4},
        capture={"dtype": "float32", "shard_mb": 1, **kept},
    )
    project = Project(study_folder(folder / "project", params), folder / "stage.log")
    for stage, *arguments in IN_ORDER:
        assert project.run(stage, *arguments) == 0, project.log.read_text()
    return project


@pytest.fixture
def project(finished_project: Project, tmp_path: Path) -> Project:
    root = shutil.copytree(finished_project.root, tmp_path / "project")
    copy = replace(finished_project, root=root, log=tmp_path / "stage.log")
    assert copy.undisturbed == finished_project.undisturbed
    return copy
