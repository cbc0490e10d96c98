"""Runs `dvc repro` in a study's folder, whatever a killed run has left there. What `make repro` does last.

usage: python -m tools.repro [STAGE ...]
dvc.lock, .dvc/tmp -> what dvc.yaml describes. Exit code: the stage's own when one fails, else DVC's.
Stages run side by side where `lanes` allows it: each lane is this script again, with the stages it is to run.
Before and after the run it mends what DVC itself stumbles over (see `mend_lock` and the others). DVC works in this
process, so there is nothing between `make` and the stage that could be left behind.
"""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import psutil
from dvc.cli import main as dvc
from dvc.exceptions import DvcException
from dvc.lock import LockError, make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.stage.exceptions import StageCmdFailedError
from dvc.utils.serialize import parse_yaml
from voluptuous import Invalid

from r2a_core.config import read_yaml
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import folder_digest, sha256, write_text_whole
from r2a_core.infra.processes import end_with_parent, held
from tools.lanes import lanes, phases
from tools.short_lock import completed, entries_alone, lost, shortened

LOCK = Path("dvc.lock")
TMP = Path(".dvc/tmp")
KEPT = TMP / "dvc.lock.whole"
BROKEN = TMP / "dvc.lock.broken"
EDITED = ("params.yaml", "dvc.yaml", "r2a_core", "stages")
RUN_CACHE = Path(".dvc/cache/runs")
LANE = (sys.executable, "-m", "tools.repro")  # and its stages

SPOKEN = (1, 2, 3, 130)  # exit codes of a stage that has said why
DVC_INTERRUPTED, INTERRUPTED = 252, 130


def main() -> int:
    """Mends, runs and mends; returns the exit code."""
    if sys.argv[1:]:  # a lane
        end_with_parent()
        return run(["--single-item", *sys.argv[1:]])
    end_with_parent(only_under="MAKELEVEL")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # stages run `python`
    with held(TMP / "repro.lock", "another make repro is at work in this folder"):
        mend()
        while True:
            before = edited()
            code = side_by_side() or run([])
            if code or edited() == before:
                break
            print("params or code were edited during the run: what that concerns runs again", flush=True)
        mend()
    if not code:
        print("make verify holds what README states against this run", flush=True)
    return code


def run(options: list[str]) -> int:
    """Runs `dvc repro`; returns the exit code. Waits while the DVC of another lane writes."""
    stage = StageHasSpoken()
    for handler in logging.getLogger("dvc").handlers:
        handler.addFilter(stage)
    with entries_alone():
        code = dvc(["--wait-for-lock", "repro", *options])
    return stage.code or (INTERRUPTED if code == DVC_INTERRUPTED else code)


