"""Activations of traces and of clean runs on disk: safetensors shards of records, one index of them, and the reader.

    shard-00000.safetensors   tensors `<n>.<name>` of its n-th record that has any (n in five digits), and one metadata
                              key `r2a`, JSON text: {"fingerprint": ..., "records": [{...}, ...]}
    index.parquet             one row per record, in order: the schema of the StoreKind

Traces (TRACES, paper section 4) have the tensors `q.<layer>` (head, row, head_dim) and `k.<layer>` (kv_head, token,
head_dim), both after RoPE, `residual.<layer>` (row, d_model) and `z.<layer>` (row, n_heads * head_dim), the layer in
three digits. Clean runs are described in patching/stage.py; writer.py writes both. A shard's digest is compared with
the index when it is opened; tensors are loaded one by one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from safetensors import safe_open
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame, sha256
from r2a_core.trace import TokenTrace, TraceSegments

SHARD_NAME = re.compile(r"shard-[0-9]{5,}\.safetensors")

METADATA_KEY = "r2a"

SAFETENSORS_DTYPES = {"BF16": "bfloat16", "F32": "float32", "F16": "float16"}


@dataclass(frozen=True)
class StoreKind:
    """What the records of a folder are, which stage writes them, and the columns of their index."""

    noun: str
    stage: str
    schema: Mapping[str, Any]

    @property
    def rebuild(self) -> str:
        """The hint of every error about such a folder."""
        return f"rebuild the {self.noun} with: dvc repro {self.stage}"


TRACES = StoreKind(
    "activations",
    "capture",
    {
        "item_id": pl.String,
        "shard": pl.String,  # file name beside the index; null, as all about tensors, with capture.store: false
        "sha256": pl.String,  # of the shard
        "fingerprint": pl.String,  # of what the shard was computed from
        "tensors": pl.List(pl.String),
        "shapes": pl.List(pl.List(pl.Int64)),
        "dtype": pl.String,  # bfloat16 | float16 | float32
        "n_tokens": pl.Int32,
        "think_open": pl.Int32,
        "think_close": pl.Int32,
        "answer_start": pl.Int32,
        "answer_end": pl.Int32,
        "first_row": pl.Int32,  # token of query row 0
        "first_stream_row": pl.Int32,  # token of row 0 of residual and z
        "token_ids": pl.List(pl.Int32),  # of the whole trace, final EOS included
    },
)


def shard_name(number: int) -> str:
    """Returns the file name of a shard."""
    return f"shard-{number:05d}.safetensors"


class OpenShard:
    """A shard whose tensors stay on disk until asked for."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, safe_open(path, framework="pt")
        self.header: dict[str, Any] = json.loads(self.file.metadata()[METADATA_KEY])
        self.names: dict[int, list[str]] = {}  # of tensors, by number of the record
        for name in sorted(self.file.keys()):
            number, own = name.split(".", 1)
            self.names.setdefault(int(number), []).append(own)

    def tensor(self, number: int, name: str) -> Tensor:
        """Returns one tensor of the record of this number."""
        return self.file.get_tensor(f"{number:05d}.{name}")

    def tensors(self, number: int) -> dict[str, Tensor]:
        """Returns all tensors of the record of this number, by name."""
        return {name: self.tensor(number, name) for name in self.names[number]}

    def description(self, number: int | None) -> dict[str, Any]:
        """Names, shapes and type of a record's tensors, as the index has them."""
        names = [] if number is None else [f"{number:05d}.{name}" for name in self.names[number]]
        slices = [self.file.get_slice(name) for name in names]
        dtype = SAFETENSORS_DTYPES.get(slices[0].get_dtype()) if slices else None
        return {"tensors": names, "shapes": [list(each.get_shape()) for each in slices], "dtype": dtype}


