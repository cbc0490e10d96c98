"""One teacher-forced forward pass of a trace -> its queries, keys and, on request, residual streams and head outputs.

model, token ids, segments, CaptureConfig -> TraceActivations. Memory grows with the number of tokens, never with its
square: logits of one position only, no cache, no attention matrix.
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from r2a_core.activations.attending import LayerAttention
from r2a_core.activations.recording import recording
from r2a_core.errors import R2AError
from r2a_core.models.sizes import head_size, n_kv_heads
from r2a_core.traces.segments import TraceSegments

log = logging.getLogger(__name__)

Rows = Literal["answer", "answer_and_reasoning", "all"]
STORED_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LayerNumber = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class CaptureConfig:
    """What is kept of a forward pass."""

    rows: Rows  # tokens whose queries are kept; reasoning rows are needed for their masses and for whole maps
    dtype: Literal["bfloat16", "float32"]  # of what is stored
    layers: tuple[LayerNumber, ...] | None  # decoder layers whose queries and keys are kept; null = all
    residual_layers: tuple[LayerNumber, ...]  # layers whose entering residual stream is kept
    z_layers: tuple[LayerNumber, ...]  # layers whose head outputs are kept
    stream_rows: Rows  # tokens whose residual streams and head outputs are kept


@dataclass(frozen=True)
class TraceActivations:
    """Activations of one trace on the CPU. Tensors by layer; rows are consecutive tokens from `first_row` on."""

    segments: TraceSegments
    first_row: int  # token of query row 0
    first_stream_row: int  # token of row 0 of residual and z
    layers: dict[int, LayerAttention] = field(default_factory=dict)
    q: dict[int, Tensor] = field(default_factory=dict)  # (head, row, head_dim), after RoPE
    k: dict[int, Tensor] = field(default_factory=dict)  # (kv_head, token, head_dim), after RoPE
    residual: dict[int, Tensor] = field(default_factory=dict)  # (row, d_model), entering the layer
    z: dict[int, Tensor] = field(default_factory=dict)  # (row, n_heads * head_dim)

    def queries(self, layer: int) -> Tensor:
        """(head, row, head_dim)."""
        return self.q[layer]

    def keys(self, layer: int) -> Tensor:
        """(kv_head, token, head_dim)."""
        return self.k[layer]


def kept_rows(segments: TraceSegments, rows: Rows) -> range:
    """Tokens kept for a choice of rows: always consecutive, the final EOS left out except in `all`."""
    if rows == "all":
        return range(segments.n_tokens)
    start = segments.answer.start if rows == "answer" else segments.reasoning.start
    return range(start, segments.answer.stop)


class TraceRecorder:
    """Copies the chosen rows and layers of a forward pass to the CPU."""

    def __init__(self, segments: TraceSegments, config: CaptureConfig) -> None:
        self.config, self.rows = config, kept_rows(segments, config.rows)
        self.stream_rows = kept_rows(segments, config.stream_rows)
        self.trace = TraceActivations(segments, self.rows.start, self.stream_rows.start)

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor) -> None:
        if self.config.layers is None or layer.layer in self.config.layers:
            self.trace.layers[layer.layer] = layer
            self.trace.q[layer.layer] = self.kept(query[:, self.rows.start : self.rows.stop])
            self.trace.k[layer.layer] = self.kept(key)

    def residual(self, layer: int, stream: Tensor) -> None:
        self.trace.residual[layer] = self.kept(stream[self.stream_rows.start : self.stream_rows.stop])

    def head_outputs(self, layer: int, z: Tensor) -> None:
        self.trace.z[layer] = self.kept(z[self.stream_rows.start : self.stream_rows.stop])

    def kept(self, tensor: Tensor) -> Tensor:
        """A contiguous copy in the stored dtype."""
        copy = torch.empty(tensor.shape, dtype=STORED_DTYPES[self.config.dtype])
        return copy.copy_(tensor)


@torch.no_grad()
def capture_trace(
    model: Any, token_ids: Sequence[int], segments: TraceSegments, config: CaptureConfig
) -> TraceActivations:
    """Activations of one trace by one forward pass over its token ids (final EOS included).

    Raises R2AError when the ids do not fit the segments, or a layer chosen was not recorded.
    """
    if len(token_ids) != segments.n_tokens:
        raise R2AError(f"{len(token_ids)} token ids for a trace of {segments.n_tokens} tokens", "segment it again")
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and segments.n_tokens > limit:
        warn_long(type(model).__name__, limit)
    recorder = TraceRecorder(segments, config)
    with recording(model, recorder, config.residual_layers, config.z_layers):
        forward(model, token_ids)
    text = model.config.get_text_config()
    expected = range(text.num_hidden_layers) if config.layers is None else config.layers
    missing = sorted(set(expected) - set(recorder.trace.layers))
    if missing:
        raise R2AError(
            f"layer {missing[0]} of {type(model).__name__} has no softmax attention that can be recorded",
            f"choose capture.layers from {sorted(recorder.trace.layers)}",
        )
    return recorder.trace


def forward(model: Any, token_ids: Sequence[int]) -> None:
    """A forward pass for its side effects: no cache, logits of the last token only."""
    ids = torch.tensor([list(token_ids)], device=model.device)
    model(input_ids=ids, use_cache=False, logits_to_keep=1)


@functools.cache
def warn_long(name: str, limit: int) -> None:
    """Tells once for each model that traces go beyond the positions it was made for; rotary positions go on."""
    log.warning("some traces are longer than the %d positions that %s was made for", limit, name)


def trace_bytes(model_config: Any, segments: TraceSegments, config: CaptureConfig) -> int:
    """Bytes that a trace's tensors take, from the sizes in a transformers config."""
    text = model_config.get_text_config()
    head_dim = head_size(text)
    n_layers = text.num_hidden_layers if config.layers is None else len(config.layers)
    queries = text.num_attention_heads * len(kept_rows(segments, config.rows))
    stream = len(config.residual_layers) * text.hidden_size + len(config.z_layers) * text.num_attention_heads * head_dim
    numbers = n_layers * head_dim * (queries + n_kv_heads(text) * segments.n_tokens)
    numbers += stream * len(kept_rows(segments, config.stream_rows))
    return numbers * STORED_DTYPES[config.dtype].itemsize
