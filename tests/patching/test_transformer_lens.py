"""Cells against TransformerLens's own patching hooks, where it is installed (it is not a dependency)."""

# pyright: reportArgumentType=false

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.theirs import hooked_transformer
from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_heads, sweep_resid

pytest.importorskip("transformer_lens")
N_LAYERS, N_HEADS, VOCABULARY = 3, 4, 60


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def hooked(model):
    """The same weights as a HookedTransformer, unprocessed."""
    return hooked_transformer(model, 128)


@pytest.fixture(scope="module")
def pair(model) -> AlignedPair:
    """Two random sequences of 24 tokens that end alike; the answers are the tokens that differ most."""
    generator = torch.Generator().manual_seed(3)
    clean, corrupted = torch.randint(1, VOCABULARY, (2, 24), generator=generator)
    corrupted[18:] = clean[18:]
    with torch.no_grad():
        logits = model(torch.stack([clean, corrupted])).logits[:, -1]
    change = logits[0] - logits[1]
    sides = [PaddedSequence(tuple(side.tolist()), (False,) * 24, False) for side in (clean, corrupted)]
    positions = tuple(PatchPosition(index, "probe", "", "") for index in (12, 17, 18, 22, 23))
    answers = (int(change.argmax()), int(change.argmin()))
    return AlignedPair("p", "plain", sides[0], sides[1], positions, *answers, think_open=2, think_close=18)


def patched(hooked, pair, name, edit) -> float:
    """NLD of one run with `edit` on the activation `name`."""
    sides = [torch.tensor([side.ids]) for side in (pair.clean, pair.corrupted)]

    def difference(logits) -> float:
        return (logits[0, -1, pair.answer_a] - logits[0, -1, pair.answer_b]).item()

    with torch.no_grad():
        clean, corrupted = (difference(hooked(side)) for side in sides)
        found = difference(hooked.run_with_hooks(sides[1], fwd_hooks=[(name, edit)]))
    return (found - corrupted) / (clean - corrupted)


def test_resid_and_head_cells_equal_transformer_lens(model, hooked, pair):
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