class ShardFolder:
    """The records of a folder. Raises R2AError when its index is missing, damaged or of another schema."""

    def __init__(self, folder: Path, kind: StoreKind) -> None:
        self.folder, self.kind = folder, kind
        self.index = read_frame(folder / "index.parquet", kind.schema, kind.stage)
        self.opened: dict[str, OpenShard] = {}

    def shard(self, row: Mapping[str, Any]) -> OpenShard:
        """Returns the shard of an index row, verified when it is first asked for.

        Raises R2AError when it is missing, not the file that the index describes, or of another folder.
        """
        name = row["shard"]
        if name not in self.opened:
            if name is None or not SHARD_NAME.fullmatch(name):
                message = f"{self.folder / 'index.parquet'} names {name!r}, which is no shard of its folder"
                raise R2AError(message, self.kind.rebuild)
            path = self.folder / name
            if not path.is_file():
                raise R2AError(f"{path} is missing", self.kind.rebuild)
            if sha256(path) != row["sha256"]:
                message = f"{path} was altered or cut off: its content does not match the index"
                raise R2AError(message, self.kind.rebuild)
            self.opened[name] = OpenShard(path)
        return self.opened[name]


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
class StoredTrace:
    """One trace of a verified shard; its tensors stay on disk until asked for."""

    item_id: str
    token_ids: tuple[int, ...]
    segments: TraceSegments
    first_row: int  # token of query row 0
    first_stream_row: int  # token of row 0 of residual and z
    layers: dict[int, LayerAttention]
    number: int  # of its tensors in the shard
    shard: OpenShard

    def queries(self, layer: int) -> Tensor:
        """Returns queries (head, row, head_dim), after RoPE, in the stored dtype."""
        return self.tensor("q", layer)

    def keys(self, layer: int) -> Tensor:
        """Returns keys (kv_head, token, head_dim), after RoPE, in the stored dtype."""
        return self.tensor("k", layer)

    def residual(self, layer: int) -> Tensor:
        """Returns the residual stream entering the layer, (row, d_model)."""
        return self.tensor("residual", layer)

    def tensor(self, kind: str, layer: int) -> Tensor:
        """Returns one tensor. Raises R2AError when it was not captured."""
        name = f"{kind}.{layer:03d}"
        if name not in self.shard.names[self.number]:
            raise R2AError(
                f"{self.shard.path} holds no {kind} of layer {layer} for {self.item_id!r}",
                f"add the layer to the params of capture, then: dvc repro capture (holds {sorted(self.layers)})",
            )
        return self.shard.tensor(self.number, name)


class ActivationReader(ShardFolder):
    """The traces of one model, dataset and setting in item order, and the activations of each where they are stored."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, TRACES)

    @property
    def item_ids(self) -> list[str]:
        return self.index["item_id"].to_list()

    @property
    def is_stored(self) -> bool:
        """Whether there are activations of the traces (capture.store), not their token ids alone."""
        return self.index["shard"].null_count() == 0

    def token_traces(self) -> list[TokenTrace]:
        """Returns the token ids and segments of every trace."""
        return [
            TokenTrace(row["item_id"], tuple(row["token_ids"]), segments_of(row))
            for row in self.index.iter_rows(named=True)
        ]

    def __iter__(self) -> Iterator[StoredTrace]:
        return (self.trace(item_id) for item_id in self.item_ids)

    def trace(self, item_id: str) -> StoredTrace:
        """Returns one trace.

        Raises R2AError when the index has no such item or its shard is not what the index says.
        """
        rows = self.index.filter(pl.col("item_id") == item_id)
        if rows.is_empty():
            raise R2AError(f"{self.folder} has no trace {item_id!r}", "choose another item, or capture more traces")
        row = rows.row(0, named=True)
        shard = self.shard(row)
        values = next(each for each in shard.header["records"] if each["item_id"] == item_id)
        layers = {layer["layer"]: layer_attention(layer) for layer in values["layers"]}
        first = (row["first_row"], row["first_stream_row"])
        return StoredTrace(item_id, tuple(row["token_ids"]), segments_of(row), *first, layers, values["number"], shard)


def segments_of(row: Mapping[str, Any]) -> TraceSegments:
    """Returns the segment bounds from an index row."""
    return TraceSegments(row["think_open"], row["think_close"], row["n_tokens"])


def layer_attention(values: Mapping[str, Any]) -> LayerAttention:
    """Returns a LayerAttention from a shard's header."""
    sinks = values["sinks"]
    return LayerAttention(**{**values, "sinks": None if sinks is None else tuple(sinks)})
