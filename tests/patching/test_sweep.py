"""The packed staircase against one ordinary forward pass per cell, made here with hooks of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from r2a_core.config import Role, SweepParams
from r2a_core.infra.errors import R2AError
from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition
from r2a_core.patching import packed as staircase
from r2a_core.patching import stage as jobs
from r2a_core.patching.packed import PackedSweep, PatchSite
from r2a_core.patching.runs import CleanRun, capture_clean
from r2a_core.patching.sweep import sweep_heads, sweep_resid

VOCAB, N_LAYERS, N_HEADS, N_TOKENS = 60, 3, 4, 26
MEMORY_MIB = 64
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
    change = forward(model, clean) - forward(model, corrupted)
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


def forward(model, sequence, edits=(), z_edits=(), record=None):
    """Last logits of an ordinary forward; edits (layer, token, vector), z_edits (layer, token, head, vector)."""
    ids, pad = torch.tensor([sequence.ids]), torch.tensor([sequence.pad])
    handles = []
    for index, layer in enumerate(model.model.layers):

        def entering(module, args, index=index):
            hidden = args[0].clone()
            for at, token, vector in edits:
                if at == index:
                    hidden[0, token] = vector
            if record is not None:
                record["resid"].append(hidden[0])
            return (hidden, *args[1:])

        def projecting(module, args, index=index):
            z = args[0].clone().view(1, ids.shape[1], N_HEADS, -1)
            for at, token, head, vector in z_edits:
                if at == index:
                    z[0, token, head] = vector
            if record is not None:
                record["z"].append(z[0])
            return (z.flatten(2),)

        handles.append(layer.register_forward_pre_hook(entering))
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(projecting))
    extra = {}
    if sequence.masked:
        keep = (~pad).long()
        extra = {"attention_mask": keep, "position_ids": (keep.cumsum(1) - 1).clamp(min=0)}
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False, **extra).logits[0, -1].double()
    for handle in handles:
        handle.remove()
    return logits


def logit_diff(aligned, logits):
    return (logits[aligned.answer_a] - logits[aligned.answer_b]).item()


def oracle(model, aligned):
    """Clean streams and z, and a function from edits to NLD."""
    record = {"resid": [], "z": []}
    ld_clean = logit_diff(aligned, forward(model, aligned.clean, record=record))
    ld_corrupted = logit_diff(aligned, forward(model, aligned.corrupted))

    def nld(edits=(), z_edits=()):
        ld = logit_diff(aligned, forward(model, aligned.corrupted, edits, z_edits))
        return (ld - ld_corrupted) / (ld_clean - ld_corrupted)

    return record["resid"], record["z"], nld


def resid_cells(model, aligned, shift_layer=0, shift_token=0):
    """NLD of every cell by one forward each, (layer, position)."""
    resid, _, nld = oracle(model, aligned)
    return np.array(
        [
            [
                nld([(layer, token, resid[(layer + shift_layer) % N_LAYERS][token + shift_token])])
                for token in aligned.indices
            ]
            for layer in range(N_LAYERS)
        ]
    )


@pytest.mark.parametrize("masked", [False, True], ids=["padding visible", "padding masked"])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_resid_cells_equal_one_forward_each(kind, seed, masked):
    model = build(kind, seed)
    aligned = pair(model, seed, masked)
    sweep = sweep_resid(model, aligned, capture_clean(model, aligned), MEMORY_MIB)
    expected = resid_cells(model, aligned)
    assert np.abs(expected).max() > 0.3, "the case must hold cells with a large effect"
    np.testing.assert_allclose(sweep.nld, expected, atol=1e-5, rtol=0)


def test_planted_errors_are_far_outside_the_tolerance():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    sweep = sweep_resid(model, aligned, capture_clean(model, aligned), MEMORY_MIB)
    for planted in ({"shift_layer": 1}, {"shift_token": -1}):
        assert np.abs(sweep.nld - resid_cells(model, aligned, **planted)).max() > 0.05


@pytest.mark.parametrize("kind", ["qwen2", "llama", "mistral"])
def test_patching_every_position_of_a_layer_gives_the_clean_run(kind):
    model = build(kind, 3)
    aligned = pair(model, 3, False)
    clean = capture_clean(model, aligned, positions=range(N_TOKENS))
    sweep = sweep_resid(model, aligned, clean, MEMORY_MIB, lanes=[PatchSite(tuple(range(N_TOKENS)))])
    np.testing.assert_allclose(sweep.nld, 1, atol=1e-5)


def test_sliding_window_cells_equal_one_forward_each():
    model = build("mistral", 4)
    aligned = pair(model, 4, False)
    sweep = sweep_resid(model, aligned, capture_clean(model, aligned), MEMORY_MIB)
    expected = resid_cells(model, aligned)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(sweep.nld, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
def test_masked_padding_is_as_if_it_were_not_there(kind):
    model = build(kind, 5)
    aligned = pair(model, 5, True, n_pad_clean=4)
    for side, run in ((aligned.clean, aligned), (aligned.corrupted, replace(aligned, clean=aligned.corrupted))):
        bare_ids = tuple(i for i, pad in zip(side.ids, side.pad, strict=True) if not pad)
        bare = PaddedSequence(bare_ids, (False,) * len(bare_ids), False)
        assert capture_clean(model, run).logit_diff == pytest.approx(logit_diff(run, forward(model, bare)), abs=1e-5)


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
    sweep = sweep_heads(model, aligned, capture_clean(model, aligned, with_z=True), MEMORY_MIB)
    _, z, nld = oracle(model, aligned)
    expected = np.array(
        [
            [[nld(z_edits=[(layer, t, head, z[layer][t, head])]) for t in aligned.indices] for head in range(N_HEADS)]
            for layer in range(N_LAYERS)
        ]
    )
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(sweep.nld, expected, atol=1e-5, rtol=0)


def test_head_cells_with_restored_residual_streams_equal_one_forward_each():
    model = build("qwen2", 7)
    aligned = pair(model, 7, False)
    restored = (15, 18)  # one before every patched position, one among them
    clean = capture_clean(model, aligned, positions=[*aligned.indices, 15], with_z=True)
    sweep = sweep_heads(model, aligned, clean, MEMORY_MIB, restored=restored)
    resid, z, nld = oracle(model, aligned)
    held = [(layer, token, resid[layer][token]) for layer in range(N_LAYERS) for token in restored]
    for layer in range(N_LAYERS):
        for head in range(N_HEADS):
            cells = [nld(held, [(layer, t, head, z[layer][t, head])]) for t in aligned.indices]
            np.testing.assert_allclose(sweep.nld[layer, head], cells, atol=1e-5, rtol=0)
    assert abs(nld(held)) > 0.02, "restoring must matter by itself"


@pytest.mark.parametrize(("memory", "n_passes", "lanes_per_pass"), [(280, 4, {6}), (42, 24, {2, 4})])
def test_passes_cut_by_memory_give_the_same_cells(monkeypatch, memory, n_passes, lanes_per_pass):
    model = build("qwen2", 8)
    aligned = pair(model, 8, False)
    clean = capture_clean(model, aligned, with_z=True)
    whole = sweep_heads(model, aligned, clean, MEMORY_MIB)
    passes = []
    one_pass = PackedSweep.one_pass

    def counted(self, packing, rows):
        passes.append(len(packing.starts))
        return one_pass(self, packing, rows)

    monkeypatch.setattr(staircase, "MIB", 1000)  # a row of all lanes takes 79 kB, of the first one 24 kB
    monkeypatch.setattr(PackedSweep, "one_pass", counted)
    cut = sweep_heads(model, aligned, clean, memory)
    assert len(passes) == n_passes
    assert set(passes) == lanes_per_pass
    np.testing.assert_allclose(cut.nld, whole.nld, atol=1e-6)
    with pytest.raises(R2AError, match="one patched row at position 16 takes"):
        sweep_heads(model, aligned, clean, 20)


def test_positions_the_clean_run_lacks_are_named():
    model = build("qwen2", 0)
    aligned = pair(model, 0, False)
    clean = capture_clean(model, aligned, positions=[16, 17])
    with pytest.raises(R2AError, match="not captured at position 18"):
        sweep_resid(model, aligned, clean, MEMORY_MIB)


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
    before = forward(model, aligned.clean)
    sweep_resid(model, aligned, capture_clean(model, aligned), MEMORY_MIB)
    assert model.config._attn_implementation == own != "r2a_patching"
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)
    assert torch.equal(forward(model, aligned.clean), before)


def test_out_of_memory_halves_the_passes_and_changes_no_number(monkeypatch, caplog):
    model = build("qwen2", 0)
    aligned = pair(model, 1, masked=False)
    clean = capture_clean(model, aligned, with_z=True)
    params = SweepParams(components=("resid_pre", "z"), restored_roles=(), memory_mib=1)
    monkeypatch.setattr(jobs, "MIB", 2**10)  # bounds in KiB, since the model is so small
    monkeypatch.setattr(staircase, "MIB", 2**10)
    wide = params.model_copy(update={"memory_mib": 100_000})
    expected = jobs.sweep_pair(model, aligned, clean, wide)
    one_pass, rows = PackedSweep.one_pass, []

    def small_device(self, packing, part):
        rows.append(sum(len(each.streams) for each in part) * len(packing.starts))
        if rows[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return one_pass(self, packing, part)

    monkeypatch.setattr(PackedSweep, "one_pass", small_device)
    found = jobs.sweep_pair(model, aligned, clean, wide)
    assert max(rows) > 8 >= min(rows)
    assert "resid_pre of p0 (plain), MiB of patched rows: out of memory at 100000, going on at 50000" in caplog.text
    for ours, theirs in zip(found, expected, strict=True):
        for name in ("logit_diff", "log_prob_diff", "prob_diff"):
            np.testing.assert_allclose(getattr(ours.metrics, name), getattr(theirs.metrics, name), atol=2e-5)
