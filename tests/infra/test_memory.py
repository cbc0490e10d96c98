"""Free memory where Linux does not say it: on other systems, and of Apple's graphics processors."""

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
