"""The account of memory against what is allocated, tensor by tensor, and what it says of traces of 32768 tokens."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import AutoConfig

from benchmarks.memory_model import RESERVE, capture_account, statistics_account, weight_bytes
from benchmarks.sizes import PUBLISHED
from r2a_core.activations.capture import capture_trace
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention import masses, patterns
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments
from tests.random_models import random_model
from tests.small_models import kept

LONG = 32768  # tokens
SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 65536,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


def build(kind: str, dtype: str, **sizes: Any) -> Any:
    return random_model(kind, 0, getattr(torch, dtype), **{**SIZES, **sizes})


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors made inside the block that are alive at a time, and their peak."""

    def __init__(self, known: Any = ()) -> None:
        super().__init__()
        self.live = self.peak = self.largest = 0
        self.known = [tensor.untyped_storage() for tensor in known]
        self.seen: Any = weakref.WeakSet(self.known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.track, out)
        return out

    def track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self.seen:
            self.seen.add(storage)
            self.live += storage.nbytes()
            self.largest = max(self.largest, storage.nbytes())
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.drop, storage.nbytes())

    def drop(self, n_bytes: int) -> None:
        self.live -= n_bytes


def random_trace(n_tokens: int, n_answer: int = 100) -> tuple[list[int], TraceSegments]:
    ids = torch.randint(1, 64, (n_tokens,), generator=torch.Generator().manual_seed(0)).tolist()
    return ids, TraceSegments(10, n_tokens - n_answer, n_tokens)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "sizes", "phase"),
    [
        ("qwen2", {}, "MLP"),
        ("llama", {"intermediate_size": 32, "num_key_value_heads": 8}, "rotary positions"),
        ("mistral", {"sliding_window": 64}, "attention in a window"),
    ],
)
def test_capture_takes_what_its_account_says_and_grows_with_the_tokens_alone(kind, sizes, phase, dtype):
    model, config, peaks = build(kind, dtype, **sizes), kept("answer", "bfloat16"), []
    for n_tokens in (500, 1000, 2000):
        ids, segments = random_trace(n_tokens)
        account = capture_account(model.config, dtype, segments, config)
        with LiveBytes([*model.parameters(), *model.buffers()]) as bytes_:
            trace = capture_trace(model, ids, segments, config)
        expected = account.passing + account.kept  # on the CPU both are in one memory
        assert account.largest_phase == phase
        assert bytes_.peak <= expected <= (1 if phase == "MLP" else 1.11) * bytes_.peak
        assert bytes_.live == account.kept == sum(t.nbytes for part in (trace.q, trace.k) for t in part.values())
        peaks.append(bytes_.peak)
    assert peaks[2] - peaks[1] <= 2.1 * (peaks[1] - peaks[0])  # their square would give four times as much


@pytest.mark.parametrize("window", [None, 256])
@pytest.mark.parametrize(("stored", "sinks"), [("bfloat16", False), ("float32", False), ("bfloat16", True)])
def test_statistics_take_what_their_account_says(stored, sinks, window):
    n_tokens = 2560  # blocks of 48 rows: their number of rows is a multiple of 16, and the account counts without that
    config = AutoConfig.for_model("llama", **SIZES, head_dim=16)
    queries = torch.randn(8, n_tokens, 16).to(getattr(torch, stored))
    keys = torch.randn(2, n_tokens, 16).to(getattr(torch, stored))
    layer = LayerAttention(0, 8, 2, 16, 0.25, None, window, (0.0,) * 8 if sinks else None)
    with LiveBytes([queries, keys]) as bytes_:
        masses.row_statistics(queries, keys, 0, layer, random_trace(n_tokens)[1])
    measured = bytes_.peak + queries.nbytes + keys.nbytes
    account = statistics_account(config, stored, n_tokens, n_tokens, patterns.CPU_ELEMENTS, sinks)
    assert measured <= account.peak <= 1.2 * measured


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
def test_no_token_by_token_matrix(tiny_model, kind):
    (ids, segments), model = random_trace(3000), tiny_model(kind)
    sentences = [range(start, start + 20) for start in range(11, 2880, 20)]
    with LiveBytes() as bytes_:
        trace = capture_trace(model, ids, segments, kept("answer_and_reasoning", "bfloat16"))
        masses.layer_statistics(trace, 1)
        masses.masses_in_forward(model, "x", ids, masses.TokenGroups(segments, (), sentences))
    assert bytes_.largest < 2 * 3000**2, "half a matrix of float32"


