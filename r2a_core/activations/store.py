"""One teacher-forced forward pass of a trace -> its queries, keys and, on request, residual streams and head outputs.

model, token ids, segments, CaptureConfig -> TraceActivations. Memory grows with the number of tokens, never with its
square: logits of one position only, no cache, no attention matrix.

The shard format: activations of consecutive traces in one safetensors file each, and one index for all of them.

    shard-00000.safetensors   tensors `<n>.q.<layer>`, `<n>.k.<layer>`, `<n>.residual.<layer>`, `<n>.z.<layer>` of its
    n-th
                              trace (n in five digits, layer in three), and one metadata key `r2a`, JSON text:
        {"fingerprint": ..., "layers": [LayerAttention, ...],
         "traces": [{item_id, n_tokens, think_open, think_close, first_row, first_stream_row}, ...]}
    index.parquet             one row a trace in item order: INDEX_SCHEMA

q (head, row, head_dim) of the rows from token `first_row` on; k (kv_head, token, head_dim); residual (row, d_model) and
z (row, n_heads * head_dim) from token `first_stream_row` on. Equal input gives equal bytes.

Reading stored activations back: every shard is verified when it is first opened, tensors are loaded one by one.

folder with index.parquet and its shards -> StoredTrace records in item order. A missing, truncated, altered or
foreign shard, or one whose tensors are not those of the index, is named and refused, never skipped.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from r2a_core.activations.attention import LayerAttention
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame, sha256, write_frame, write_whole
from r2a_core.trace import TraceSegments


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


SHARD_NAME = re.compile(r"shard-[0-9]{5,}\.safetensors")

METADATA_KEY = "r2a"

REBUILD = "rebuild the activations with: dvc repro capture"

CAPTURED = {  # by letter in a tensor's name: what it is, and its dimensions
    "q": ("queries", "head", "row", "dimension"),
    "k": ("keys", "KV head", "token", "dimension"),
    "residual": ("residual stream", "row", "dimension"),
    "z": ("head outputs", "row", "dimension"),
}

INDEX_SCHEMA = {
    "item_id": pl.String,
    "shard": pl.String,  # file name beside the index
    "sha256": pl.String,  # of the shard
    "fingerprint": pl.String,  # of what the shard was computed from
    "tensors": pl.List(pl.String),
    "shapes": pl.List(pl.List(pl.Int64)),
    "dtype": pl.String,  # bfloat16 | float32
    "n_tokens": pl.Int32,
    "think_open": pl.Int32,
    "think_close": pl.Int32,
    "answer_start": pl.Int32,
    "answer_end": pl.Int32,
    "first_row": pl.Int32,  # token of query row 0
    "first_stream_row": pl.Int32,  # token of row 0 of residual and z
}


def plan_shards(bytes_per_trace: Sequence[int], shard_bytes: int) -> list[list[int]]:
    """Trace numbers of each shard, filled in order up to `shard_bytes`; a longer trace has a shard of its own.

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


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def check_shard_names(index: pl.DataFrame, path: Path, rebuild: str) -> None:
    """Raises R2AError when an index names a file that is no shard beside it."""
    for name in index["shard"]:
        if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
            raise R2AError(f"{path} names {name!r}, which is no shard of its folder", rebuild)


def write_shard(path: Path, traces: Sequence[tuple[str, TraceActivations]], fingerprint: str) -> None:
    """Writes the activations of some traces, each with its item id, as one whole file.

    Raises R2AError, naming trace, layer and place, when one of them is not finite.
    """
    tensors: dict[str, torch.Tensor] = {}
    layers: dict[int, LayerAttention] = {}
    described = []
    for number, (item_id, trace) in enumerate(traces):
        for kind, by_layer in (("q", trace.q), ("k", trace.k), ("residual", trace.residual), ("z", trace.z)):
            for layer, tensor in by_layer.items():
                what, *axes = CAPTURED[kind]
                check_finite(tensor, f"{item_id!r}: {what} of layer {layer}", axes)
            tensors |= {f"{number:05d}.{kind}.{layer:03d}": tensor for layer, tensor in by_layer.items()}
        for layer, attention in trace.layers.items():
            if layer not in layers or layers[layer].window is None:  # a trace shorter than the window shows none
                layers[layer] = attention
        bounds = asdict(trace.segments)
        rows = {"first_row": trace.first_row, "first_stream_row": trace.first_stream_row}
        described.append({"item_id": item_id, **bounds, **rows})
    header = {
        "fingerprint": fingerprint,
        "layers": [asdict(layers[layer]) for layer in sorted(layers)],
        "traces": described,
    }
    text = json.dumps(header, sort_keys=True, ensure_ascii=True, allow_nan=False)
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata={METADATA_KEY: text}))


