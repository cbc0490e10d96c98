"""Other reasoning models by an entry alone: prompts, generation, capture, statistics and patching, each against plain
transformers with eager attention."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from r2a_core.activations.capture import capture_trace, trace_bytes
from r2a_core.attention.masses import layer_statistics
from r2a_core.config import AlignmentConfig, ResponseParams
from r2a_core.data.items import Item, QuestionPair
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.generation.rows import generation_row
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import load_model
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.pairs.align import AlignedPair, PaddedSequence, Response, align
from r2a_core.patching.runs import capture_clean, run_unpatched
from r2a_core.patching.sweep import sweep_heads, sweep_resid
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import plain_ids
from r2a_core.trace import GENERATION_SCHEMA, Setting, select_traces
from tests.attention.cases import masses
from tests.patching.oracle import Oracle, full_forward
from tests.small_models import kept, stored_reader

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
    params = ResponseParams(max_new_tokens=30, batch_size=3, tie_margin=0.001, shard_items=1).sampled()
    for prompt, result in zip(prompts, generate(found.loaded, requests, params), strict=True):
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
    config = kept("answer_and_reasoning", residual_layers=(1,))
    captured = capture_trace(found.loaded.model, trace.token_ids, trace.segments, config)
    tensors = [tensor for part in (captured.q, captured.k, captured.residual) for tensor in part.values()]
    assert trace_bytes(found.loaded.model.config, trace.segments, config) == sum(tensor.nbytes for tensor in tensors)
    stored = stored_reader(tmp_path, [captured.record(trace.item_id, trace.token_ids)]).trace("q")
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


def aligned_pair(text: Any, padding: Any = "visible", length: int = 1) -> AlignedPair:
    """A clean and a corrupted response, of unequal length, aligned; `length` times as much is thought."""
    sides = []
    for answer, thought in (("6", "\n6 is more than 5.\n"), ("5", "\nThe larger is 5, it is.\n")):
        row = trace_row(text, thought * length, f"\nSo.\n\nIt is \\boxed{{{answer}}}.")
        sides.append(Response(row["prompt_ids"], row["response_ids"]))
    config = AlignmentConfig(padding=padding, probe_in="reasoning", keep_reasoning=True, ending_tokens=3)
    pair = QuestionPair("p", "Which?", "6", "Which?", "5", "larger", "numbers")
    return align(text, pair, (sides[0], sides[1]), "plain", config)


@pytest.mark.parametrize(("name", "length"), [*((name, 1) for name in NAMES), ("gpt_oss", 35), ("gemma2", 35)])
def test_patched_cells_equal_one_forward_each(architecture, name, length):
    """At 35 times the length, and patched 200 tokens earlier, models' own eager functions take blocks of both kinds."""
    found = architecture(name)
    model, pair = found.loaded.model, aligned_pair(found.loaded.tokenizer, length=length)
    chosen = [place for place in pair.positions if place.role in ("flip", "think_close")] + [pair.positions[-1]]
    if length > 1:
        chosen.insert(0, replace(chosen[0], index=chosen[0].index - 200))
    pair = replace(pair, positions=tuple(chosen))
    oracle = Oracle(found.plain, pair)
    clean, corrupted = capture_clean(model, pair, with_z=True), run_unpatched(model, pair, with_z=True)
    assert clean.logit_diff == pytest.approx(oracle.ld_clean, abs=1e-4)
    assert corrupted.metrics.logit_diff == pytest.approx(oracle.ld_corrupted, abs=1e-4)
    resid, heads = (sweep(model, pair, clean, corrupted, 2**28).nld for sweep in (sweep_resid, sweep_heads))
    for layer in range(N_LAYERS) if length == 1 else [1]:
        cells = [oracle.nld(oracle.resid(layer, token)) for token in pair.indices]
        np.testing.assert_allclose(resid[layer], cells, atol=1e-4, rtol=1e-4)
        for head in (0, N_HEADS - 1):
            cells = [oracle.nld(oracle.head(layer, token, head)) for token in pair.indices]
            np.testing.assert_allclose(heads[layer, head], cells, atol=1e-4, rtol=1e-4)
    assert np.abs(resid[:, :-1]).max() > 0.01, "patching before the end must move the answer"
    assert np.abs(heads).max() > 0.01


@pytest.mark.parametrize("name", ["gemma3", "gemma2", "gpt_oss"])
def test_masked_padding_is_as_if_it_were_not_there(architecture, name):
    found = architecture(name)
    pair = aligned_pair(found.loaded.tokenizer, "masked")
    assert any(pair.clean.pad)
    bare = tuple(token for token, pad in zip(pair.clean.ids, pair.clean.pad, strict=True) if not pad)
    logits = full_forward(found.plain, PaddedSequence(bare, (False,) * len(bare), False))
    expected = (logits[pair.answer_a] - logits[pair.answer_b]).item()
    assert capture_clean(found.loaded.model, pair).logit_diff == pytest.approx(expected, abs=1e-4)


def test_gpt_oss_has_its_own_attention_and_whole_harmony_headers_are_refused(prepare_entry):
    assert load_model(prepare_entry("gpt_oss"), "cpu").model.config._attn_implementation == "eager"
    with pytest.raises(R2AError, match=r"think_open = .* is 10 tokens") as caught:
        load_tokenizer(prepare_entry("gpt_oss", think_open="<|channel|>analysis<|message|>"))
    assert caught.value.hint


def test_a_window_that_attention_is_not_told_of_is_refused(architecture, monkeypatch):
    found = architecture("gemma3")
    for layer in found.loaded.model.model.layers:
        monkeypatch.setattr(layer.self_attn, "sliding_window", None)
    with pytest.raises(R2AError, match="layer 0 has a sliding window that its attention function is not given"):
        capture_clean(found.loaded.model, aligned_pair(found.loaded.tokenizer))
