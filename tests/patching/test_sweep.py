"""Patched cells of small models against one ordinary forward pass per cell."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from r2a_core.config import Role, SweepParams
from r2a_core.infra.errors import R2AError
from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition
from r2a_core.patching.packed import PackedSweep, PatchRows, PatchSite
from r2a_core.patching.runs import CleanRun, capture_clean, corrupted_logit_diff, run_unpatched
from r2a_core.patching.stage import sweeps_in_memory
from r2a_core.patching.sweep import sweep_heads, sweep_pair, sweep_resid
from tests.patching.oracle import Oracle, full_forward

VOCAB, N_LAYERS, N_HEADS, N_TOKENS = 60, 3, 4, 26
MEMORY = 2**26  # bytes
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # large enough for patches to move the answer
}


def build(kind, seed):
    torch.manual_seed(seed)
    if kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    elif kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True))
    else:
        model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=7))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pair(model, seed, masked, n_pad_clean=0, n_pad_corrupted=9):
    """Two random sequences with one pad run each; patched: two probe tokens, the flip, </think>, the last two.

    The answers are the tokens whose logits differ most between the two runs.
    """
    rng = np.random.default_rng(seed)
    tail = rng.integers(1, VOCAB, 10)
    sides = []
    for n_pad in (n_pad_clean, n_pad_corrupted):
        ids = np.concatenate([rng.integers(1, VOCAB, N_TOKENS - 10), tail])
        pad = np.zeros(N_TOKENS, bool)
        pad[3 : 3 + n_pad] = True
        ids[pad] = 0
        sides.append((ids, pad))
    sides[1][0][18] = (sides[0][0][18] + 1) % VOCAB
    clean, corrupted = (PaddedSequence(tuple(i.tolist()), tuple(p.tolist()), masked) for i, p in sides)
    roles: dict[int, Role] = {
        16: "probe",
        17: "probe",
        18: "flip",
        19: "think_close",
        24: "answer_end",
        25: "answer_end",
    }
    positions = tuple(PatchPosition(index, role, "c", "k") for index, role in roles.items())
    change = full_forward(model, clean) - full_forward(model, corrupted)
    return AlignedPair(
        "p0",
        "plain",
        clean,
        corrupted,
        positions,
        int(change.argmax()),
        int(change.argmin()),
        think_open=2,
        think_close=19,
    )


def resid_sweep(model, aligned):
    return sweep_resid(model, aligned, capture_clean(model, aligned), run_unpatched(model, aligned), MEMORY)


def resid_cells(model, aligned, shift_layer=0, shift_token=0):
    """NLD of every cell by one forward each, (layer, position)."""
    oracle = Oracle(model, aligned)

    def cell(layer, token):
        taken = oracle.resid((layer + shift_layer) % N_LAYERS, token + shift_token)
        return oracle.nld(replace(taken, layer=layer, token=token))

    return np.array([[cell(layer, token) for token in aligned.indices] for layer in range(N_LAYERS)])


def head_cells(oracle, *held):
    """NLD of every head's cells by one forward each, (layer, head, position), with `held` edits in all of them."""
    tokens = oracle.aligned.indices
    return np.array(
        [
            [[oracle.nld(*held, oracle.head(layer, token, head)) for token in tokens] for head in range(N_HEADS)]
            for layer in range(N_LAYERS)
        ]
    )


@pytest.mark.parametrize("masked", [False, True], ids=["padding visible", "padding masked"])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_resid_cells_equal_one_forward_each(kind, seed, masked):
    model = build(kind, seed)
    aligned = pair(model, seed, masked)
    expected = resid_cells(model, aligned)
    assert np.abs(expected).max() > 0.3, "the case must hold cells with a large effect"
    np.testing.assert_allclose(resid_sweep(model, aligned).nld, expected, atol=1e-5, rtol=0)


def test_sliding_window_cells_equal_one_forward_each():
    model = build("mistral", 4)
    aligned = pair(model, 4, False)
    expected = resid_cells(model, aligned)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(resid_sweep(model, aligned).nld, expected, atol=1e-5, rtol=0)


