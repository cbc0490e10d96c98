"""Patched cells of small models against one ordinary forward pass per cell."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from r2a_core.config import SweepParams
from r2a_core.infra.errors import R2AError
from r2a_core.pairs.align import PaddedSequence, PatchPosition
from r2a_core.patching import packed
from r2a_core.patching.packed import PackedSweep, PatchRows, PatchSite
from r2a_core.patching.runs import CleanRun, capture_clean, corrupted_logit_diff, run_unpatched
from r2a_core.patching.stage import sweeps_in_memory
from r2a_core.patching.sweep import sweep_heads, sweep_pair, sweep_resid
from tests.patching.oracle import N_HEADS, N_LAYERS, N_TOKENS, ROLES, SIZES, Oracle, build, full_forward, pair
from tests.random_models import random_model

MEMORY = 2**26  # bytes


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

    def row(layer, head):
        return [oracle.nld(*held, oracle.head(layer, token, head)) for token in tokens]

    return np.array([[row(layer, head) for head in range(N_HEADS)] for layer in range(N_LAYERS)])


@pytest.mark.parametrize(
    ("kind", "seed", "masked"),
    [
        *((kind, seed, mask) for kind in ("qwen2", "llama") for seed in (0, 1, 2) for mask in (False, True)),
        ("mistral", 4, False),
    ],
)
def test_cells_equal_one_forward_each(kind, seed, masked):
    model = build(kind, seed)
    aligned = pair(model, seed, masked)
    runs = capture_clean(model, aligned, with_z=True), run_unpatched(model, aligned, with_z=True)
    for sweep, expected in (
        (sweep_resid, resid_cells(model, aligned)),
        (sweep_heads, head_cells(Oracle(model, aligned))),
    ):
        assert np.abs(expected).max() > (0.3 if sweep is sweep_resid else 0.1), "cells with a large effect are needed"
        np.testing.assert_allclose(sweep(model, aligned, *runs, MEMORY).nld, expected, atol=1e-5, rtol=0)


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
    if kind == "qwen2":  # in the other's window there is no padding
        visible = replace(aligned, clean=replace(aligned.clean, masked=False))
        assert abs(found[0] - capture_clean(model, visible).logit_diff) > 0.05, "visible padding differs"


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
    assert resid.roles == heads.roles == tuple(ROLES.values())
    np.testing.assert_allclose(resid.nld, resid_cells(model, aligned), atol=1e-5, rtol=0)
    np.testing.assert_allclose(heads.nld, head_cells(oracle, *held), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("memory", "quick", "n_passes", "sites_per_pass"),
    [(280_000, MEMORY, 4, {6}), (42_000, MEMORY, 24, {2, 4}), (MEMORY, 280_000, 4, {6}), (MEMORY, 42_000, 12, {6})],
)
def test_passes_cut_by_memory_give_the_same_cells(memory, quick, n_passes, sites_per_pass, monkeypatch):
    """A row of all sites takes 79 kB, one of the first site 24 kB. quick: bytes of rows beyond which a CPU slows."""
    model = build("qwen2", 8)
    aligned = pair(model, 8, False)
    runs = capture_clean(model, aligned, with_z=True), run_unpatched(model, aligned, with_z=True)
    whole = sweep_heads(model, aligned, *runs, MEMORY)
    counts: list[int] = []
    handle = model.lm_head.register_forward_hook(lambda module, args, output: counts.append(output.shape[1]))
    monkeypatch.setattr(packed, "CPU_BYTES", quick)
    cut = sweep_heads(model, aligned, *runs, memory)
    handle.remove()
    counts = counts[1:]  # the first pass makes the heads' rows
    assert len(counts) == n_passes
    assert set(counts) == sites_per_pass
    np.testing.assert_allclose(cut.nld, whole.nld, atol=1e-6)
    with pytest.raises(R2AError, match=r"one patched row at position 16 takes 0.0\d+ MiB, the bound is 0.0191"):
        sweep_heads(model, aligned, *runs, 20_000)


def test_clean_run_survives_a_round_trip_through_tensors_and_what_it_lacks_is_named():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    clean = capture_clean(model, aligned, with_z=True)
    again = CleanRun.from_tensors(clean.tensors())
    assert again.positions == aligned.indices
    assert again.logit_diff == clean.logit_diff
    assert again.resid_pre.shape == (N_LAYERS, 6, 32)
    assert again.z is not None
    assert again.z.shape == (N_LAYERS, 6, N_HEADS, 8)
    few = capture_clean(model, replace(aligned, positions=aligned.positions[:2]))
    with pytest.raises(R2AError, match="not captured at position 18"):
        sweep_resid(model, aligned, few, run_unpatched(model, aligned), MEMORY)
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
    model = random_model("llama", 0, **sizes)
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
