"""The capture stage's work, cut into shards that do not depend on one another.

traces of one model, dataset and setting -> shards of about `shard_mb`, each with the digest of all that its bytes
depend on; finished shards -> the folder of shards and index that later stages read.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import Field

from r2a_core.activations.capture import CaptureConfig, LayerNumber, Rows, capture_trace, trace_bytes
from r2a_core.activations.selection import TokenTrace, select_traces
from r2a_core.activations.shards import plan_shards, shard_name, write_index, write_shard
from r2a_core.errors import MissingPrerequisite
from r2a_core.models.loading import LoadedModel, load_model, transformers_errors
from r2a_core.models.pointer import read_pointer, where
from r2a_core.provenance import fingerprint
from r2a_core.store import WorkStore, link_or_copy

log = logging.getLogger(__name__)
MEGABYTE, GIGABYTE = 10**6, 10**9


@dataclass(frozen=True)
class CaptureParams:
    """The section `capture` of params.yaml."""

    limit: Annotated[int, Field(gt=0)] | None  # traces; null = all that are well-formed
    rows: Rows
    dtype: Literal["bfloat16", "float32"]
    layers: tuple[LayerNumber, ...] | None
    residual_layers: tuple[LayerNumber, ...]
    z_layers: tuple[LayerNumber, ...]
    stream_rows: Rows
    shard_mb: Annotated[int, Field(gt=0)]  # MB a shard: what a killed run may lose

    @property
    def config(self) -> CaptureConfig:
        """What is kept of a forward pass; the rest only says of how many and in which portions."""
        kept = {name: value for name, value in vars(self).items() if name not in ("limit", "shard_mb")}
        return CaptureConfig(**kept)


@dataclass(frozen=True)
class CaptureShard:
    """Some traces, the size of their tensors, and the digest of all that the shard depends on."""

    traces: tuple[TokenTrace, ...]
    n_bytes: int
    fingerprint: str


@dataclass(frozen=True)
class CaptureJob:
    """What all shards of one model, dataset and setting share. The model loads when a shard first needs it."""

    model_folder: Path
    params: CaptureParams
    device: str

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(self.model_folder, self.device)

    @cached_property
    def sizes(self) -> Any:
        """The model's transformers config, without its weights."""
        from transformers import AutoConfig

        pointer = read_pointer(self.model_folder)
        place = where(pointer, self.model_folder, weights=True)
        with transformers_errors(f"the config of {self.model_folder.name}", pointer):
            return AutoConfig.from_pretrained(**place, trust_remote_code=False)


def captured_traces(job: CaptureJob, generations: pl.DataFrame, name: str) -> list[TokenTrace]:
    """The traces to capture, and a line on how many of how many; none, with a warning, of a model without weights."""
    questions = generations["item_id"].n_unique()
    if not read_pointer(job.model_folder).has_weights:
        log.warning("%s: none of %d traces captured, %s has no weights", name, questions, job.model_folder.name)
        return []
    traces = select_traces(generations)
    chosen = traces[: job.params.limit]
    log.info("%s: %d of %d well-formed traces, %d questions", name, len(chosen), len(traces), questions)
    return chosen


def plan_capture(job: CaptureJob, traces: Sequence[TokenTrace], base: Mapping[str, Any]) -> list[CaptureShard]:
    """Shards of the traces in their order. More traces leave every shard but the last as it was.

    base: digests of code and model.
    """
    config = job.params.config
    sizes = [trace_bytes(job.sizes, trace.segments, config) for trace in traces]
    shards = []
    for numbers in plan_shards(sizes, job.params.shard_mb * MEGABYTE):
        part = tuple(traces[number] for number in numbers)
        content = [[trace.item_id, trace.token_ids, asdict(trace.segments)] for trace in part]
        print_ = fingerprint(**base, params=asdict(config), traces=content)
        shards.append(CaptureShard(part, sum(sizes[number] for number in numbers), print_))
    return shards


def finish_capture(job: CaptureJob, store: WorkStore, shard: CaptureShard) -> Path:
    """File of a shard, from the store or captured now."""
    return store.shard(shard.fingerprint, ".safetensors", lambda path: capture_shard(job, shard, path))


def capture_shard(job: CaptureJob, shard: CaptureShard, path: Path) -> None:
    """Writes one shard: a forward pass a trace."""
    model, config = job.loaded.model, job.params.config
    traces = [(trace.item_id, capture_trace(model, trace.token_ids, trace.segments, config)) for trace in shard.traces]
    write_shard(path, traces, shard.fingerprint)


def check_room(shards: Sequence[CaptureShard], is_stored: Callable[[CaptureShard], bool], folder: Path) -> None:
    """Raises MissingPrerequisite when the disk of `folder` cannot hold the shards that are still to be computed."""
    needed = sum(shard.n_bytes for shard in shards if not is_stored(shard))
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MissingPrerequisite(
            f"the activations need {needed / GIGABYTE:.1f} GB, the disk of {folder} has {free / GIGABYTE:.1f} GB free",
            "free some space, or lower capture.limit, or choose capture.layers or fewer capture.rows",
        )


def assemble(folder: Path, shards: Sequence[Path]) -> None:
    """Makes `folder` hold exactly these shards, linked where possible, and last their index."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [folder / "index.parquet", *folder.glob("shard-*")]:
        old.unlink(missing_ok=True)
    for number, shard in enumerate(shards):
        link_or_copy(shard, folder / shard_name(number))
    write_index(folder / "index.parquet", shards)
