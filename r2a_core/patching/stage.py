"""The stages capture_pairs and patch: clean runs of aligned pairs on disk, then every cell of the corrupted runs.

aligned pairs of a model -> shards of clean runs and their index (CLEAN_RUNS, in the format of activations/store.py),
tensors `positions`, `resid_pre`, `z`, `logit_diff` (see CleanRun); clean runs -> one patching table per shard (paper
section 5). A pair whose logit difference is not clearly on its own side has a reason and no tensors. Shards are cut
over all pairs of the dataset, so that a pair that is left out changes its own shard only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.activations.hooks import model_shape
from r2a_core.activations.store import ShardFolder, StoreKind
from r2a_core.activations.writer import Record, assemble, write_shard
from r2a_core.config import PairCaptureParams, SweepParams
from r2a_core.infra.checks import check_finite, error_context
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import save_frame
from r2a_core.infra.memory import MIB, retry_with_half
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.job import ModelJob
from r2a_core.pairs.align import AlignedPair
from r2a_core.pairs.tables import aligned_pairs, pair_digest
from r2a_core.patching.metrics import Sweep, concat_sweeps, patching_frame
from r2a_core.patching.packed import row_bytes
from r2a_core.patching.runs import CleanRun, capture_clean, corrupted_logit_diff
from r2a_core.patching.sweep import sweep_pair

CLEAN_RUNS = StoreKind(
    "clean runs",
    "capture_pairs",
    {
        "pair_id": pl.String,
        "probe": pl.String,
        "status": pl.String,  # captured | weak
        "reason": pl.String,  # null where captured
        "ld_clean": pl.Float64,
        "ld_corrupted": pl.Float64,
        "shard": pl.String,  # file name beside the index
        "number": pl.Int32,  # of the pair's tensors in the shard; null where weak
        "sha256": pl.String,  # of the shard
        "digest": pl.String,  # of the aligned pair
        "fingerprint": pl.String,  # of what the shard was computed from
    },
)


@dataclass(frozen=True)
class PairShard:
    """Aligned pairs of one shard of clean runs and the fingerprint of all that it depends on."""

    pairs: list[AlignedPair]
    fingerprint: str


@dataclass(frozen=True)
class PairCaptureJob(ModelJob):
    """Clean runs of a model."""

    params: PairCaptureParams


def capture_clean_runs(job: PairCaptureJob, rows: pl.DataFrame, work: Work, folder: Path) -> None:
    """Captures the clean runs of the aligned rows of data/pairs/<model>.parquet, shard by shard, into `folder`."""
    shards = plan_capture(rows, job.params, work.base)
    assemble(folder, list(work.finish(finish_capture, job, shards)), CLEAN_RUNS)


def plan_capture(rows: pl.DataFrame, params: PairCaptureParams, base: Mapping[str, Any]) -> list[PairShard]:
    """Returns the shards of the aligned rows of data/pairs/<model>.parquet, `shard_pairs` pairs of the dataset each.

    base: digests of code and model.
    """
    ids = rows["pair_id"].unique(maintain_order=True).to_list()
    by_id: dict[str, list[AlignedPair]] = {}
    for pair in aligned_pairs(rows):
        by_id.setdefault(pair.pair_id, []).append(pair)
    planned = []
    for start in range(0, len(ids), params.shard_pairs):
        own = [pair for pair_id in ids[start : start + params.shard_pairs] for pair in by_id.get(pair_id, [])]
        if own:
            digests = [pair_digest(pair) for pair in own]
            planned.append(PairShard(own, fingerprint(**base, params=params.model_dump(mode="json"), pairs=digests)))
    return planned


def finish_capture(job: PairCaptureJob, store: WorkStore, shard: PairShard) -> Path:
    """Returns the file of a shard of clean runs, from the store or captured now."""

    def write(path: Path) -> None:
        records = [capture_pair(job.loaded.model, pair, job.params) for pair in shard.pairs]
        write_shard(path, records, shard.fingerprint)

    return store.shard(shard.fingerprint, ".safetensors", write)


def capture_pair(model: Any, pair: AlignedPair, params: PairCaptureParams) -> Record:
    """Runs both sides of a pair; the clean run is kept where the pair passes the threshold.

    Raises R2AError, naming pair and side, when a run is not finite.
    """
    place = f"pair {pair.pair_id!r} ({pair.probe})"
    with error_context(f"{place}, clean run"):
        clean = capture_clean(model, pair, with_z=params.with_z)
        check_finite(clean.resid_pre, "residual streams", ("layer", "position", "dimension"))
        if clean.z is not None:
            check_finite(clean.z, "head outputs", ("layer", "position", "head", "dimension"))
    with error_context(f"{place}, corrupted run"):
        ld_corrupted = corrupted_logit_diff(model, pair)
    reason = weak_reason(clean.logit_diff, ld_corrupted, params.logit_diff_threshold)
    values = {"pair_id": pair.pair_id, "probe": pair.probe, "digest": pair_digest(pair), "reason": reason}
    values |= {"status": "weak" if reason else "captured", "ld_clean": clean.logit_diff, "ld_corrupted": ld_corrupted}
    return Record(values, {} if reason else clean.tensors())


def weak_reason(ld_clean: float, ld_corrupted: float, threshold: float) -> str | None:
    """Says why the runs of a pair are not clearly on their own sides; None when they are."""
    if ld_clean < threshold:
        return f"the clean logit difference {ld_clean:.3g} is below {threshold:g}"
    if ld_corrupted > -threshold:
        return f"the corrupted logit difference {ld_corrupted:.3g} is above {-threshold:g}"
    return None


@dataclass(frozen=True)
class SweepJob(ModelJob):
    """Patched runs of a model."""

    params: SweepParams
    clean: Path  # folder of the clean runs
    pairs: dict[tuple[str, str], AlignedPair]  # by (pair_id, probe)
    base: Mapping[str, Any]  # digests of code and model

    @cached_property
    def folder(self) -> ShardFolder:
        return ShardFolder(self.clean, CLEAN_RUNS)


def patch_pairs(job: SweepJob, work: Work) -> pl.DataFrame:
    """Patches every captured pair, shard by shard. Raises R2AError when the index of the clean runs is damaged."""
    check_components(job.params)
    shards = [rows.rows(named=True) for _, rows in job.folder.index.group_by("shard", maintain_order=True)]
    return concat_sweeps([pl.read_parquet(path) for path in work.finish(finish_sweep, job, shards)])


def finish_sweep(job: SweepJob, store: WorkStore, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Returns the patching table of one shard of clean runs (its index rows), from the store or computed now."""

    def write(path: Path) -> None:
        sweeps = [
            sweep
            for pair, clean in clean_runs(job.folder, rows, job.pairs)
            for sweep in sweeps_in_memory(job.loaded.model, pair, clean, job.params)
        ]
        save_frame(path, patching_frame(sweeps))

    digest = fingerprint(**job.base, params=job.params.model_dump(mode="json"), shard=rows[0]["sha256"])
    return store.shard(digest, ".parquet", write)