def test_planted_errors_are_far_outside_the_tolerance():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    found = resid_sweep(model, aligned).nld
    for planted in ({"shift_layer": 1}, {"shift_token": -1}):
        assert np.abs(found - resid_cells(model, aligned, **planted)).max() > 0.05


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral"])
def test_patching_every_position_of_a_layer_gives_the_clean_run(kind):
    model = build(kind, 3)
    whole = tuple(PatchPosition(index, "probe", "c", "k") for index in range(N_TOKENS))
    aligned = replace(pair(model, 3, False), positions=whole)
    clean = capture_clean(model, aligned)
    packed = PackedSweep(model, aligned, run_unpatched(model, aligned), MEMORY)
    rows = [PatchRows(layer, clean.resid_pre[layer][None]) for layer in range(N_LAYERS)]
    found = packed.run([PatchSite(tuple(range(N_TOKENS)))], rows)
    np.testing.assert_allclose(found.logit_diff, np.full((N_LAYERS, 1), clean.logit_diff), atol=1e-4)


@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
def test_masked_padding_is_as_if_it_were_not_there(kind):
    model = build(kind, 5)
    aligned = pair(model, 5, True, n_pad_clean=4)
    found = (capture_clean(model, aligned).logit_diff, corrupted_logit_diff(model, aligned))
    assert found[1] == run_unpatched(model, aligned).metrics.logit_diff
    for side, ld in zip((aligned.clean, aligned.corrupted), found, strict=True):
        bare_ids = tuple(i for i, pad in zip(side.ids, side.pad, strict=True) if not pad)
        logits = full_forward(model, PaddedSequence(bare_ids, (False,) * len(bare_ids), False))
        assert ld == pytest.approx((logits[aligned.answer_a] - logits[aligned.answer_b]).item(), abs=1e-5)


def test_visible_padding_differs_from_masked_padding():
    model = build("qwen2", 5)
    masked = pair(model, 5, True, n_pad_clean=4)
    visible = replace(masked, clean=replace(masked.clean, masked=False))
    assert abs(capture_clean(model, masked).logit_diff - capture_clean(model, visible).logit_diff) > 0.05


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_head_cells_equal_one_forward_each(kind, masked):
    model = build(kind, 6)
    aligned = pair(model, 6, masked)
    clean, corrupted = capture_clean(model, aligned, with_z=True), run_unpatched(model, aligned, with_z=True)
    expected = head_cells(Oracle(model, aligned))
    assert np.abs(expected).max() > 0.1
    found = sweep_heads(model, aligned, clean, corrupted, MEMORY)
    np.testing.assert_allclose(found.nld, expected, atol=1e-5, rtol=0)


def test_head_cells_with_restored_residual_streams_equal_one_forward_each():
    model = build("qwen2", 7)
    aligned = pair(model, 7, False)
    restored = (15, 18)  # one before every patched position, one among them
    more = replace(aligned, positions=(PatchPosition(15, "probe", "c", "k"), *aligned.positions))
    clean, corrupted = capture_clean(model, more, with_z=True), run_unpatched(model, aligned)
    oracle = Oracle(model, aligned)
    held = [oracle.resid(layer, token) for layer in range(N_LAYERS) for token in restored]
    found = sweep_heads(model, aligned, clean, corrupted, MEMORY, restored)
    np.testing.assert_allclose(found.nld, head_cells(oracle, *held), atol=1e-5, rtol=0)
    assert abs(oracle.nld(*held)) > 0.02, "restoring must matter by itself"


