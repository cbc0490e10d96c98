"""The shards of the stages capture_pairs and patch: which pairs lie in which, and what their content depends on.

Shards are cut over all pairs of the dataset, so that a pair that is left out changes its own shard only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.activations.hooks import model_shape
from r2a_core.config import PairCaptureParams, SweepParams
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import save_frame
from r2a_core.infra.memory import MIB, retry_with_half
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.load import LoadedModel, load_model
from r2a_core.pairs.align import AlignedPair
from r2a_core.pairs.filter import aligned_pairs, pair_digest
from r2a_core.patching.metrics import Sweep, concat_sweeps, patching_frame
from r2a_core.patching.packed import row_bytes
from r2a_core.patching.runs import CleanRun
from r2a_core.patching.store import CaptureShard, assemble, captured_shards, clean_runs, write_shard
from r2a_core.patching.sweep import sweep_pair


@dataclass(frozen=True)
class PairShard:
    """Aligned pairs of one shard and the digest of all that it depends on."""

    pairs: list[AlignedPair]
    fingerprint: str


@dataclass(frozen=True)
class PairJob:
    """What all shards of a model share. The model loads when a shard first needs it."""

    model_folder: Path
    device: str

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(self.model_folder, self.device)


@dataclass(frozen=True)
class PairCaptureJob(PairJob):
    """Clean runs of a model."""

    params: PairCaptureParams


@dataclass(frozen=True)
class SweepJob(PairJob):
    """Patched runs of a model."""

    params: SweepParams
    pairs: dict[tuple[str, str], AlignedPair]  # by (pair_id, probe)
    base: Mapping[str, Any]  # digests of code and model


def capture_clean_runs(job: PairCaptureJob, rows: pl.DataFrame, work: Work, folder: Path) -> None:
    """Captures the clean runs of the aligned rows of data/pairs/<model>.parquet, shard by shard, into `folder`."""
    assemble(folder, list(work.finish(finish_capture, job, plan_capture(rows, job.params, work.base))))


def patch_pairs(job: SweepJob, clean: Path, work: Work) -> pl.DataFrame:
    """Patches every captured pair, shard by shard. clean: folder of the clean runs."""
    check_components(job.params)
    tables = work.finish(finish_sweep, job, captured_shards(clean))
    return concat_sweeps([pl.read_parquet(path) for path in tables])


def plan_capture(rows: pl.DataFrame, params: PairCaptureParams, base: Mapping[str, Any]) -> list[PairShard]:
    """Shards of the aligned rows of data/pairs/<model>.parquet, `shard_pairs` pairs of the dataset each."""
    ids = rows["pair_id"].unique(maintain_order=True).to_list()
    by_id: dict[str, list[AlignedPair]] = {}
    for pair in aligned_pairs(rows):
        by_id.setdefault(pair.pair_id, []).append(pair)
    planned = []
    for start in range(0, len(ids), params.shard_pairs):
        own = [pair for pair_id in ids[start : start + params.shard_pairs] for pair in by_id.get(pair_id, [])]
        if own:
            print_ = fingerprint(
                **base, params=params.model_dump(mode="json"), pairs=[pair_digest(pair) for pair in own]
            )
            planned.append(PairShard(own, print_))
    return planned


def finish_capture(job: PairCaptureJob, store: WorkStore, shard: PairShard) -> Path:
    """File of a shard of clean runs, from the store or captured now."""

    def write(path: Path) -> None:
        write_shard(path, job.loaded.model, shard.pairs, job.params, shard.fingerprint)

    return store.shard(shard.fingerprint, ".safetensors", write)


def patch_fingerprint(shard: CaptureShard, params: SweepParams, base: Mapping[str, Any]) -> str:
    """Digest of all that the cells of a captured shard depend on."""
    return fingerprint(**base, params=params.model_dump(mode="json"), shard=shard.rows[0]["sha256"])


def finish_sweep(job: SweepJob, store: WorkStore, shard: CaptureShard) -> Path:
    """Patching table of one captured shard, from the store or computed now."""
    print_ = patch_fingerprint(shard, job.params, job.base)
    return store.shard(print_, ".parquet", lambda path: write_cells(job, shard, path))


def write_cells(job: SweepJob, shard: CaptureShard, path: Path) -> None:
    """Writes the patching table of one captured shard."""
    sweeps = [
        sweep
        for pair, clean in clean_runs(shard, job.pairs)
        for sweep in sweeps_in_memory(job.loaded.model, pair, clean, job.params)
    ]
    save_frame(path, patching_frame(sweeps))


def sweeps_in_memory(model: Any, pair: AlignedPair, clean: CleanRun, params: SweepParams) -> list[Sweep]:
    """All components of one pair, in passes of `memory_mib`, or of half as much each time the device runs out."""
    one_row = -(-row_bytes(model_shape(model), [min(pair.indices)], len(pair.corrupted.ids)) // MIB)
    return retry_with_half(
        lambda memory_mib: sweep_pair(model, pair, clean, params, memory_mib),
        params.memory_mib,
        one_row,
        f"{pair.pair_id} ({pair.probe}), MiB of patched rows",
        "use a device with more memory, or shorter responses: lower pairs.generate.max_new_tokens",
    )


def check_components(params: SweepParams) -> None:
    """Raises R2AError when resid_pre is left out: curves and figures are drawn from it."""
    if "resid_pre" not in params.components:
        raise R2AError("params.yaml: patch.sweep.components lacks resid_pre", "add it; it costs little beside z")


def by_key(pairs: Sequence[AlignedPair]) -> dict[tuple[str, str], AlignedPair]:
    """Pairs by (pair_id, probe)."""
    return {(pair.pair_id, pair.probe): pair for pair in pairs}
