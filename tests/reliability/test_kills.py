"""A killed run loses at most the shard it was working on, and what comes after has the bytes of an undisturbed run."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages import INTERRUPTED
from tests.reliability.conftest import QUESTIONS, TRACES, Project, await_that, ended, finished

STAGES = {"generate": QUESTIONS, "capture": TRACES, "attention": TRACES}
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # PK: a zip, as torch.save writes
FILES = {"generate": 1, "capture": 1, "attention": 2}  # of a shard in the work store


def signal_at(project: Project, stage: str, shards: int, number: signal.Signals) -> int:
    """Runs a stage anew and sends it a signal as soon as that many shards are finished; its exit code."""
    folder = project.shards(stage, STAGES[stage])
    shutil.rmtree(folder)
    process = project.start(stage, *STAGES[stage])
    await_that(lambda: len(finished(folder)) >= shards * FILES[stage], project.log)
    assert process.pid is not None
    os.kill(process.pid, number)
    return ended(process)


@pytest.mark.parametrize(("stage", "shards"), [("generate", 2), ("capture", 1), ("attention", 1)])
def test_a_killed_stage_goes_on_from_its_finished_shards(project: Project, stage: str, shards: int) -> None:
    folder = project.shards(stage, STAGES[stage])
    total = len(finished(folder))
    assert total >= 3 * FILES[stage]
    assert signal_at(project, stage, shards, signal.SIGKILL) == -signal.SIGKILL
    before = finished(folder)
    assert FILES[stage] <= len(before) < total
    assert project.run(stage, *STAGES[stage]) == 0, project.log.read_text()
    after = finished(folder)
    assert {name: after[name] for name in before} == before  # none of them was computed anew
    assert len(after) == total
    assert project.snapshot() == project.undisturbed


def test_a_model_killed_in_training_is_trained_anew_to_the_same_bytes(project: Project) -> None:
    pointer = project.root / "data" / "models" / "trained" / "model.json"
    process = project.start("prepare_model", "trained")
    await_that(lambda: not pointer.exists(), project.log)  # the old one goes when training begins
    process.kill()
    assert ended(process) == -signal.SIGKILL
    assert not pointer.exists()  # half a model is never taken for one
    assert project.run("prepare_model", "trained") == 0
    assert project.snapshot() == project.undisturbed


def test_an_interrupted_stage_says_so_and_goes_on_later(project: Project) -> None:
    assert signal_at(project, "generate", 1, signal.SIGINT) == 130
    said = project.log.read_text()
    assert "Traceback" not in said
    assert said.splitlines()[-1] == INTERRUPTED
    assert project.run("generate", *QUESTIONS) == 0
    assert project.snapshot() == project.undisturbed


def test_a_stage_is_interrupted_while_its_imports_run_as_later() -> None:
    process = subprocess.Popen([sys.executable, "-m", "stages.doctor"], stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "torch" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, f"{INTERRUPTED}\n")


def test_nothing_that_stages_write_is_a_pickle(project: Project) -> None:
    """By the first bytes of every file in data/ and .work/ of a study that has run, whatever its name."""
    files = [path for folder in ("data", ".work") for path in (project.root / folder).rglob("*") if path.is_file()]
    assert {".parquet", ".safetensors", ".json"} <= {path.suffix for path in files}
    for path in files:
        with path.open("rb") as stream:
            assert not stream.read(4).startswith(PICKLES), path
