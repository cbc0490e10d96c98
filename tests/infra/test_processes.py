"""Processes that end with the one that started them, however it ended; real ones, killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from r2a_core.infra import processes
from r2a_core.infra.errors import R2AError
from r2a_core.infra.processes import held
from tests.processes import await_that, gone
from tests.study import ROOT

CHILD = """
import os, sys, time
from pathlib import Path
from r2a_core.infra.processes import end_with_parent
starter = os.getppid()
Path(sys.argv[1]).write_text(str(os.getpid()))
while {when}:
    time.sleep(0.01)
end_with_parent({only})
Path(sys.argv[1] + ".watched").touch()
time.sleep(600)
"""
GRADES = """
from r2a_core.evaluation.sandbox import GradingProcess
process = GradingProcess(600)
process.ask("1", "2")
print("loaded", flush=True)
process.ask("9^{9^{9}}", "5")
"""
DRAWS = """
import time
from types import SimpleNamespace as Names
from unittest.mock import MagicMock
import stages.figures_attention as stage
run = Names(datasets=[600, 600], models=[], readers=[], settings=[])
print("loaded", flush=True)
stage.open_study = lambda name: MagicMock(params=Names(run=run, heads=MagicMock()))
stage.partial = lambda *_, **__: time.sleep
stage.figures_attention()
"""


def started(command: str, marker: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """A starter that runs a shell command, and the process that wrote its number into the marker."""
    starter = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sh', '-c', sys.argv[1]])", command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    await_that(lambda: marker.exists() and marker.read_text())
    return starter, psutil.Process(int(marker.read_text()))


def started_child(
    folder: Path, form: str = "exec {}", when: str = "False", only: str = ""
) -> tuple[subprocess.Popen[bytes], psutil.Process, Path]:
    """A starter, the CHILD that it runs by a shell command of this form, and the child's marker."""
    script, marker = folder / "child.py", folder / "pid"
    script.write_text(CHILD.format(when=when, only=only))
    return *started(form.format(f"{sys.executable} {script} {marker}"), marker), marker


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("form", ["exec {}", "exec setsid {}", "{}; true", "sh -c '{}; true'; true"])
def test_a_process_ends_with_its_starter_also_behind_shells(tmp_path: Path, form: str, number: signal.Signals) -> None:
    starter, child, marker = started_child(tmp_path, form)
    await_that(lambda: marker.with_name("pid.watched").exists())
    assert not gone(child)
    starter.send_signal(number)
    starter.wait()
    await_that(lambda: gone(child))


def test_a_process_whose_starter_is_gone_already_ends_at_once(tmp_path: Path) -> None:
    starter, child, marker = started_child(tmp_path, when="os.getppid() == starter")
    starter.kill()
    starter.wait()
    await_that(lambda: gone(child))
    assert not marker.with_name("pid.watched").exists()


def test_what_a_user_starts_by_hand_outlives_its_starter(tmp_path: Path) -> None:
    starter, child, marker = started_child(tmp_path, when="os.getppid() == starter", only="'NOT_SET'")
    starter.kill()
    starter.wait()
    await_that(lambda: marker.with_name("pid.watched").exists())
    assert not gone(child)
    child.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(("stage", "workers"), [(GRADES, 1), (DRAWS, 2)])
def test_workers_end_with_their_stage(stage: str, workers: int, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", stage], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        mine = psutil.Process(process.pid)

        def at_work() -> list[psutil.Process]:
            return [child for child in mine.children(recursive=True) if "resource_tracker" not in str(child.cmdline())]

        await_that(lambda: len(at_work()) == workers)
        time.sleep(1)  # in the algebra, or loading what draws
        children = mine.children(recursive=True)
        process.send_signal(number)
    await_that(lambda: all(gone(child) for child in children))


def test_a_lock_waits_for_a_holder_that_is_just_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import fcntl, sys, time; file = open({str(tmp_path / 'lock')!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX)"
    holder = subprocess.Popen(
        [sys.executable, "-c", f"{code}; print(1, flush=True); time.sleep(600)"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline()
    monkeypatch.setattr(processes, "DYING_SECONDS", 0.1)
    with pytest.raises(R2AError, match="busy") as caught, held(tmp_path / "lock", "busy"):
        pass
    assert caught.value.hint == "wait for it to end, or stop it: ps shows it"
    monkeypatch.setattr(processes, "DYING_SECONDS", 60.0)
    holder.kill()
    with held(tmp_path / "lock", "busy"):
        pass
    holder.wait()
    holder.stdout.close()