def clean_runs(
    folder: ShardFolder, rows: Sequence[Mapping[str, Any]], pairs: Mapping[tuple[str, str], AlignedPair]
) -> Iterator[tuple[AlignedPair, CleanRun]]:
    """Yields the captured pairs of one shard with their clean runs. `pairs`: all aligned pairs by (pair_id, probe).

    Raises R2AError when a shard is not the one of the index, or was captured from pairs aligned in another way.
    """
    shard = folder.shard(rows[0])
    for row in rows:
        pair = pairs.get((row["pair_id"], row["probe"]))
        if pair is None or pair_digest(pair) != row["digest"]:
            message = f"the pair {row['pair_id']} ({row['probe']}) was captured from another alignment"
            raise R2AError(f"{shard.path}: {message}", CLEAN_RUNS.rebuild)
        if row["number"] is not None:
            yield pair, CleanRun.from_tensors(shard.tensors(row["number"]))


def sweeps_in_memory(model: Any, pair: AlignedPair, clean: CleanRun, params: SweepParams) -> list[Sweep]:
    """Sweeps all components of one pair in passes of `memory_mib`, halved each time the device runs out."""
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
    """Returns the pairs by (pair_id, probe)."""
    return {(pair.pair_id, pair.probe): pair for pair in pairs}