@pytest.mark.parametrize(("name", "billions"), [("r1_qwen_1b5", 1.777), ("r1_qwen_7b", 7.616), ("r1_llama_8b", 8.030)])
def test_published_models_and_traces_of_32768_tokens_fit_into_80_gigabytes(name, billions):
    config = AutoConfig.for_model(**PUBLISHED[name])
    weights, segments = weight_bytes(config, "bfloat16"), TraceSegments(200, LONG - 1000, LONG)
    assert weights / 2e9 == pytest.approx(billions, abs=1e-3)
    account = capture_account(config, "bfloat16", segments, kept("all", "bfloat16"), weights)
    assert account.peak + RESERVE < 40e9, "half of what there is"
    assert account.largest_phase == "MLP"
    statistics = statistics_account(config, "bfloat16", LONG, LONG, patterns.GPU_ELEMENTS)
    assert statistics.peak + RESERVE < 10e9
    assert account.kept < 12e9
    with pytest.raises(R2AError, match="memory of gpt_oss is not accounted for"):
        capture_account(AutoConfig.for_model("gpt_oss"), "bfloat16", segments, kept("all", "bfloat16"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_gpu_takes_what_the_account_says(dtype):
    """Four layers of the widths of Qwen-1.5B; one matrix of tokens by tokens would take 12 heads x 0.5 GB or more."""
    sizes = {key: value for key, value in PUBLISHED["r1_qwen_1b5"].items() if key != "model_type"}
    model = build("qwen2", dtype, **{**sizes, "num_hidden_layers": 4}).to("cuda")
    (ids, segments), config = random_trace(16384, 1000), kept("answer", "bfloat16")
    capture_trace(model, ids[:500], TraceSegments(10, 400, 500), config)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    capture_trace(model, ids, segments, config)
    grown = torch.cuda.max_memory_allocated() - before
    passing = capture_account(model.config, dtype, segments, config).passing
    assert 0.8 * passing < grown < passing + 1e9


def rotated(model: Any, ids: list[int]) -> tuple[Tensor, Tensor]:
    """Queries and keys after RoPE by the first layer's own modules, (head, token, head_dim) and (kv_head, ...)."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    own, inputs = model.model.layers[0].self_attn, []
    hook = own.register_forward_pre_hook(lambda m, args, kw: inputs.append(kw["hidden_states"]), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1)
        turns = model.model.rotary_emb(inputs[0], torch.arange(len(ids))[None])
        parts = [each(inputs[0]).view(1, len(ids), -1, 8).transpose(1, 2) for each in (own.q_proj, own.k_proj)]
        queries, keys = apply_rotary_pos_emb(*parts, *turns)
    hook.remove()
    return queries[0], keys[0]


@pytest.mark.slow
def test_a_trace_of_32768_tokens():
    """The real length on a small model: memory as accounted for, means as another computation gives them."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    model = build("llama", "float32", hidden_size=32, num_hidden_layers=1, initializer_range=0.5, **heads)
    ids, segments = random_trace(LONG, 500)
    config = kept("answer_and_reasoning")
    account = capture_account(model.config, "float32", segments, config)
    with LiveBytes([*model.parameters(), *model.buffers()]) as bytes_:
        trace = capture_trace(model, ids, segments, config)
    assert bytes_.peak <= account.passing + account.kept
    queries, keys = rotated(model, ids)
    statistics = masses.layer_statistics(trace, 0)
    for head in (0, 1):
        key = keys[0].double()
        total = torch.zeros(LONG, dtype=torch.float64)
        for row in segments.answer:
            scores = key[: row + 1] @ queries[head, row].double() / 8**0.5
            total[: row + 1] += scores.softmax(0)
        torch.testing.assert_close(statistics.answer[head], total / len(segments.answer), atol=1e-8, rtol=1e-3)
    mass = torch.zeros((), dtype=torch.float64)
    for rows in torch.arange(segments.reasoning.start, segments.reasoning.stop).split(500):  # on the question
        scores = queries[0, rows] @ keys[0].T / 8**0.5
        scores = scores.masked_fill(torch.arange(LONG) > rows[:, None], -torch.inf)
        mass += scores.softmax(1)[:, 1:10].double().sum()
    assert statistics.reasoning is not None
    assert statistics.reasoning[0, 1:10].sum() == pytest.approx((mass / len(segments.reasoning)).item(), rel=1e-4)