def test_all_components_of_a_pair_share_the_corrupted_run():
    model = build("qwen2", 8)
    aligned = pair(model, 8, False)
    clean = capture_clean(model, aligned, with_z=True)
    params = SweepParams(components=("resid_pre", "z"), restored_roles=("think_close",), memory_mib=64)
    resid, heads = sweep_pair(model, aligned, clean, params, params.memory_mib)
    oracle = Oracle(model, aligned)
    held = [oracle.resid(layer, 19) for layer in range(N_LAYERS)]
    assert resid.ld_corrupted == heads.ld_corrupted == pytest.approx(oracle.ld_corrupted, abs=1e-5)
    assert resid.roles == heads.roles == ("probe", "probe", "flip", "think_close", "answer_end", "answer_end")
    np.testing.assert_allclose(resid.nld, resid_cells(model, aligned), atol=1e-5, rtol=0)
    np.testing.assert_allclose(heads.nld, head_cells(oracle, *held), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("memory", "n_passes", "sites_per_pass"), [(280_000, 4, {6}), (42_000, 24, {2, 4})])
def test_passes_cut_by_memory_give_the_same_cells(memory, n_passes, sites_per_pass):
    """A row of all sites takes 79 kB, one of the first site 24 kB."""
    model = build("qwen2", 8)
    aligned = pair(model, 8, False)
    runs = capture_clean(model, aligned, with_z=True), run_unpatched(model, aligned, with_z=True)
    whole = sweep_heads(model, aligned, *runs, MEMORY)
    heads_of, counts = model.lm_head.register_forward_hook, []
    handle = heads_of(lambda module, args, output: counts.append(output.shape[1]))
    cut = sweep_heads(model, aligned, *runs, memory)
    handle.remove()
    counts = counts[1:]  # the first pass makes the heads' rows
    assert len(counts) == n_passes
    assert set(counts) == sites_per_pass
    np.testing.assert_allclose(cut.nld, whole.nld, atol=1e-6)
    with pytest.raises(R2AError, match=r"one patched row at position 16 takes 0.0\d+ MiB, the bound is 0.0191"):
        sweep_heads(model, aligned, *runs, 20_000)


def test_positions_the_clean_run_lacks_are_named():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    clean = capture_clean(model, replace(aligned, positions=aligned.positions[:2]))
    with pytest.raises(R2AError, match="not captured at position 18"):
        sweep_resid(model, aligned, clean, run_unpatched(model, aligned), MEMORY)


def test_clean_run_survives_a_round_trip_through_tensors():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    clean = capture_clean(model, aligned, with_z=True)
    again = CleanRun.from_tensors(clean.tensors())
    assert again.positions == aligned.indices
    assert again.logit_diff == clean.logit_diff
    assert again.resid_pre.shape == (N_LAYERS, 6, 32)
    assert again.z is not None
    assert again.z.shape == (N_LAYERS, 6, N_HEADS, 8)
    with pytest.raises(R2AError, match="lacks the tensor 'logit_diff'"):
        CleanRun.from_tensors({"positions": torch.arange(2), "resid_pre": torch.zeros(1, 2, 3)})


def test_the_model_is_left_as_it_was():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    own = model.config._attn_implementation
    before = full_forward(model, aligned.clean)
    resid_sweep(model, aligned)
    assert model.config._attn_implementation == own != "r2a"
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in model.model.layers)
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(full_forward(model, aligned.clean), before)


def test_out_of_memory_halves_the_passes_and_changes_no_number(caplog):
    """The device has no memory for more than 4 rows, which 2 MiB hold."""
    sizes: dict[str, Any] = SIZES | {"hidden_size": 64, "intermediate_size": 1100}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    aligned = pair(model, 1, masked=False)
    clean = capture_clean(model, aligned, with_z=True)
    params = SweepParams(components=("resid_pre", "z"), restored_roles=(), memory_mib=8)
    expected = sweeps_in_memory(model, aligned, clean, params)
    rows = []

    def small_device(module, args):
        rows.append(args[0].shape[0])
        if rows[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.model.norm.register_forward_pre_hook(small_device)
    found = sweeps_in_memory(model, aligned, clean, params)
    assert max(rows) > 4
    assert "p0 (plain), MiB of patched rows: out of memory at 8, going on at 4" in caplog.text
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("logit_diff", "log_prob_diff", "prob_diff"):
            np.testing.assert_allclose(getattr(ours.metrics, name), getattr(theirs.metrics, name), atol=2e-5)
