"""`make repro` after a kill: what was left behind is mended, the next call goes on at once, a mistake is said last."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import psutil
import pytest
from dvc.repo import Repo
from dvc.utils.serialize import dump_yaml, parse_yaml

from r2a_core.infra.errors import R2AError
from tests.processes import PATH, await_that, gone
from tests.study import ROOT
from tools import repro

STAGE = """
import os, time
from pathlib import Path
from r2a_core.infra.errors import R2AError
from stages._study import run_stage

def stage():
    with open("ran", "a") as ran:
        ran.write("x")
    Path("pid").write_text(str(os.getpid()))
    while Path("slow").exists():
        time.sleep(0.01)
    if Path("wrong").exists():
        raise R2AError("the text is wrong", "mend the text")
    Path("out").write_text("done")

run_stage(stage)
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PATH": PATH}
KILLS = 15


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A project with one stage, whose line in dvc.yaml leaves a shell between it and DVC."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    Repo.init(str(tmp_path)).close()
    line = {"cmd": "python stage.py && true", "deps": ["stage.py"], "outs": ["out"]}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"only": line}}))
    (tmp_path / "stage.py").write_text(STAGE)
    recipe = re.search(r"^repro:.*\n(?:\t.*\n)*(\t.*\n)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe
    (tmp_path / "Makefile").write_text(f"repro:\n{recipe[1]}")
    return tmp_path


def start(study: Path) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(
        ["make", "repro"], cwd=study, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def at_work(study: Path) -> "tuple[subprocess.Popen[str], list[psutil.Process]]":
    """A run that is in its stage: make, and the processes make, repro, shell and stage."""
    (study / "slow").touch()
    make = start(study)
    await_that(lambda: (study / "pid").exists() and (study / "pid").read_text())
    own = psutil.Process(make.pid)
    return make, [own, *own.children(recursive=True)]


@pytest.mark.parametrize(("who", "number"), [(0, "KILL"), (0, "TERM"), (1, "KILL"), (1, "TERM"), (-1, "KILL")])
def test_a_run_after_a_kill_goes_on_at_once(study: Path, who: int, number: str) -> None:
    make, processes = at_work(study)
    processes[who].send_signal(signal.Signals[f"SIG{number}"])
    if who == 0:
        make.wait()
    (study / "slow").unlink()
    said, complaints = start(study).communicate(timeout=120)
    assert "busy" not in said + complaints
    assert (study / "out").read_text() == "done", said + complaints
    assert (study / "ran").read_text() == "xx"
    make.communicate()
    await_that(lambda: all(gone(process) for process in processes))


def test_a_second_run_beside_the_first_is_refused_and_ctrl_c_ends_both(study: Path) -> None:
    make, processes = at_work(study)
    second = start(study)
    assert "error: another make repro is at work in this folder\nhint: " in second.communicate()[1]
    assert second.returncode == 2
    os.killpg(make.pid, signal.SIGINT)  # as the terminal does
    complaints = make.communicate()[1]
    assert "interrupted: what is finished is kept" in complaints
    assert "Traceback" not in complaints
    assert all(gone(process) for process in processes)


def test_a_mistake_is_tried_once_and_said_last(study: Path) -> None:
    (study / "wrong").touch()
    command = [sys.executable, "-m", "tools.repro"]
    ended = subprocess.run(command, cwd=study, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.endswith("error: the text is wrong\nhint: mend the text\n")
    assert (study / "ran").read_text() == "x"


def test_params_edited_between_two_stages_run_again(study: Path) -> None:
    (study / "params.yaml").write_text("x: 1\n")
    first = {"cmd": "cat params.yaml >> first", "params": ["x"], "outs": [{"first": {"persist": True}}]}
    second = {"cmd": "echo 'x: 2' > params.yaml; cp first second", "deps": ["first"], "outs": ["second"]}
    (study / "dvc.yaml").write_text(json.dumps({"stages": {"first": first, "second": second}}))
    said, complaints = start(study).communicate(timeout=120)
    assert (study / "second").read_text() == "x: 1\nx: 2\n", said + complaints
    assert "edited during the run: what that concerns runs again" in said


def test_a_record_of_dvc_whose_number_another_process_has_now_is_dropped(study: Path) -> None:
    """The pids are of this process, as of a long-lived one with a folder elsewhere, and of none."""
    records = {"pid": os.getpid(), "cmd": "dvc repro"}, {"pid": 2**22 + 1, "cmd": "dvc repro"}
    path = study / ".dvc" / "tmp" / "rwlock"
    out, script = str(study / "out"), str(study / "stage.py")
    path.write_text(json.dumps({"write": {out: records[0], script: records[1]}, "read": {out: list(records)}}))
    said = start(study).communicate(timeout=120)
    assert (study / "out").exists(), said


def test_without_any_lock_results_come_from_the_cache(study: Path) -> None:
    start(study).communicate(timeout=120)
    (study / "dvc.lock").write_text("")
    (study / repro.KEPT).unlink()
    (study / "out").unlink()
    assert "DVC starts a new one, and what it lacks comes from DVC's cache" in start(study).communicate(timeout=120)[0]
    assert (study / "out").exists()
    assert (study / "ran").read_text() == "x"
    assert (study / "dvc.lock").read_text()


def test_a_live_dvc_of_this_folder_keeps_its_record(study: Path) -> None:
    script = study / "dvc"
    script.write_text("import time; print(1, flush=True); time.sleep(600)")
    with subprocess.Popen([sys.executable, script, "repro"], cwd=study, stdout=subprocess.PIPE) as live:
        assert live.stdout is not None
        assert live.stdout.readline()
        record = {"pid": live.pid, "cmd": "/usr/bin/dvc repro"}
        with chdir(study):
            assert repro.is_at_work(record)
            assert not repro.is_at_work(record | {"cmd": "/usr/bin/dvc repro other"})
        with chdir(ROOT):
            assert not repro.is_at_work(record)
        live.kill()
        assert not repro.is_at_work(record)


def rewrite(lock: Any) -> None:
    """What DVC does to the file after each stage, again and again."""
    while True:
        dump_yaml("dvc.lock", lock)
        Path("rewritten").touch()


def test_a_lock_of_real_size_killed_in_its_rewrite_is_mended(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, name)
    lock = parse_yaml(Path("dvc.lock").read_text(encoding="utf-8"), "dvc.lock", typ="rt")
    began = time.monotonic()
    dump_yaml("dvc.lock", lock)
    lasts = time.monotonic() - began
    whole = Path("dvc.lock").read_text(encoding="utf-8")
    repro.mend()
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    cut = 0
    for _ in range(KILLS):
        process = multiprocessing.get_context("fork").Process(target=rewrite, args=(lock,))
        process.start()
        await_that(Path("rewritten").exists)
        time.sleep(moments.uniform(0, lasts))
        process.kill()
        process.join()
        cut += Path("dvc.lock").read_text(encoding="utf-8") != whole
        repro.mend()
        assert Path("dvc.lock").read_text(encoding="utf-8") == whole
    assert cut > KILLS / 4
    dvc = subprocess.run([sys.executable, "-m", "dvc", "status"], env=ENVIRONMENT, capture_output=True, text=True)
    assert dvc.returncode == 0, dvc.stderr


def test_a_lock_that_was_cut_off_is_replaced_by_the_kept_one_or_gits_or_a_new_one(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study)
    lock, whole = Path("dvc.lock"), "schema: '2.0'\nstages: {}\n"
    kept, committed = whole + "# kept\n", whole + "# committed\n"
    lock.write_text(committed)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["add", "-f", "dvc.lock"], ["commit", "-qm", "lock"]):
        subprocess.run([*git, *command], check=True)
    lock.write_text(kept)
    repro.mend()
    for content in ("", "schema: '2.0'\nstages:\n  a:\n    cmd: x", whole):
        lock.write_text(content)
        repro.mend()
        assert lock.read_text() == kept
    lock.write_text(f"{whole}<<<<<<< HEAD\n=======\n>>>>>>> other\n")
    with pytest.raises(R2AError, match="conflicts of a merge"):
        repro.mend()
    assert "=======" in lock.read_text()
    repro.KEPT.unlink()
    lock.write_text("")
    repro.mend()
    assert lock.read_text() == committed
    shutil.rmtree(".git")
    for programs in (os.environ["PATH"], ""):  # without git too
        monkeypatch.setenv("PATH", programs)
        lock.write_text("")
        repro.mend()
        assert not lock.exists()


@pytest.mark.parametrize("part", ["", ".made-up.tmp"], ids=["an empty folder", "a part"])
def test_a_half_written_entry_of_the_run_cache_goes(study: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.chdir(study)
    assert start(study).wait() == 0
    (entry,) = (path for path in repro.RUN_CACHE.rglob("*") if path.is_file())
    if part:
        (entry.parent / part).write_text(entry.read_text().partition("outs:")[0])
    entry.unlink()
    Path("dvc.lock").unlink()
    assert start(study).wait() == 0
    assert Path("ran").read_text() == "xx"
    assert [path for path in repro.RUN_CACHE.rglob("*") if path.is_file()] == [entry]
