"""The capture stage: one teacher-forced forward pass per trace, its queries and keys kept (paper section 4).

model, token ids, segments, CaptureConfig -> TraceActivations, on request with residual streams and head outputs. Memory
grows with the number of tokens, never with its square: logits of one position only, no KV cache, no attention matrix.

traces of one model, dataset and setting -> shards of about `shard_mb`, each under a fingerprint of all that its bytes
depend on, so that they are computed independently of one another.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from r2a_core.activations.attention import Recorder, recording
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.activations.store import TRACES
from r2a_core.activations.writer import TraceActivations, assemble, plan_shards, write_shard, write_trace_list
from r2a_core.config import CaptureConfig, CaptureParams, Rows
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.architecture import head_size, n_kv_heads
from r2a_core.models.checks import transformers_errors
from r2a_core.models.job import ModelJob
from r2a_core.models.pointer import from_pretrained_args, read_pointer
from r2a_core.trace import TokenTrace, TraceSegments, select_traces

log = logging.getLogger(__name__)


def stored_dtype(config: CaptureConfig, model_dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which activations are kept; `auto` is the model's own."""
    return model_dtype if config.dtype == "auto" else getattr(torch, config.dtype)


def kept_rows(segments: TraceSegments, rows: Rows) -> range:
    """Returns the tokens kept for a choice of rows: always consecutive, the final EOS left out except in `all`."""
    if rows == "all":
        return range(segments.n_tokens)
    start = segments.answer.start if rows == "answer" else segments.reasoning.start
    return range(start, segments.answer.stop)


class TraceRecorder(Recorder):
    """Copies the chosen rows and layers of a forward pass to the CPU."""

    def __init__(self, segments: TraceSegments, config: CaptureConfig) -> None:
        self.config, self.rows = config, kept_rows(segments, config.rows)
        self.stream_rows = kept_rows(segments, config.stream_rows)
        self.trace = TraceActivations(segments, self.rows.start, self.stream_rows.start)

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor, log_sums: Tensor | None = None) -> None:
        if self.config.layers is None or layer.layer in self.config.layers:
            self.trace.layers[layer.layer] = layer
            self.trace.q[layer.layer] = self.kept(query[:, self.rows.start : self.rows.stop])
            self.trace.k[layer.layer] = self.kept(key)

    def residual(self, layer: int, stream: Tensor) -> None:
        self.trace.residual[layer] = self.kept(stream[self.stream_rows.start : self.stream_rows.stop])

    def head_outputs(self, layer: int, z: Tensor) -> None:
        self.trace.z[layer] = self.kept(z[self.stream_rows.start : self.stream_rows.stop])

    def kept(self, tensor: Tensor) -> Tensor:
        """Returns a contiguous copy in the stored dtype."""
        copy = torch.empty(tensor.shape, dtype=stored_dtype(self.config, tensor.dtype))
        return copy.copy_(tensor)


@torch.no_grad()
def capture_trace(
    model: Any, token_ids: Sequence[int], segments: TraceSegments, config: CaptureConfig
) -> TraceActivations:
    """Returns the activations of one trace by one forward pass over its token ids (final EOS included).

    Raises R2AError when the ids do not fit the segments, or a layer chosen was not recorded.
    """
    if len(token_ids) != segments.n_tokens:
        raise R2AError(f"{len(token_ids)} token ids for a trace of {segments.n_tokens} tokens", "segment it again")
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
    """Runs a forward pass for its side effects: no KV cache, logits of the last token only."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and len(token_ids) > limit:
        warn_long(type(model).__name__, limit)
    ids = torch.tensor([list(token_ids)], device=model.device)
    model(input_ids=ids, use_cache=False, logits_to_keep=1)


@functools.cache
def warn_long(name: str, limit: int) -> None:
    """Warns once per model that traces go beyond the positions it was made for; rotary positions go on."""
    log.warning("some traces are longer than the %d positions that %s was made for", limit, name)


def trace_bytes(model_config: Any, segments: TraceSegments, config: CaptureConfig) -> int:
    """Returns the bytes that a trace's tensors take, from the sizes and the dtype in a transformers config."""
    text = model_config.get_text_config()
    head_dim = head_size(text)
    n_layers = text.num_hidden_layers if config.layers is None else len(config.layers)
    queries = text.num_attention_heads * len(kept_rows(segments, config.rows))
    stream = len(config.residual_layers) * text.hidden_size + len(config.z_layers) * text.num_attention_heads * head_dim
    numbers = n_layers * head_dim * (queries + n_kv_heads(text) * segments.n_tokens)
    numbers += stream * len(kept_rows(segments, config.stream_rows))
    return numbers * stored_dtype(config, model_config.dtype).itemsize