def side_by_side() -> int:
    """Runs what may run side by side; returns the first exit code that is not 0, once what is at work has ended."""
    stages = read_yaml(Path("dvc.yaml"))["stages"]
    if "heads" not in stages:
        return 0
    params, cores = read_yaml(Path("params.yaml")), os.cpu_count() or 1
    most = lanes(params, cores)
    if most == 1 or not dvc(["status", "--quiet"]):
        return 0
    environment = {"R2A_THREADS": str(cores // most)} | os.environ | {"R2A_LANES": str(most)}
    with short_lock():
        for tasks in phases(stages, params):
            if code := run_tasks(tasks, most, environment):
                if code != INTERRUPTED:
                    print("error: a stage failed, and said why above; what others had begun is kept", file=sys.stderr)
                return code
    return 0


@contextmanager
def short_lock() -> Iterator[None]:
    """Takes records that spare no work out of dvc.lock, and puts back those of stages that did not run."""
    if not LOCK.exists():
        yield
        return
    absent = lost()
    with alone():
        before = LOCK.read_text(encoding="utf-8")
        write_text_whole(LOCK, shortened(before, absent))
    try:
        yield
    finally:
        with alone():
            write_text_whole(LOCK, completed(LOCK.read_text(encoding="utf-8"), before))


def run_tasks(tasks: list[list[str]], most: int, environment: dict[str, str]) -> int:
    """Runs tasks, `most` at a time; returns the first exit code that is not 0. After that, or Ctrl-C, none starts."""
    ended = Event()

    def run_task(task: list[str]) -> int:
        code = 0 if ended.is_set() else subprocess.call([*LANE, *task], env=environment)
        if code:
            ended.set()
        return code

    with ThreadPoolExecutor(most) as pool:
        try:
            return next((code for code in pool.map(run_task, tasks) if code), 0)
        finally:
            ended.set()


def edited() -> list[str]:
    """Returns digests of what a user edits: an edit between two stages is seen by none of them."""
    places = [path for path in map(Path, EDITED) if path.exists()]
    return [folder_digest(path) if path.is_dir() else sha256(path) for path in places]


def mend() -> None:
    """Mends DVC's records. Raises as `alone`."""
    with alone():
        mend_lock()
        mend_rwlock()
        mend_run_cache()


@contextmanager
def alone() -> Iterator[None]:
    """Holds DVC's locks, so that no dvc writes its records. Raises R2AError when one goes on doing so."""
    try:
        with make_lock(str(TMP / "lock")), make_lock(str(TMP / "rwlock.lock")):
            yield
    except LockError:
        raise R2AError("a dvc command is at work in this folder", "wait for it to end: ps shows it") from None


def mend_lock() -> None:
    """Replaces a dvc.lock that was cut off by the last whole one: the copy kept here, or else git's.

    `dvc repro` empties the file and takes up to a second to write it anew, after each stage. What the older one lacks,
    DVC takes from its run cache. The same holds for a lock cut off between two lines, which DVC can read; it is told by
    being the beginning of the last one. Raises R2AError for one with conflicts of a merge.
    """
    if not LOCK.exists():
        return
    content, kept = LOCK.read_bytes(), KEPT.read_bytes() if KEPT.exists() else b""
    show = ["git", "show", f"HEAD:./{LOCK}"]
    committed = subprocess.run(show, capture_output=True).stdout if shutil.which("git") else b""
    if is_whole(content) and (content in (committed, kept) or not kept.startswith(content)):
        write_text_whole(KEPT, content.decode())
        return
    if content.lstrip().startswith(b"<<<<<<<") or b"\n<<<<<<< " in content:
        raise R2AError(f"{LOCK} has conflicts of a merge", "take one side's, as docs/reruns.md says under Merging")
    BROKEN.write_bytes(content)
    for name, whole in (("the last whole one", kept), ("git's", committed)):
        if is_whole(whole):
            write_text_whole(LOCK, whole.decode())
            instead = f"{name} is back"
            break
    else:
        LOCK.unlink()
        instead = "DVC starts a new one"
    print(f"{LOCK} was cut off (now {BROKEN}): {instead}, and what it lacks comes from DVC's cache", flush=True)


def is_whole(content: bytes) -> bool:
    """Checks that DVC can read a lock to its last line."""
    try:
        COMPILED_LOCKFILE_SCHEMA(parse_yaml(content.decode(), LOCK))
    except (UnicodeDecodeError, DvcException, Invalid):
        return False
    return content.endswith(b"\n")


def mend_rwlock() -> None:
    """Drops DVC's records of what a process is reading or writing when that process is no longer the one recorded."""
    path = TMP / "rwlock"
    try:
        records = json.loads(path.read_bytes())
        write = {place: info for place, info in records["write"].items() if is_at_work(info)}
        read = {place: [info for info in infos if is_at_work(info)] for place, infos in records["read"].items()}
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError):  # cut off
        write = read = {}
    write_text_whole(
        path, json.dumps({"write": write, "read": {place: infos for place, infos in read.items() if infos}})
    )


def mend_run_cache() -> None:
    """Removes entries of DVC's run cache that were being written.

    DVC ends with an error at a folder without one, each time, and takes a part of one for the whole.
    """
    for folder in RUN_CACHE.glob("*/*"):
        for part in folder.glob("*.tmp"):
            part.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()


def is_at_work(info: dict[str, Any]) -> bool:
    """Checks that the process of a record, {pid, cmd}, is a dvc of this folder: a killed one's number is used again."""
    try:
        process = psutil.Process(info["pid"])
        same = process.cmdline()[-1:] == info["cmd"].split(" ")[-1:] and process.status() != psutil.STATUS_ZOMBIE
        return same and process.pid != os.getpid() and Path(process.cwd()).is_relative_to(Path.cwd())
    except psutil.Error:
        return False


class StageHasSpoken(logging.Filter):
    """Drops DVC's message about a stage that failed with one of its own: the stage's sentence stays the last."""

    code: int | None = None  # of the stage, once one has failed

    def filter(self, record: logging.LogRecord) -> bool:
        """Passes any other message on."""
        error = record.exc_info[1] if record.exc_info else None
        cause = error.__cause__ if error else None
        found = re.search(r"exited with (\d+)$", str(cause)) if isinstance(cause, StageCmdFailedError) else None
        if found and int(found[1]) in SPOKEN:
            self.code = int(found[1])
        return self.code is None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except R2AError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
