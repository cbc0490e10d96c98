"""What a recorded forward pass hands over, and that it computes what the model computes without recording."""

import pytest
import torch
from transformers.masking_utils import (
    causal_mask_function,
    chunked_causal_mask_function,
    sliding_window_causal_mask_function,
)

from r2a_core.activations.attention import recording
from r2a_core.activations.capture import TraceRecorder, capture_trace
from r2a_core.activations.layer_attention import sliding_causal_mask
from r2a_core.infra.errors import R2AError
from tests.attention.cases import IDS, SEGMENTS
from tests.random_models import random_model
from tests.small_models import EVERY_KIND, kept

WHOLE = kept("all")


@pytest.mark.parametrize("n_tokens", [33, 1100], ids=["one block", "several blocks of rows"])
@pytest.mark.parametrize("kind", EVERY_KIND)
def test_recording_leaves_the_model_output_as_it_was(tiny_model, kind, n_tokens):
    model = tiny_model(kind)
    ids = torch.randint(1, 64, (1, n_tokens), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        with recording(model, TraceRecorder(SEGMENTS, WHOLE)):
            found = model(input_ids=ids, use_cache=False).logits
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("kind", "window", "softcap"),
    [("llama", None, None), ("mistral", 7, None), ("gemma2", 7, 2.0), ("gemma3_text", 7, None), ("gpt_oss", 7, None)],
)
def test_layers_keep_how_they_attend(tiny_model, kind, window, softcap):
    model = tiny_model(kind)
    layer = capture_trace(model, IDS, SEGMENTS, WHOLE).layers[0]
    assert (layer.window, layer.softcap, layer.n_heads, layer.n_kv_heads) == (window, softcap, 6, 2)
    assert layer.scaling == pytest.approx(24**-0.5 if kind.startswith("gemma") else 8**-0.5)
    if kind == "gpt_oss":
        assert layer.sinks == pytest.approx(model.model.layers[0].self_attn.sinks.tolist())


def test_residual_streams_and_head_outputs(tiny_model):
    model, attended = tiny_model("qwen2"), {}
    config = kept("answer", layers=(1,), residual_layers=(0, 1), z_layers=(1,), stream_rows="answer_and_reasoning")
    hook = model.model.layers[1].self_attn.register_forward_hook(lambda m, a, out: attended.update(out=out[0]))
    trace = capture_trace(model, IDS, SEGMENTS, config)
    hook.remove()
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([IDS]), output_hidden_states=True).hidden_states
    rows = slice(7, 32)
    for layer in (0, 1):
        torch.testing.assert_close(trace.residual[layer], hidden[layer][0, rows], atol=1e-5, rtol=1e-4)
    projected = trace.z[1] @ model.model.layers[1].self_attn.o_proj.weight.T
    torch.testing.assert_close(projected, attended["out"][0, rows], atol=1e-5, rtol=1e-4)
    assert list(trace.q) == [1]
    assert trace.q[1].shape == (6, 9, 8)
    assert trace.k[1].shape == (2, 33, 8)


def test_batches_padding_caches_and_absent_layers_are_refused(tiny_model):
    model, ids = tiny_model("llama"), torch.tensor([IDS])
    padded = torch.ones_like(ids)
    padded[0, :3] = 0
    for inputs in (
        {"input_ids": ids.repeat(2, 1), "use_cache": False},
        {"input_ids": ids, "attention_mask": padded},
        {"input_ids": ids[:, 20:], "past_key_values": model(input_ids=ids[:, :20]).past_key_values},
    ):
        with pytest.raises(R2AError), recording(model, TraceRecorder(SEGMENTS, WHOLE)):
            model(**inputs)
    assert model.config._attn_implementation == "eager"
    for config in (kept("all", layers=(2,)), kept("all", residual_layers=(2,))):
        with pytest.raises(R2AError, match="layer 2 of LlamaForCausalLM"):
            capture_trace(model, IDS, SEGMENTS, config)


@pytest.mark.parametrize(
    ("kind", "sizes", "kept_layers", "says"),
    [
        ("doge", {"num_hidden_layers": 1}, (), "DogeForCausalLM is not supported: it computes with its attention mask"),
        ("gpt2", {"n_layer": 1}, (0,), "GPT2LMHeadModel keeps its decoder layers in no list that is known here"),
    ],
)
def test_models_that_cannot_be_recorded_are_refused_by_name(refused, kind, sizes, kept_layers, says):
    model = random_model(kind, 0, vocab_size=64, pad_token_id=0, **sizes)
    refused(lambda: capture_trace(model, IDS, SEGMENTS, kept("all", residual_layers=kept_layers)), says, "model")


@pytest.mark.parametrize(
    ("mask", "window"),
    [
        (causal_mask_function, None),
        (sliding_window_causal_mask_function(4), 4),
        (sliding_window_causal_mask_function(1), 1),
        (sliding_window_causal_mask_function(10), None),
        (sliding_window_causal_mask_function(9), 9),
        (chunked_causal_mask_function(4, torch.zeros(1, dtype=torch.int)), "refused"),
        (lambda b, h, q, k: k <= q + 1, "refused"),
        (lambda b, h, q, k: k >= 0, "refused"),
        (lambda b, h, q, k: (k <= q) & (k > 0), "refused"),
        (lambda b, h, q, k: k < 0, "refused"),
    ],
)
def test_a_window_is_found_from_the_mask_and_other_masks_are_refused(mask, window):
    if window != "refused":
        assert sliding_causal_mask(10, 10, mask).window == window
    else:
        with pytest.raises(R2AError, match="neither causal nor a sliding window"):
            sliding_causal_mask(10, 10, mask)
