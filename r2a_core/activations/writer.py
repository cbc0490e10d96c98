"""Writes activations of traces and of clean runs to disk, in the format that store.py describes and reads.

TraceActivations -> Record; Records -> a shard; shards -> a folder with its index. Equal input gives equal bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from safetensors.torch import save_file
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.activations.store import METADATA_KEY, TRACES, OpenShard, StoreKind, shard_name
from r2a_core.infra.checks import check_finite
from r2a_core.infra.files import link_or_copy, sha256, write_frame, write_whole
from r2a_core.trace import TokenTrace, TraceSegments

CAPTURED = {  # by letter in a tensor's name: what it is, and its dimensions
    "q": ("queries", "head", "row", "dimension"),
    "k": ("keys", "KV head", "token", "dimension"),
    "residual": ("residual stream", "row", "dimension"),
    "z": ("head outputs", "row", "dimension"),
}


@dataclass(frozen=True)
class Record:
    """One entry of a shard: JSON values for header and index, and tensors by name (none where nothing is kept)."""

    values: dict[str, Any]
    tensors: dict[str, Tensor]


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
        """Returns queries (head, row, head_dim)."""
        return self.q[layer]

    def keys(self, layer: int) -> Tensor:
        """Returns keys (kv_head, token, head_dim)."""
        return self.k[layer]

    def record(self, item_id: str, token_ids: Sequence[int]) -> Record:
        """Returns the trace as an entry of a shard.

        Raises R2AError, naming trace, layer and place, when it is not finite.
        """
        tensors = {}
        for kind, (what, *axes) in CAPTURED.items():
            for layer, tensor in getattr(self, kind).items():
                check_finite(tensor, f"{item_id!r}: {what} of layer {layer}", axes)
                tensors[f"{kind}.{layer:03d}"] = tensor
        values = trace_values(TokenTrace(item_id, tuple(token_ids), self.segments))
        values |= {"first_row": self.first_row, "first_stream_row": self.first_stream_row}
        return Record(values | {"layers": [asdict(self.layers[layer]) for layer in sorted(self.layers)]}, tensors)


def trace_values(trace: TokenTrace) -> dict[str, Any]:
    """Returns the index columns that a trace has before it is captured."""
    answer = trace.segments.answer
    bounds = {**asdict(trace.segments), "answer_start": answer.start, "answer_end": answer.stop}
    return {"item_id": trace.item_id, "token_ids": list(trace.token_ids), **bounds}


def plan_shards(bytes_per_trace: Sequence[int], shard_bytes: int) -> list[list[int]]:
    """Returns trace numbers of each shard, filled in order up to `shard_bytes`; a longer trace has a shard of its own.

    Traces added at the end leave every shard but the last as it was.
    """
    shards: list[list[int]] = []
    room = 0
    for number, size in enumerate(bytes_per_trace):
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(number)
        room -= size
    return shards


def write_shard(path: Path, records: Sequence[Record], fingerprint: str) -> None:
    """Writes some records as one whole file. fingerprint: of all that they were computed from."""
    tensors: dict[str, Tensor] = {}
    described, number = [], 0
    for record in records:
        described.append({**record.values, "number": number if record.tensors else None})
        tensors |= {f"{number:05d}.{name}": tensor for name, tensor in record.tensors.items()}
        number += bool(record.tensors)
    header = {"fingerprint": fingerprint, "records": described}
    text = json.dumps(header, sort_keys=True, ensure_ascii=True, allow_nan=False)
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata={METADATA_KEY: text}))


def assemble(folder: Path, shards: Sequence[Path], kind: StoreKind) -> None:
    """Makes `folder` hold exactly these shards, linked where possible, and last their index."""
    clear(folder)
    for number, shard in enumerate(shards):
        link_or_copy(shard, folder / shard_name(number))
    write_index(folder / "index.parquet", shards, kind)


def write_trace_list(folder: Path, traces: Sequence[TokenTrace]) -> None:
    """Makes `folder` hold an index of traces without any activations."""
    clear(folder)
    rows = [dict.fromkeys(TRACES.schema) | trace_values(trace) for trace in traces]
    write_frame(folder / "index.parquet", pl.DataFrame(rows, schema=dict(TRACES.schema)))


def clear(folder: Path) -> None:
    """Makes a folder without index and shards; the index goes first."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / "index.parquet", *folder.glob("shard-*")]:
        old.unlink(missing_ok=True)


def write_index(path: Path, shards: Sequence[Path], kind: StoreKind = TRACES) -> None:
    """Writes the index of shards that lie, or will lie, beside it as shard-00000.safetensors and so on, in order."""
    rows: list[dict[str, Any]] = []
    for place, shard in enumerate(shards):
        opened = OpenShard(shard)
        of_shard = {"shard": shard_name(place), "sha256": sha256(shard), "fingerprint": opened.header["fingerprint"]}
        for values in opened.header["records"]:
            row = {**of_shard, **values, **opened.description(values["number"])}
            rows.append({name: row[name] for name in kind.schema})
    write_frame(path, pl.DataFrame(rows, schema=dict(kind.schema)))
