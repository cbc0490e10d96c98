"""Processes that tests start: the PATH they need, and waiting for them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # with the dvc and python of this environment


def await_that(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def gone(process: psutil.Process) -> bool:
    """Ended; whoever adopts it may be slow to take note."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
