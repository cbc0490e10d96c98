"""Captured clean runs on disk: safetensors shards of consecutive pairs, and one index for all of them.

    shard-00000.safetensors   tensors `<n>.positions`, `<n>.resid_pre`, `<n>.z`, `<n>.logit_diff` (see CleanRun) of its
                              n-th captured pair (five digits), and one metadata key `r2a`, JSON text:
        {"fingerprint": ..., "pairs": [{pair_id, probe, digest, ld_clean, ld_corrupted, reason, number}, ...]}
    index.parquet             one row an aligned pair and probe, in pair order: INDEX_SCHEMA

A pair whose logit difference is not clearly on its own side has a reason and no tensors. Equal input gives equal bytes.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from r2a_core.activations.store import check_shard_names
from r2a_core.config import PairCaptureParams
from r2a_core.infra.checks import check_finite, error_context
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import link_or_copy, read_frame, sha256, write_frame
from r2a_core.pairs.align import AlignedPair
from r2a_core.pairs.filter import pair_digest
from r2a_core.patching.runs import CleanRun, capture_clean, corrupted_logit_diff

METADATA_KEY = "r2a"

REBUILD = "rebuild the clean runs with: dvc repro capture_pairs"

INDEX_SCHEMA: Any = {
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
}


@dataclass(frozen=True)
class CapturedPair:
    """How the two runs of one aligned pair end, and whether they are far enough apart."""

    pair_id: str
    probe: str
    digest: str
    ld_clean: float
    ld_corrupted: float
    reason: str | None
    number: int | None


@dataclass(frozen=True)
class CaptureShard:
    """One shard of a captured model: its place, and index rows of the pairs in it."""

    path: Path
    rows: list[dict[str, Any]]


def weak_reason(ld_clean: float, ld_corrupted: float, threshold: float) -> str | None:
    """Why the runs of a pair are not clearly on their own sides; None when they are."""
    if ld_clean < threshold:
        return f"the clean logit difference {ld_clean:.3g} is below {threshold:g}"
    if ld_corrupted > -threshold:
        return f"the corrupted logit difference {ld_corrupted:.3g} is above {-threshold:g}"
    return None


def write_shard(
    path: Path, model: Any, pairs: Sequence[AlignedPair], params: PairCaptureParams, fingerprint: str
) -> None:
    """Runs both sides of each pair and writes the clean runs of those that pass the threshold."""
    tensors: dict[str, Any] = {}
    described: list[CapturedPair] = []
    for pair in pairs:
        place = f"pair {pair.pair_id!r} ({pair.probe})"
        with error_context(f"{place}, clean run"):
            clean = capture_clean(model, pair, with_z=params.with_z)
            check_finite(clean.resid_pre, "residual streams", ("layer", "position", "dimension"))
            if clean.z is not None:
                check_finite(clean.z, "head outputs", ("layer", "position", "head", "dimension"))
        with error_context(f"{place}, corrupted run"):
            ld_corrupted = corrupted_logit_diff(model, pair)
        reason = weak_reason(clean.logit_diff, ld_corrupted, params.logit_diff_threshold)
        number = None
        if reason is None:
            number = len(tensors) // len(clean.tensors())
            tensors |= {f"{number:05d}.{name}": tensor for name, tensor in clean.tensors().items()}
        digest = pair_digest(pair)
        described.append(CapturedPair(pair.pair_id, pair.probe, digest, clean.logit_diff, ld_corrupted, reason, number))
    header = {"fingerprint": fingerprint, "pairs": [asdict(each) for each in described]}
    text = json.dumps(header, sort_keys=True, ensure_ascii=True, allow_nan=False)
    save_file(tensors, path, metadata={METADATA_KEY: text})


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.safetensors"


def assemble(folder: Path, shards: Sequence[Path]) -> None:
    """The output folder anew: `shards` of a work store as shard-00000.safetensors and so on, and their index."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for number, shard in enumerate(shards):
        link_or_copy(shard, folder / shard_name(number))
    write_index(folder, [folder / shard_name(number) for number in range(len(shards))])


def write_index(folder: Path, shards: Sequence[Path]) -> pl.DataFrame:
    """Writes the index of shards that lie in `folder` as shard-00000.safetensors and so on, in this order."""
    rows = []
    for number, shard in enumerate(shards):
        header = read_header(shard)
        same = {"shard": shard_name(number), "sha256": sha256(shard), "fingerprint": header["fingerprint"]}
        for pair in header["pairs"]:
            rows.append(same | pair | {"status": "captured" if pair["reason"] is None else "weak"})
    frame = pl.DataFrame(rows, schema=INDEX_SCHEMA)
    write_frame(folder / "index.parquet", frame)
    return frame


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a shard. Raises R2AError when it is missing, cut off or another kind of file."""
    if not path.is_file():
        raise R2AError(f"{path} is missing", REBUILD)
    try:
        with safe_open(path, framework="pt") as tensors:
            header = json.loads((tensors.metadata() or {})[METADATA_KEY])
        return {key: header[key] for key in ("fingerprint", "pairs")}
    except SafetensorError as error:
        raise R2AError(f"{path} is damaged or cut off: {error}", REBUILD) from None
    except (KeyError, ValueError):
        raise R2AError(f"{path} is not a shard of clean runs: its metadata lacks {METADATA_KEY}", REBUILD) from None


def read_index(folder: Path) -> pl.DataFrame:
    """The index of a captured model. Raises R2AError when it is missing, damaged or of another schema."""
    index = read_frame(folder / "index.parquet", INDEX_SCHEMA, "capture_pairs")
    check_shard_names(index, folder / "index.parquet", REBUILD)
    return index


def captured_shards(folder: Path) -> list[CaptureShard]:
    """The shards of a captured model with the rows of its index. Errors as in `read_index`."""
    rows = read_index(folder).rows(named=True)
    names = dict.fromkeys(row["shard"] for row in rows)
    return [CaptureShard(folder / name, [row for row in rows if row["shard"] == name]) for name in names]


def clean_runs(
    shard: CaptureShard, pairs: dict[tuple[str, str], AlignedPair]
) -> Iterator[tuple[AlignedPair, CleanRun]]:
    """The captured pairs of a shard with their clean runs. `pairs`: all aligned pairs by (pair_id, probe).

    Raises R2AError when the shard is not the one of the index, or was captured from pairs aligned in another way.
    """
    if not shard.path.is_file() or sha256(shard.path) != shard.rows[0]["sha256"]:
        raise R2AError(f"{shard.path} is missing, damaged or another file than its index describes", REBUILD)
    with safe_open(shard.path, framework="pt") as tensors:
        names = sorted(tensors.keys())
        for row in shard.rows:
            pair = pairs.get((row["pair_id"], row["probe"]))
            if pair is None or pair_digest(pair) != row["digest"]:
                raise R2AError(
                    f"{shard.path}: the pair {row['pair_id']} ({row['probe']}) was captured from another alignment",
                    REBUILD,
                )
            if row["number"] is not None:
                prefix = f"{row['number']:05d}."
                own = [name for name in names if name.startswith(prefix)]
                yield pair, CleanRun.from_tensors({n.removeprefix(prefix): tensors.get_tensor(n) for n in own})
