"""Free memory where Linux does not say it: on other systems, and of Apple's graphics processors."""

import ctypes
import gc
import os
from pathlib import Path

import pytest
import torch

from r2a_core.infra import memory


def test_without_linux_s_figures_half_of_the_memory_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.free_bytes(torch.device("cpu")) == whole // 2
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 5 * memory.MIB)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 2 * memory.MIB)
    assert memory.free_bytes(torch.device("mps")) == 3 * memory.MIB


def resident() -> int:
    """Bytes of this process in memory, by Linux's account."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_memory_that_is_freed_in_pieces_goes_back() -> None:
    pieces = [bytearray(4096) for _ in range(50_000)]
    full = resident()
    del pieces[:-1]  # the last keeps the heap from shrinking by itself
    kept = resident()
    memory.give_back_memory()
    assert full - kept < 20 * memory.MIB
    assert full - resident() > 150 * memory.MIB


def test_collection_is_held_back_inside_and_as_it_was_after() -> None:
    with memory.no_collection():
        with memory.no_collection():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        memory.no_collection()(lambda: 1 / 0)()
    assert gc.isenabled()
