"""Every way of every peer against float64, where TransformerLens and nnsight are installed (no dependencies)."""

import sys
from pathlib import Path

import pytest

from benchmarks import parity
from benchmarks.turns import Bench

pytest.importorskip("transformer_lens")
pytest.importorskip("nnsight")


def test_all_ways_to_masses_cells_and_cut_heads_are_as_near_float64_as_float32_is(tmp_path):
    rows = parity.measure(Bench(Path(sys.executable), 1, 1, True, tmp_path, tmp_path)).tables[0].rows
    assert len(rows) == sum(1 + len(work.peers) for work in parity.WORKS.values())
    for (name, work), least in zip(parity.WORKS.items(), (1e-9, 1e-7, 1e-8), strict=True):
        own = [row for row in rows if row[0].startswith(name)]
        assert [row[1] for row in own] == ["ours", *work.peers]
        for _, way, single, _, half, _ in own:
            assert least < float(single) < parity.LARGEST[name], way  # never 0: the reference is another computation
            assert float(single) * 10 < float(half), way
