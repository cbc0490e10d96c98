"""A killed run loses at most the shard it was working on, and what comes after has the bytes of an undisturbed run."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.reliability import harness
from tests.reliability.conftest import QUESTIONS, TRACES, Ready
from tests.reliability.small_project import small_project
from tests.reliability.zygote import Zygote

STAGES = {"generate": QUESTIONS, "capture": TRACES, "attention": TRACES}
PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # PK: a zip, as torch.save writes
FILES = {"generate": 1, "capture": 1, "attention": 2}  # of a shard in the work store


def finished(folder: Path) -> dict[str, int]:
    """Digest files of finished shards and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("[!.]*.sha256")}


def start_over(ready: Ready, stage: str) -> Path:
    """Removes the shards of a stage; their folder."""
    folder = ready.project.work / stage / "-".join(STAGES[stage])
    shutil.rmtree(folder)
    return folder


def signal_at(ready: Ready, stage: str, shards: int, number: signal.Signals) -> int:
    """Starts a stage and sends it a signal as soon as that many shards are finished; its exit code."""
    folder = start_over(ready, stage)
    pid = ready.zygote.start(ready.log, stage, *STAGES[stage])
    ends = time.monotonic() + 60
    while len(finished(folder)) < shards * FILES[stage]:
        assert time.monotonic() < ends, ready.log.read_text()
        time.sleep(0.001)
    os.kill(pid, number)
    return ready.zygote.wait(pid)


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_killed_stage_goes_on_from_its_finished_shards(ready: Ready, stage: str) -> None:
    folder = ready.project.work / stage / "-".join(STAGES[stage])
    total = len(finished(folder))
    assert total >= 3 * FILES[stage]
    assert signal_at(ready, stage, random.Random(stage).randrange(1, 3), signal.SIGKILL) == -signal.SIGKILL
    before = finished(folder)
    assert FILES[stage] <= len(before) < total
    assert ready.zygote.run(ready.log, stage, *STAGES[stage]) == 0, ready.log.read_text()
    after = finished(folder)
    assert {name: after[name] for name in before} == before  # none of them was computed anew
    assert len(after) == total
    assert ready.project.leftovers() == []
    assert ready.project.snapshot() == ready.snapshot


def test_a_model_killed_in_training_is_trained_anew_to_the_same_bytes(ready: Ready) -> None:
    model = ready.project.data / "models" / "trained"
    pid = ready.zygote.start(ready.log, "prepare_model", "trained")
    ends = time.monotonic() + 60
    while (model / "model.json").exists():  # the old one goes when training begins
        assert time.monotonic() < ends, ready.log.read_text()
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    assert ready.zygote.wait(pid) == -signal.SIGKILL
    assert not (model / "model.json").exists()  # half a model is never taken for one
    assert ready.zygote.run(ready.log, "prepare_model", "trained") == 0
    assert ready.project.snapshot() == ready.snapshot


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_an_interrupted_stage_says_so_and_goes_on_later(ready: Ready, number: signal.Signals, code: int) -> None:
    assert signal_at(ready, "generate", 1, number) == code
    said = ready.log.read_text()
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert said.splitlines()[-1] == "interrupted: finished shards are kept; dvc repro goes on from there"
    assert ready.zygote.run(ready.log, "generate", *QUESTIONS) == 0
    assert ready.project.leftovers() == []
    assert ready.project.snapshot() == ready.snapshot


def test_a_second_writer_is_refused_while_the_first_runs(ready: Ready) -> None:
    folder = start_over(ready, "generate")
    first = ready.zygote.start(ready.log, "generate", *QUESTIONS)
    while not finished(folder):
        time.sleep(0.001)
    os.kill(first, signal.SIGSTOP)
    second_log = ready.log.with_name("second.log")
    assert ready.zygote.run(second_log, "generate", *QUESTIONS) == 2
    assert "error: another run is already writing generate trained-arithmetic" in second_log.read_text()
    assert "hint: wait for it to end" in second_log.read_text()
    os.kill(first, signal.SIGCONT)
    assert ready.zygote.wait(first) == 0
    assert ready.project.snapshot() == ready.snapshot


def test_nothing_that_stages_write_is_a_pickle(ready: Ready) -> None:
    """By the first bytes of every file in data/ and .work/ of a study that has run, whatever its name."""
    files = [
        path for folder in (ready.project.data, ready.project.work) for path in folder.rglob("*") if path.is_file()
    ]
    assert {".parquet", ".safetensors", ".json"} <= {path.suffix for path in files}
    for path in files:
        with path.open("rb") as stream:
            assert not stream.read(4).startswith(PICKLES), path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[harness.Study]:
    """The small project after an undisturbed `dvc repro`."""
    project = small_project(tmp_path_factory.mktemp("kills") / "project")
    with Zygote(project) as zygote:
        yield harness.undisturbed(project, zygote, random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "way"), harness.KILLS)
def test_every_expensive_stage_survives_every_way_to_kill_it(
    study: harness.Study, stage: str, way: str, tmp_path: Path
) -> None:
    trial = harness.kill_once(study, stage, way, tmp_path / "killed.log")
    assert trial.again <= 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage for stage in harness.STAGES if not stage.startswith("prepare_model")])
def test_interrupted_stages_end_with_130_and_resume(study: harness.Study, stage: str, tmp_path: Path) -> None:
    harness.forget(study.project, stage)
    trial = harness.kill_stage(study, stage, "SIGINT", tmp_path / "killed.log", signal.SIGINT)
    assert trial is None or trial.again <= 1


@pytest.mark.slow
def test_ctrl_c_reaches_the_stage_under_dvc(study: harness.Study, tmp_path: Path) -> None:
    stage, log = "capture@memorised-texts-with_reasoning", tmp_path / "interrupted.log"
    harness.forget(study.project, stage)
    dvc = harness.start(study.project, ["dvc", "repro", "--single-item", stage], log)
    script = harness.await_moment(study, stage, psutil.Process(dvc.pid))
    assert script is not None
    os.killpg(dvc.pid, signal.SIGINT)  # as a terminal sends it: to dvc and the stage
    script.resume()
    assert dvc.wait() == 255
    said = log.read_text()
    assert "interrupted: finished shards are kept; dvc repro goes on from there" in said
    assert "exited with 130" in said
    assert "Traceback" not in said
    assert harness.resume(study, stage, "Ctrl-C").again <= 1
