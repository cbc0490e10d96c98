"""This project's ways with the disk: shards written and read, and the disk itself beside them.

Functions of a case, as those of benchmarks/ours.py; each returns a call to be timed.
"""

import itertools
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import random_ids
from benchmarks.pairs import segments_of
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.activations.store import ActivationReader, OpenShard, StoredTrace, shard_name
from r2a_core.activations.writer import TraceActivations, write_index, write_shard

Run = Callable[[], Any]


def big_trace(megabytes: int) -> TraceActivations:
    """Activations of about this size: 16 layers of a trace of 2048 tokens, random."""
    trace = TraceActivations(segments_of(2048), 51, 51)
    heads = max(4, megabytes * 10**6 // (16 * 2048 * 64 * 2 * 5) * 4)
    for layer in range(16):
        trace.layers[layer] = LayerAttention(layer, heads, heads // 4, 64, 0.125)
        trace.q[layer] = torch.randn(heads, 2048, 64).bfloat16()
        trace.k[layer] = torch.randn(heads // 4, 2048, 64).bfloat16()
    return trace


def disk_write(folder: str, megabytes: int) -> Run:
    """Writes a shard: whole, synced and renamed."""
    trace, numbers = big_trace(megabytes), itertools.count()

    def run() -> int:
        path = fresh(Path(folder), next(numbers))
        write_shard(path, [trace.record("t", random_ids(2048))], "benchmark")
        return path.stat().st_size

    return run


def disk_copy(folder: str, megabytes: int) -> Run:
    """cp of such a shard, synced."""
    source, numbers = Path(folder) / "source", itertools.count()
    write_shard(source, [big_trace(megabytes).record("t", random_ids(2048))], "benchmark")

    def run() -> int:
        path = fresh(Path(folder), next(numbers))
        subprocess.run(["cp", "--reflink=never", source, path], check=True)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path.stat().st_size

    return run


def fresh(folder: Path, number: int) -> Path:
    """A new file's path; the one before it is removed, so that nothing is overwritten in place."""
    (folder / f"copy-{number - 1}").unlink(missing_ok=True)
    return folder / f"copy-{number}"


def forget(path: Path) -> None:
    """Takes a file out of the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def disk_read(folder: str, megabytes: int, cold: bool, what: str) -> Run:
    """Reads a stored shard into memory: bytes that came from the disk.

    what: tensors (q and k of each layer), verified (its digest before), raw. Nothing stays mapped after a run: what is,
    the system does not evict.
    """
    place = Path(folder)
    path = place / shard_name(0)
    write_shard(path, [big_trace(megabytes).record("t", random_ids(2048))], "benchmark")
    write_index(place / "index.parquet", [path])
    trace, block = ActivationReader(place).trace("t"), bytearray(path.stat().st_size)

    def tensors(trace: StoredTrace) -> None:
        for layer in trace.layers:
            trace.queries(layer).clone()  # what is read is mapped, and comes from the disk when it is used
            trace.keys(layer).clone()

    ways: dict[str, Callable[[], Any]] = {
        "tensors": lambda: tensors(replace(trace, shard=OpenShard(path))),
        "verified": lambda: tensors(ActivationReader(place).trace("t")),
        "raw": lambda: read_into(path, block),
    }

    def run() -> int:
        if cold:
            forget(path)
        before = disk_bytes()
        ways[what]()
        return disk_bytes() - before

    return run


def read_into(path: Path, block: bytearray) -> None:
    """Reads a file into memory that is there already."""
    with path.open("rb", buffering=0) as file:
        assert file.readinto(block) == len(block)


def bytes_read(folder: str, megabytes: int) -> Run:
    """Bytes that one tensor of a shard that is not in memory takes from the disk, its size and that of the file."""
    disk_read(folder, megabytes, True, "tensors")
    path = Path(folder) / shard_name(0)
    trace = ActivationReader(Path(folder)).trace("t")

    def run() -> list[int]:
        forget(path)
        before = disk_bytes()
        size = trace.keys(7).clone().nbytes
        return [disk_bytes() - before, size, path.stat().st_size]

    return run


def disk_bytes() -> int:
    """Bytes that this process has taken from disks."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


WAYS: dict[str, Callable[..., Run]] = {way.__name__: way for way in (disk_write, disk_copy, disk_read, bytes_read)}
