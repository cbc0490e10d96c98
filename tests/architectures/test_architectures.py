"""Other reasoning models by an entry alone: prompts, generation, capture, statistics and patching, each against plain
transformers with eager attention."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.activations.capture import capture_trace, trace_bytes
from r2a_core.activations.store import ActivationReader, shard_name, write_index, write_shard
from r2a_core.attention.masses import layer_statistics, masses
from r2a_core.config import AlignmentConfig, CaptureConfig, ResponseParams
from r2a_core.data.items import Item
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.generation.rows import generation_row
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import load_model, load_tokenizer
from r2a_core.pairs.align import AlignedPair, PairSide, align
from r2a_core.patching.packed import PatchSite
from r2a_core.patching.runs import capture_clean
from r2a_core.patching.sweep import sweep_heads, sweep_resid
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import plain_ids
from r2a_core.trace import GENERATION_SCHEMA, Setting, select_traces

NAMES = ["qwen3_thinking", "magistral", "gemma3", "gemma3_with_vision", "phi4_reasoning", "gpt_oss", "gemma2"]
WINDOWED = {"magistral": {0, 1, 2}, "gemma3": {0, 2}, "gemma3_with_vision": {0, 2}, "gpt_oss": {0, 2}, "gemma2": {0, 2}}
WINDOW, N_LAYERS, N_HEADS = 24, 3, 6
QUESTION, INSTRUCTION = "Which is larger: 5 or 6?", " Think first."


def trace_row(text: Any, thought: str, answer: str) -> dict[str, Any]:
    """A row of generations, as the funnel makes it from a prompt and a response."""
    prompt = prompt_ids(text, QUESTION, INSTRUCTION, "with_reasoning")
    response = [*plain_ids(text, thought), text.ids.think_close, *plain_ids(text, answer), text.ids.eos]
    item = Item("q", QUESTION, "6", "math")
    return generation_row(text, item, 0, prompt, response, 0, lambda said: "boxed" in said)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_hold_the_tags_of_the_entry(architecture, name):
    text = architecture(name).loaded.tokenizer
    tags = text.tags
    whole = f"{tags.bos or ''}{QUESTION}{INSTRUCTION} {tags.think_open}"
    spelled: dict[Setting, str] = {
        "with_reasoning": f"{whole}\n",
        "without_reasoning": f"{whole}\nOkay, I think I have finished thinking.\n{tags.think_close}",
    }
    for setting, expected in spelled.items():
        found = prompt_ids(text, QUESTION, INSTRUCTION, setting)
        assert found == text.hf.encode(expected, add_special_tokens=False)
        assert text.hf.decode(found) == expected
        assert (found[0] == text.ids.bos) == (tags.bos is not None)
    asked = prompt_ids(text, f"What does {tags.think_close} mean?", INSTRUCTION, "with_reasoning")
    assert text.ids.think_close not in asked


@pytest.mark.parametrize("name", NAMES)
def test_batched_generation_equals_one_prompt_after_the_other(architecture, name):
    found = architecture(name)
    text = found.loaded.tokenizer
    questions = ["Why?", QUESTION, "Which of the two numbers 15 and 51 is the larger one?"]
    prompts = [tuple(prompt_ids(text, question, INSTRUCTION, "with_reasoning")) for question in questions]
    requests = [GenerationRequest(str(number), 0, prompt) for number, prompt in enumerate(prompts)]
    results = generate(
        found.loaded,
        requests,
        ResponseParams(max_new_tokens=30, batch_size=3, tie_margin=0.001, shard_items=1).sampled(),
    )
    for prompt, result in zip(prompts, results, strict=True):
        ids = list(prompt)
        for token in result.response_ids:  # no cache, no batch: a whole forward pass for each token
            with torch.no_grad():
                logits = found.plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            assert logits[token] >= logits.max() - 1e-3
            ids.append(token)
        assert len(ids) > len(prompt) + 20 or ids[-1] == text.ids.eos


@pytest.mark.parametrize("name", NAMES)
def test_stored_masses_equal_eager_attention(architecture, name, tmp_path):
    found = architecture(name)
    text = found.loaded.tokenizer
    row = trace_row(text, "\nHm, 5 is less than 6 since 5 + 1 = 6.\n", "\nThe larger one is \\boxed{6}.")
    assert row["status"] == "ok"
    [trace] = select_traces(pl.DataFrame([row], schema=GENERATION_SCHEMA))
    config = CaptureConfig(
        rows="answer_and_reasoning",
        dtype="float32",
        layers=None,
        residual_layers=(1,),
        z_layers=(),
        stream_rows="answer",
    )
    captured = capture_trace(found.loaded.model, trace.token_ids, trace.segments, config)
    kept = [tensor for part in (captured.q, captured.k, captured.residual) for tensor in part.values()]
    assert trace_bytes(found.loaded.model.config, trace.segments, config) == sum(tensor.nbytes for tensor in kept)
    write_shard(tmp_path / shard_name(0), [(trace.item_id, captured)], "print")
    write_index(tmp_path / "index.parquet", [tmp_path / shard_name(0)])
    stored = ActivationReader(tmp_path).trace("q")
    with torch.no_grad():
        out = found.plain(input_ids=torch.tensor([trace.token_ids]), output_attentions=True, output_hidden_states=True)
    segments = trace.segments
    for layer, pattern in enumerate(out.attentions):
        statistics = layer_statistics(stored, layer)
        for means, rows in ((statistics.answer, segments.answer), (statistics.reasoning, segments.reasoning)):
            assert means is not None
            mass = torch.stack(list(masses(means, segments.ranges()).values()), dim=-1)
            eager = pattern[0, :, rows.start : rows.stop].double()
            parts = [eager[:, :, r.start : r.stop].sum(-1).mean(-1) for r in segments.ranges().values()]
            torch.testing.assert_close(mass, torch.stack(parts, dim=-1), atol=1e-5, rtol=0)
            total = mass.sum(-1)
            assert (total < 0.999).any() if name == "gpt_oss" else (total - 1).abs().max() < 1e-5
        assert stored.layers[layer].window == (WINDOW if layer in WINDOWED.get(name, ()) else None)
    answer = slice(segments.answer.start, segments.answer.stop)
    torch.testing.assert_close(stored.residual(1), out.hidden_states[1][0, answer], atol=1e-4, rtol=1e-4)
    assert torch.stack(out.attentions)[:, 0, :, answer].amax(-1).mean() > 0.1, "attention must be far from uniform"


def aligned_pair(text: Any, padding: Literal["visible", "masked"] = "visible") -> AlignedPair:
    """A clean and a corrupted response, of unequal length, aligned."""
    sides = []
    for answer, thought in (("6", "\n6 is more than 5.\n"), ("5", "\nThe larger is 5, it is.\n")):
        row = trace_row(text, thought, f"\nSo.\n\nIt is \\boxed{{{answer}}}.")
        sides.append(PairSide(answer, row["prompt_ids"], row["response_ids"]))
    config = AlignmentConfig(padding=padding, probe_in="reasoning", keep_reasoning=True, ending_tokens=3)
    found = align(text, "p", "larger", sides[0], sides[1], "plain", config)
    assert isinstance(found, AlignedPair), found
    return found


def forward(model: Any, sequence: Any, edits: Any = (), record: dict[str, list[torch.Tensor]] | None = None) -> Any:
    """Last logits by one ordinary forward pass. edits: (resid | z, layer, token, head or None, vector)."""
    handles = []

    def edited(kind: str, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden.clone()
        for edit_kind, at, token, head, vector in edits:
            if (edit_kind, at) == (kind, layer):
                where = slice(None) if head is None else slice(head * 8, head * 8 + 8)
                hidden[0, token, where] = vector
        if record is not None:
            record[kind].append(hidden[0])
        return hidden

    for number, layer in enumerate(model.get_decoder().layers):

        def entering(module: Any, args: Any, kwargs: Any, number: int = number) -> Any:
            return (edited("resid", number, args[0]), *args[1:]), kwargs

        def projecting(module: Any, args: Any, number: int = number) -> Any:
            return (edited("z", number, args[0]),)

        handles.append(layer.register_forward_pre_hook(entering, with_kwargs=True))
        handles.append(layer.self_attn.o_proj.register_forward_pre_hook(projecting))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0, -1].double()
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize("name", NAMES)
def test_patched_cells_equal_one_forward_each(architecture, name):
    found = architecture(name)
    pair = aligned_pair(found.loaded.tokenizer)
    record: dict[str, list[torch.Tensor]] = {"resid": [], "z": []}

    def logit_diff(logits: torch.Tensor) -> float:
        return (logits[pair.answer_a] - logits[pair.answer_b]).item()

    ld_clean = logit_diff(forward(found.plain, pair.clean, record=record))
    ld_corrupted = logit_diff(forward(found.plain, pair.corrupted))

    def nld(*edit: Any) -> float:
        return (logit_diff(forward(found.plain, pair.corrupted, [edit])) - ld_corrupted) / (ld_clean - ld_corrupted)

    chosen = [place.index for place in pair.positions if place.role in ("flip", "think_close")] + [pair.indices[-1]]
    lanes = [PatchSite((token,)) for token in chosen]
    clean = capture_clean(found.loaded.model, pair, with_z=True)
    assert clean.logit_diff == pytest.approx(ld_clean, abs=1e-4)
    resid = sweep_resid(found.loaded.model, pair, clean, 256, lanes)
    assert resid.ld_corrupted == pytest.approx(ld_corrupted, abs=1e-4)
    expected = np.array(
        [[nld("resid", layer, t, None, record["resid"][layer][t]) for t in chosen] for layer in range(N_LAYERS)]
    )
    np.testing.assert_allclose(resid.nld, expected, atol=1e-4, rtol=1e-4)
    heads = sweep_heads(found.loaded.model, pair, clean, 256, lanes)
    for layer in range(N_LAYERS):
        for head in (0, N_HEADS - 1):
            part = slice(head * 8, head * 8 + 8)
            cells = [nld("z", layer, t, head, record["z"][layer][t, part]) for t in chosen]
            np.testing.assert_allclose(heads.nld[layer, head], cells, atol=1e-4, rtol=1e-4)
    assert np.abs(expected[:, :2]).max() > 0.01, "patching before the end must move the answer"
    assert np.abs(heads.nld).max() > 0.01


@pytest.mark.parametrize("name", ["gemma3", "gemma2", "gpt_oss"])
def test_masked_padding_is_as_if_it_were_not_there(architecture, name):
    found = architecture(name)
    pair = aligned_pair(found.loaded.tokenizer, "masked")
    assert any(pair.clean.pad)
    bare = [token for token, pad in zip(pair.clean.ids, pair.clean.pad, strict=True) if not pad]
    with torch.no_grad():
        logits = found.plain(input_ids=torch.tensor([bare]), use_cache=False).logits[0, -1].double()
    expected = (logits[pair.answer_a] - logits[pair.answer_b]).item()
    assert capture_clean(found.loaded.model, pair).logit_diff == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["gpt_oss", "gemma2"])
def test_blocks_of_the_models_own_eager_attention_change_nothing(architecture, name, monkeypatch):
    model = architecture(name).loaded.model
    pair = aligned_pair(architecture(name).loaded.tokenizer)
    whole = sweep_resid(model, pair, capture_clean(model, pair), 256)
    monkeypatch.setattr("r2a_core.patching.packed_attention.EAGER_ELEMENTS", 6 * len(pair.clean.ids) * 14)
    monkeypatch.setattr("r2a_core.patching.packed_attention.eager_rows", lambda *sizes: 7)
    cut = sweep_resid(model, pair, capture_clean(model, pair), 256)
    np.testing.assert_allclose(cut.nld, whole.nld, atol=1e-4)


@pytest.mark.parametrize(
    ("tag", "text", "message"),
    [
        (
            "think_open",
            "<|channel|>analysis<|message|>",
            r"think_open = '<\|channel\|>analysis<\|message\|>' is 10 tokens",
        ),
        (
            "think_close",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            "think_close = .* is 18 tokens, not one",
        ),
    ],
)
def test_whole_harmony_headers_are_refused(prepare_entry, tag, text, message):
    with pytest.raises(R2AError, match=message) as caught:
        load_tokenizer(prepare_entry("gpt_oss", **{tag: text}))
    assert caught.value.hint


def test_a_window_that_attention_is_not_told_of_is_refused(architecture, monkeypatch):
    found = architecture("gemma3")
    for layer in found.loaded.model.model.layers:
        monkeypatch.setattr(layer.self_attn, "sliding_window", None)
    with pytest.raises(R2AError, match="layer 0 has a sliding window, of which its attention is not told"):
        capture_clean(found.loaded.model, aligned_pair(found.loaded.tokenizer))


def test_models_without_sdpa_load_with_their_own_attention(prepare_entry: Any) -> None:
    folder: Path = prepare_entry("gpt_oss")
    assert load_model(folder, "cpu").model.config._attn_implementation == "eager"
