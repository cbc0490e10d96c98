"""What a capture and its statistics take in memory, as an account: bytes of each tensor that is alive at a time.

transformers config, dtype, number of tokens -> MemoryAccount. No term grows with the square of the number of tokens.
The account is of decoders with gated MLPs (MLP_WIDTHS); tests hold it against what such models allocate. RESERVE covers
the CUDA context, the workspaces of its kernels and what its allocator cannot use.
"""

from dataclasses import dataclass
from typing import Any

from r2a_core.activations.capture import trace_bytes
from r2a_core.activations.layer_attention import MASK_ROWS
from r2a_core.config import CaptureConfig
from r2a_core.infra.errors import R2AError
from r2a_core.models.architecture import head_size, n_kv_heads
from r2a_core.trace import TraceSegments

MLP_WIDTHS = {"llama": 3, "qwen2": 3, "qwen3": 3, "mistral": 3, "phi3": 4}  # MLP tensors alive at once, at most

WITH_QK_NORM = ("qwen3",)

WITH_FUSED_QKV = ("phi3",)

RESERVE = 4 * 2**30  # bytes

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}

FLOAT32, INT64 = 4, 8  # bytes

NORM = 2 * FLOAT32  # bytes a number of a norm's input: it works in float32, on a copy and its square


@dataclass(frozen=True)
class MemoryAccount:
    """Bytes on the device that computes, by what holds them, and bytes kept on the CPU beside."""

    weights: int
    throughout: dict[str, int]  # alive from the first layer to the last
    phases: dict[str, dict[str, int]]  # what each part of a layer adds while it runs
    kept: int  # on the CPU: what becomes a shard

    @property
    def largest_phase(self) -> str:
        """Name of the phase that takes most."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def passing(self) -> int:
        """Bytes on the device at the peak, without the weights."""
        return sum(self.throughout.values()) + sum(self.phases[self.largest_phase].values())

    @property
    def peak(self) -> int:
        """Bytes on the device at the peak."""
        return self.weights + self.passing


def capture_account(
    model_config: Any, dtype: str, segments: TraceSegments, config: CaptureConfig, weights: int = 0
) -> MemoryAccount:
    """The account of one captured trace. weights: bytes of the model (see `weight_bytes`).

    Raises R2AError for architectures whose layers are not accounted for.
    """
    text = model_config.get_text_config()
    if text.model_type not in MLP_WIDTHS:
        raise R2AError(
            f"memory of {text.model_type} is not accounted for", f"known architectures: {', '.join(MLP_WIDTHS)}"
        )
    size, n_tokens = DTYPE_BYTES[dtype], segments.n_tokens
    stream = n_tokens * text.hidden_size * size
    throughout = {
        "embeddings": stream,
        "input of the layer": stream,
        "rotary cosines and sines": 2 * n_tokens * head_size(text) * size,
        "token and position ids": 2 * n_tokens * INT64,
    }
    mlp = MLP_WIDTHS[text.model_type] * n_tokens * text.intermediate_size * size
    phases = attention_phases(text, size, n_tokens)
    phases["norm before the MLP"] = {"residual stream": stream, "float32": NORM * n_tokens * text.hidden_size}
    phases["MLP"] = {"residual stream": stream, "its norm": stream, "MLP": mlp}
    phases["last norm and logits"] = {"float32": NORM * n_tokens * text.hidden_size, "logits": text.vocab_size * size}
    return MemoryAccount(weights, throughout, phases, trace_bytes(model_config, segments, config))


def attention_phases(text: Any, size: int, n_tokens: int) -> dict[str, dict[str, int]]:
    """What the attention of a layer adds, part by part."""
    queries = n_tokens * text.num_attention_heads * head_size(text) * size
    keys = n_tokens * n_kv_heads(text) * head_size(text) * size
    stream = n_tokens * text.hidden_size * size
    phases = {"norm before attention": {"float32": NORM * n_tokens * text.hidden_size}}
    if text.model_type in WITH_QK_NORM:
        phases["norm of queries"] = {"its norm": stream, "queries": queries, "float32": NORM * queries // size}
    turned = max(4 * queries + 2 * keys, 2 * queries + 5 * keys)
    phases["rotary positions"] = {"its norm": stream, "queries, keys and values": turned}
    fused = queries + keys if text.model_type in WITH_FUSED_QKV else 0
    attended = {
        "its norm": stream,
        "queries, keys and values": queries + 2 * keys + fused,
        "head outputs": 2 * queries,  # and their copy in token order, or the copy of the queries that are kept
        "log-sum-exp": n_tokens * text.num_attention_heads * FLOAT32,
    }
    phases["attention"] = attended
    window = getattr(text, "sliding_window", None)
    if window is not None and getattr(text, "use_sliding_window", True) and window < n_tokens:
        rows, seen = max(window_blocks(window, n_tokens), key=lambda block: block[0] * block[1])
        block = {"mask": rows * seen * (INT64 + 3), "keys and values": 2 * seen * queries // n_tokens}
        block["head outputs of a block"] = 2 * rows * queries // n_tokens
        phases["attention in a window"] = {**attended, **block}
    return phases


def window_blocks(window: int, n_tokens: int) -> list[tuple[int, int]]:
    """Rows and keys of each block of attention in a sliding window."""
    starts = range(0, n_tokens, MASK_ROWS)
    stops = [min(start + MASK_ROWS, n_tokens) for start in starts]
    return [(stop - start, stop - max(0, start - window + 1)) for start, stop in zip(starts, stops, strict=True)]


def statistics_account(
    model_config: Any, stored: str, n_tokens: int, n_rows: int, block_elements: int, sinks: bool = False
) -> MemoryAccount:
    """The account of the statistics of one stored layer, which are computed without the model.

    n_rows: tokens whose queries are stored. block_elements: attention weights a block (attention.patterns). Two blocks
    are alive at once, each as logits and as weights. Blocks of few rows are up to a third smaller than counted here:
    they end at multiples of 16 rows.
    """
    text = model_config.get_text_config()
    heads, size = text.num_attention_heads, DTYPE_BYTES[stored]
    keys = n_kv_heads(text) * n_tokens * head_size(text)
    elements = max(block_elements, heads * n_tokens)  # one row at the least
    throughout = {
        "queries": heads * n_rows * head_size(text) * size,
        "keys": keys * size,
        "keys in float32": 0 if size == FLOAT32 else keys * FLOAT32,
        "means": 2 * heads * n_tokens * 2 * FLOAT32,
    }
    block = {
        "two blocks": (5 if sinks else 4) * elements * FLOAT32,
        "mask": elements // heads * (INT64 + 3),
        "queries in float32": 2 * elements // n_tokens * head_size(text) * FLOAT32,
    }
    return MemoryAccount(0, throughout, {"block of rows": block}, 0)


def weight_bytes(model_config: Any, dtype: str) -> int:
    """Bytes of a model's weights, from its config: the model is built without memory."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    return sum(weight.numel() for weight in model.parameters()) * DTYPE_BYTES[dtype]