MEGABYTE, GIGABYTE = 10**6, 10**9


@dataclass(frozen=True)
class CaptureShard:
    """Some traces, the size of their tensors, and the digest of all that the shard depends on."""

    traces: tuple[TokenTrace, ...]
    n_bytes: int
    fingerprint: str


@dataclass(frozen=True)
class CaptureJob(ModelJob):
    """What all shards of one model, dataset and setting share."""

    params: CaptureParams

    @cached_property
    def sizes(self) -> Any:
        """The model's transformers config, without its weights; its dtype is the one they are loaded in."""
        from transformers import AutoConfig

        pointer = read_pointer(self.model_folder)
        place = from_pretrained_args(pointer, self.model_folder, weights=True)
        dtype = getattr(torch, str(pointer.dtype))
        with transformers_errors(f"the config of {self.model_folder.name}", pointer):
            return AutoConfig.from_pretrained(**place, trust_remote_code=False, dtype=dtype)


def capture_traces(job: CaptureJob, generations: pl.DataFrame, work: Work, folder: Path) -> None:
    """Captures the chosen traces of a table of responses, shard by shard, into `folder`; or lists them there alone."""
    traces = captured_traces(job, generations, work.name)
    if not job.params.store:
        write_trace_list(folder, traces)
        return
    shards = plan_capture(job, traces, work.base)
    check_room(shards, lambda shard: work.has(job, shard.fingerprint, ".safetensors"), work.store.folder)
    assemble(folder, list(work.finish(finish_capture, job, shards)), TRACES)


def captured_traces(job: CaptureJob, generations: pl.DataFrame, name: str) -> list[TokenTrace]:
    """Selects the traces to capture and logs how many; none, with a warning, of a model without weights."""
    if not read_pointer(job.model_folder).has_weights:
        questions = generations["item_id"].n_unique()
        log.warning("%s: none of %d traces captured, %s has no weights", name, questions, job.model_folder.name)
        return []
    return first_traces(generations, job.params.limit, name)


def first_traces(generations: pl.DataFrame, limit: int | None, name: str) -> list[TokenTrace]:
    """Selects the first well-formed traces of a table of responses, at most `limit`, and logs how many."""
    traces, questions = select_traces(generations), generations["item_id"].n_unique()
    chosen = traces[:limit]
    log.info("%s: %d of %d well-formed traces, %d questions", name, len(chosen), len(traces), questions)
    return chosen


def plan_capture(job: CaptureJob, traces: Sequence[TokenTrace], base: Mapping[str, Any]) -> list[CaptureShard]:
    """Returns the shards of the traces in their order. More traces leave every shard but the last as it was.

    base: digests of code and model.
    """
    kept = job.params.model_dump(mode="json", include=set(CaptureConfig.model_fields))
    sizes = [trace_bytes(job.sizes, trace.segments, job.params) for trace in traces]
    shards = []
    for numbers in plan_shards(sizes, job.params.shard_mb * MEGABYTE):
        part = tuple(traces[number] for number in numbers)
        content = [[trace.item_id, trace.token_ids, asdict(trace.segments)] for trace in part]
        digest = fingerprint(**base, params=kept, traces=content)
        shards.append(CaptureShard(part, sum(sizes[number] for number in numbers), digest))
    return shards


def finish_capture(job: CaptureJob, store: WorkStore, shard: CaptureShard) -> Path:
    """Returns the file of a shard, from the store or captured now."""
    return store.shard(shard.fingerprint, ".safetensors", lambda path: capture_shard(job, shard, path))


def capture_shard(job: CaptureJob, shard: CaptureShard, path: Path) -> None:
    """Writes one shard: one forward pass per trace."""
    model, config = job.loaded.model, job.params
    records = [
        capture_trace(model, trace.token_ids, trace.segments, config).record(trace.item_id, trace.token_ids)
        for trace in shard.traces
    ]
    write_shard(path, records, shard.fingerprint)


def check_room(shards: Sequence[CaptureShard], is_stored: Callable[[CaptureShard], bool], folder: Path) -> None:
    """Raises MissingPrerequisite when the disk of `folder` cannot hold the shards that are still to be computed."""
    needed = sum(shard.n_bytes for shard in shards if not is_stored(shard))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MissingPrerequisite(
            f"the activations need {needed / GIGABYTE:.1f} GB, the disk of {folder} has {free / GIGABYTE:.1f} GB free",
            "free some space, or lower capture.limit, or choose capture.layers or fewer capture.rows",
        )