def write_index(path: Path, shards: Sequence[Path]) -> pl.DataFrame:
    """Writes the index of shards that lie, or will lie, beside it as shard-00000.safetensors and so on, in this order.

    Raises R2AError when a shard cannot be read or two traces share an item id.
    """
    rows = [row for number, shard in enumerate(shards) for row in index_rows(shard, shard_name(number))]
    frame = pl.DataFrame(rows, schema=INDEX_SCHEMA)
    repeated = frame.filter(pl.col("item_id").is_duplicated())
    if repeated.height:
        raise R2AError(f"the trace {repeated['item_id'][0]!r} is in two places of {path.parent}", REBUILD)
    write_frame(path, frame)
    return frame


def index_rows(shard: Path, name: str) -> list[dict[str, Any]]:
    """Index rows of one shard, from its header."""
    rows = []
    with open_shard(shard) as tensors:
        header = read_header(shard, tensors)
        names = sorted(tensors.keys())
        digest = sha256(shard)
        for number, trace in enumerate(header["traces"]):
            own = [tensor for tensor in names if tensor.startswith(f"{number:05d}.")]
            segments = segments_of(trace)
            rows.append(
                {
                    "item_id": trace["item_id"],
                    "shard": name,
                    "sha256": digest,
                    "fingerprint": header["fingerprint"],
                    "tensors": own,
                    "shapes": [list(tensors.get_slice(tensor).get_shape()) for tensor in own],
                    "dtype": {"BF16": "bfloat16", "F32": "float32"}[tensors.get_slice(own[0]).get_dtype()],
                    **asdict(segments),
                    "answer_start": segments.answer.start,
                    "answer_end": segments.answer.stop,
                    "first_row": trace["first_row"],
                    "first_stream_row": trace["first_stream_row"],
                }
            )
    return rows


def segments_of(row: dict[str, Any]) -> TraceSegments:
    """Segment bounds from an index row or a header entry."""
    return TraceSegments(row["think_open"], row["think_close"], row["n_tokens"])


def open_shard(path: Path) -> Any:
    """An open shard whose tensors are read one by one. Raises R2AError when it is missing, truncated or no shard."""
    if not path.is_file():
        raise R2AError(f"{path} is missing", REBUILD)
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise R2AError(f"{path} is damaged or cut off: {error}", REBUILD) from None


def read_header(path: Path, tensors: Any) -> dict[str, Any]:
    """The JSON header of an open shard. Raises R2AError when the file is a safetensors file of another kind."""
    metadata = tensors.metadata() or {}
    try:
        header = json.loads(metadata[METADATA_KEY])
        return {key: header[key] for key in ("fingerprint", "layers", "traces")}
    except (KeyError, ValueError):
        raise R2AError(f"{path} is not an activation shard: its metadata lacks {METADATA_KEY}", REBUILD) from None


class RecordedTrace(Protocol):
    """Queries and keys of one trace, from memory or from a shard."""

    @property
    def segments(self) -> TraceSegments: ...

    @property
    def first_row(self) -> int: ...

    @property
    def layers(self) -> dict[int, LayerAttention]: ...

    def queries(self, layer: int) -> Tensor: ...

    def keys(self, layer: int) -> Tensor: ...


@dataclass(frozen=True)
class OpenShard:
    """A verified shard."""

    path: Path
    header: dict[str, Any]
    tensors: Any  # safetensors' open file: its tensors stay on disk until asked for
    names: frozenset[str]  # of the tensors


@dataclass(frozen=True)
class StoredTrace:
    """One trace of a verified shard; its tensors stay on disk until asked for."""

    item_id: str
    segments: TraceSegments
    first_row: int  # token of query row 0
    first_stream_row: int  # token of row 0 of residual and z
    layers: dict[int, LayerAttention]
    number: int  # place in its shard
    shard: OpenShard

    def queries(self, layer: int) -> Tensor:
        """(head, row, head_dim), after RoPE, in the stored dtype."""
        return self.tensor("q", layer)

    def keys(self, layer: int) -> Tensor:
        """(kv_head, token, head_dim), after RoPE, in the stored dtype."""
        return self.tensor("k", layer)

    def residual(self, layer: int) -> Tensor:
        """(row, d_model), entering the layer."""
        return self.tensor("residual", layer)

    def z(self, layer: int) -> Tensor:
        """(row, n_heads * head_dim)."""
        return self.tensor("z", layer)

    def tensor(self, kind: str, layer: int) -> Tensor:
        """One tensor. Raises R2AError when it was not captured."""
        name = f"{self.number:05d}.{kind}.{layer:03d}"
        if name not in self.shard.names:
            raise R2AError(
                f"{self.shard.path} holds no {kind} of layer {layer} for {self.item_id!r}",
                f"add the layer to the params of capture, then: dvc repro capture (holds {sorted(self.layers)})",
            )
        return self.shard.tensors.get_tensor(name)


