"""Cells against TransformerLens's own patching hooks, where it is installed (it is not a dependency)."""

# pyright: reportArgumentType=false

import numpy as np
import pytest
import torch

from benchmarks.theirs_lens import hooked_transformer
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_heads, sweep_resid
from tests.patching.oracle import N_HEADS, N_LAYERS, SIZES
from tests.patching.oracle import pair as random_pair
from tests.random_models import random_model

pytest.importorskip("transformer_lens")


def patched(hooked, pair, name, edit) -> float:
    """NLD of one run with `edit` on the activation `name`."""
    sides = [torch.tensor([side.ids]) for side in (pair.clean, pair.corrupted)]

    def difference(logits) -> float:
        return (logits[0, -1, pair.answer_a] - logits[0, -1, pair.answer_b]).item()

    with torch.no_grad():
        clean, corrupted = (difference(hooked(side)) for side in sides)
        found = difference(hooked.run_with_hooks(sides[1], fwd_hooks=[(name, edit)]))
    return (found - corrupted) / (clean - corrupted)


def test_resid_and_head_cells_equal_transformer_lens():
    model = random_model("llama", 0, **SIZES)
    hooked, pair = hooked_transformer(model, 128), random_pair(model, 3, masked=False, n_pad_corrupted=0)
    _, cache = hooked.run_with_cache(torch.tensor([pair.clean.ids]))
    runs = capture_clean(model, pair, with_z=True), run_unpatched(model, pair, with_z=True)
    resid, heads = (sweep(model, pair, *runs, 2**26) for sweep in (sweep_resid, sweep_heads))
    assert np.abs(resid.nld).max() > 0.3
    for layer in range(N_LAYERS):
        for column, token in enumerate(pair.indices):
            name = f"blocks.{layer}.hook_resid_pre"

            def whole(stream, hook, name=name, token=token):
                stream[0, token] = cache[name][0, token]
                return stream

            assert resid.nld[layer, column] == pytest.approx(patched(hooked, pair, name, whole), abs=1e-4)
            for head in range(N_HEADS):
                name = f"blocks.{layer}.attn.hook_z"

                def one_head(z, hook, name=name, token=token, head=head):
                    z[0, token, head] = cache[name][0, token, head]
                    return z

                expected = patched(hooked, pair, name, one_head)
                assert heads.nld[layer, head, column] == pytest.approx(expected, abs=1e-4)
