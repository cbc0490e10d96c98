"""The answer under cut heads against TransformerLens's and nnsight's, where they are installed (no dependencies)."""

from dataclasses import asdict, replace

import pytest
import torch

from benchmarks import theirs
from benchmarks.knockout import EQUAL, PEERS, QUICK
from benchmarks.ours import knock_out

pytest.importorskip("transformer_lens")
pytest.importorskip("nnsight")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_random_sets_cost_the_answer_what_peers_find(kind):
    shape = asdict(replace(QUICK, kind=kind))
    ours = torch.tensor(knock_out(shape, 80)())
    assert (ours[0] - ours[1]).abs().max() > 0.01  # two sets
    for way, more in PEERS.values():
        found = theirs.WAYS[way](shape, 80, 2, **more)()
        assert [number for number, _ in found] == [0, 1]
        torch.testing.assert_close(torch.tensor([each for _, each in found]), ours[:2], atol=EQUAL, rtol=0)