@dataclass
class ActivationReader:
    """The activations of one model, dataset and setting, by item id in item order."""

    folder: Path
    index: pl.DataFrame = field(init=False)
    opened: dict[str, OpenShard] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.index = read_index(self.folder / "index.parquet")

    @property
    def item_ids(self) -> list[str]:
        return self.index["item_id"].to_list()

    def __iter__(self) -> Iterator[StoredTrace]:
        return (self.trace(item_id) for item_id in self.item_ids)

    def trace(self, item_id: str) -> StoredTrace:
        """One trace. Raises R2AError when the index has no such item or its shard is not what the index says."""
        rows = self.index.filter(pl.col("item_id") == item_id)
        if rows.is_empty():
            raise R2AError(f"{self.folder} has no trace {item_id!r}", "choose another item, or capture more traces")
        row = rows.row(0, named=True)
        shard = self.shard(row["shard"])
        number = [trace["item_id"] for trace in shard.header["traces"]].index(item_id)
        layers = {layer["layer"]: layer_attention(layer) for layer in shard.header["layers"]}
        rows_from = (row["first_row"], row["first_stream_row"])
        return StoredTrace(item_id, segments_of(row), *rows_from, layers, number, shard)

    def shard(self, name: str) -> OpenShard:
        """A shard, opened and compared with the index when it is first asked for."""
        if name not in self.opened:
            self.opened[name] = verified_shard(self.folder / name, self.index.filter(pl.col("shard") == name))
        return self.opened[name]


def read_index(path: Path) -> pl.DataFrame:
    """The index of a folder of shards. Raises R2AError when it is missing, damaged or of another schema."""
    index = read_frame(path, INDEX_SCHEMA, "capture")
    check_shard_names(index, path, REBUILD)
    return index


def verified_shard(path: Path, rows: pl.DataFrame) -> OpenShard:
    """A shard that agrees with its index rows in traces, fingerprint, tensors and bytes; else R2AError."""
    altered = R2AError(f"{path} was altered or cut off: its content does not match the index", REBUILD)
    tensors = open_shard(path)
    try:
        header = compared_header(path, tensors, rows)
    except (KeyError, TypeError, AttributeError, ValueError):  # a header in another form
        raise altered from None
    if set(rows["sha256"]) != {sha256(path)}:
        raise altered
    return OpenShard(path, header, tensors, frozenset(tensors.keys()))


def compared_header(path: Path, tensors: Any, rows: pl.DataFrame) -> dict[str, Any]:
    """Header of an open shard that agrees with its index rows in traces, fingerprint and tensors; else R2AError."""
    header = read_header(path, tensors)
    if set(rows["fingerprint"]) != {header["fingerprint"]}:
        raise R2AError(f"{path} belongs to another run: its fingerprint is {header['fingerprint']}", REBUILD)
    if sorted(trace["item_id"] for trace in header["traces"]) != sorted(rows["item_id"]):
        raise R2AError(f"{path} holds other traces than the index says", REBUILD)
    expected = {
        name: tuple(shape)
        for names, shapes in rows.select("tensors", "shapes").iter_rows()
        for name, shape in zip(names, shapes, strict=True)
    }
    found = {name: tuple(tensors.get_slice(name).get_shape()) for name in sorted(tensors.keys())}
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    if wrong:
        shapes = f"{found.get(wrong[0], 'missing')}, the index says {expected.get(wrong[0], 'none')}"
        raise R2AError(f"{path}: the tensor {wrong[0]} is {shapes}", REBUILD)
    return header


def layer_attention(values: dict[str, Any]) -> LayerAttention:
    """A LayerAttention from a shard's header."""
    sinks = values["sinks"]
    return LayerAttention(**{**values, "sinks": None if sinks is None else tuple(sinks)})
