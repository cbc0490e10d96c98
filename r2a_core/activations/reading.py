"""Reading stored activations back: every shard is verified when it is first opened, tensors are loaded one by one.

folder with index.parquet and its shards -> StoredTrace records in item order. A missing, truncated, altered or
foreign shard, or one whose tensors are not those of the index, is named and refused, never skipped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from torch import Tensor

from r2a_core.activations.attending import LayerAttention
from r2a_core.activations.shards import INDEX_SCHEMA, REBUILD, check_shard_names, open_shard, read_header, segments_of
from r2a_core.errors import R2AError
from r2a_core.frames import read_frame
from r2a_core.store import sha256
from r2a_core.traces.segments import TraceSegments


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
