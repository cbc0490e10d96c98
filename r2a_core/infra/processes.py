"""Processes that end with the one that started them, and locks that end with their holder: a kill leaves none behind.

`end_with_parent()` is called by a process once it has begun; `held(path)` is a lock that the kernel frees.
"""

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil

from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import disk_errors

SHELLS = {"sh", "bash", "dash", "ash", "ksh", "zsh", "fish"}  # they wait between dvc or make and its command

PR_SET_PDEATHSIG = 1  # linux/prctl.h

LOOK_EVERY = 0.5  # s, where the kernel does not tell

DYING_SECONDS = 5.0  # until the kernel has taken down a killed process and its locks


def end_with_parent(only_under: str | None = None) -> None:
    """Lets this process be killed (SIGKILL) as soon as the one that started it has ended, however it ended.

    Shells between the two count as part of the starter. Nothing happens without the environment variable `only_under`,
    which the starter sets: what a user starts by hand outlives the shell.
    """
    if only_under is not None and only_under not in os.environ:
        return
    if sys.platform == "linux":  # tells at once, and whatever this process is computing, but only of the direct parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        line = _to_starter()
        # A starter shares its process group with its child, unless it gave the child one of its own; init, or whoever
        # else adopts an orphan, does neither.
        orphan = os.getpgrp() not in (os.getpgid(line[-1].pid), *(process.pid for process in line))
    except (psutil.Error, OSError):  # it ended meanwhile
        orphan = True
    if orphan:
        os.kill(os.getpid(), signal.SIGKILL)
    elif sys.platform != "linux" or len(line) > 2:
        threading.Thread(target=_watch, args=(line,), daemon=True).start()


def _to_starter() -> list[psutil.Process]:
    """Returns this process, the shells above it and the process that started them."""
    line = [psutil.Process()]
    while len(line) == 1 or line[-1].name() in SHELLS:
        parent = line[-1].parent()
        if parent is None:
            raise psutil.NoSuchProcess(line[-1].pid)
        line.append(parent)
    return line


def _watch(line: Sequence[psutil.Process]) -> None:
    """Kills this process when one of `line` is no longer the child of the next."""
    try:
        while all(child.ppid() == parent.pid for child, parent in pairwise(line)):
            time.sleep(LOOK_EVERY)
    finally:  # also when one cannot be found any more
        os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def held(path: Path, busy: str) -> Iterator[None]:
    """Holds a lock (flock) on a file, which it makes. The kernel frees it when this process ends, so none is stale.

    Waits for another holder that may just have been killed. Raises R2AError, saying `busy`, when that one goes on,
    MissingPrerequisite when the disk cannot be written.
    """
    until = time.monotonic() + DYING_SECONDS
    with disk_errors(None, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise R2AError(busy, "wait for it to end, or stop it: ps shows it") from None
                time.sleep(0.05)
        yield
