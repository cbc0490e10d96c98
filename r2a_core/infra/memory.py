"""Sizes batches to the device's memory, and halves them when memory runs out anyway.

A stage states what one row of its batch takes and asks `rows_that_fit`; the bound is a param (MiB) or, without one,
most of the device's free memory. If the device still runs out, `retry_with_half` logs it and takes half as many rows.
The size of a batch changes no result. `give_back_memory` keeps a long training from growing. `no_collection` spares an
import of large libraries the search for unreachable objects.
"""

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from r2a_core.infra.errors import MissingPrerequisite

log = logging.getLogger(__name__)

MIB = 2**20

MEMINFO = Path("/proc/meminfo")  # of Linux

SHARE_OF_FREE = 0.8  # of the free memory that a batch may take; the rest is for activations in the layers

SIGNS = ("out of memory", "can't allocate memory", "not enough memory")  # of an allocator, in its message

Result = TypeVar("Result")


def free_bytes(device: Any) -> int:
    """Returns the free bytes of a torch device, torch's own cached blocks included."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return min(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory(), free_host_bytes())
    return free_host_bytes()


def free_host_bytes() -> int:
    """Returns the bytes that Linux calls available, within the container's limit; elsewhere half of the memory."""
    if not MEMINFO.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    lines = MEMINFO.read_text(encoding="ascii").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.is_file() and used.is_file() and (text := limit.read_text().strip()).isdecimal():
        return max(0, min(available, int(text) - int(used.read_text())))
    return available


def rows_that_fit(wanted: int, row_bytes: int, device: Any, bound_mib: int | None, what: str) -> int:
    """Returns how many of `wanted` rows of `row_bytes` fit on `device`, at least 1; logs a line if not all do.

    bound_mib: MiB that they may take; None = SHARE_OF_FREE of what is free now.
    """
    room = int(free_bytes(device) * SHARE_OF_FREE) if bound_mib is None else bound_mib * MIB
    fitting = max(1, min(wanted, room // row_bytes))
    if fitting < wanted:
        log.info("%s: %d instead of %d, for %d MiB of memory", what, fitting, wanted, room // MIB)
    return fitting


def is_out_of_memory(error: BaseException) -> bool:
    """Checks whether an error is an allocator's, of the device or the host, that found no memory."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def retry_with_half(compute: Callable[[int], Result], size: int, smallest: int, what: str, hint: str) -> Result:
    """Calls compute(size), again with half the size each time memory runs out.

    Raises MissingPrerequisite when it runs out at the smallest size too.
    """
    while True:
        try:
            return compute(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if size <= smallest:
            raise MissingPrerequisite(f"{what}: out of memory even at {size}", hint)
        half = max(smallest, size // 2)
        log.warning("%s: out of memory at %d, going on at %d", what, size, half)
        size = half
        release()


def release() -> None:
    """Frees the memory that a failed computation still holds."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def give_back_memory() -> None:
    """Returns freed memory to the system: batches of ever new shapes leave it in pieces, which the C library keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


@contextmanager
def no_collection() -> Iterator[None]:
    """Holds garbage collection back: while torch and transformers are imported it would go through all of them again
    and again, and find nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
