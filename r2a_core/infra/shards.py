"""The work store: finished shards of an expensive stage, kept outside the DVC outputs so that a killed run resumes.

A shard is one file named by its fingerprint, with a `.sha256` file beside it that is written last:

    <root>/<stage>/<item>/<fingerprint><suffix>          the shard
    <root>/<stage>/<item>/<fingerprint><suffix>.sha256   hex digest of the shard; without it the shard is not finished
    <root>/<stage>/<item>.lock                           held (flock) by the one run that may write this item

A shard is written to a temporary name, synced and renamed, so a run killed at any moment loses at most the shard it was
working on. Outputs are assembled from the store at the end and equal those of an undisturbed run.

Where shards are finished: one after the other in this process, or as tasks of a Ray cluster.

A stage's `finish(job, store, shard)` writes a shard into the work store, or finds it there, and returns what the stage
needs of it; `finish_shards` calls it for every shard and yields the results in shard order. How shards are run changes
no byte of them, so the section `resources` of params.yaml is a dependency of no stage.

Which code a script runs: its import closure inside the project, found by reading the sources (nothing is imported).

script path -> project files it can reach. The stages' code dependencies in dvc.yaml equal this list, and a shard's
fingerprint holds its digest, so an edit reruns exactly what it can change.
"""

import ast
import fcntl
import hashlib
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from r2a_core.config import ResourceParams
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import TEMPORARY, disk_errors, log, replace_synced, sha256


@dataclass(frozen=True)
class WorkStore:
    """The shards of one item of a stage. Obtain it from `open_store`, which holds the lock."""

    folder: Path

    def has(self, fingerprint: str, suffix: str) -> bool:
        """Whether the shard is finished. Its content is checked when it is used."""
        return self._digest_file(fingerprint, suffix).is_file() and self._shard(fingerprint, suffix).is_file()

    def shard(self, fingerprint: str, suffix: str, write: Callable[[Path], None]) -> Path:
        """Path of a finished shard; `write(temporary_path)` makes it when the store lacks it.

        Raises R2AError when the stored shard no longer has the digest it was written with, MissingPrerequisite when
        the disk is full or not to be written.
        """
        path = self._shard(fingerprint, suffix)
        if self.has(fingerprint, suffix):
            self._verify(path, self._digest_file(fingerprint, suffix))
            return path
        digest = self._put(path, write)
        self._put(self._digest_file(fingerprint, suffix), lambda temporary: temporary.write_text(digest + "\n"))
        return path

    def _shard(self, fingerprint: str, suffix: str) -> Path:
        return self.folder / f"{fingerprint}{suffix}"

    @staticmethod
    def _put(path: Path, write: Callable[[Path], object]) -> str:
        """Writes a file whole and returns its digest. No two writers share a temporary name."""
        temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex[:8]}-{path.name}")
        with disk_errors(temporary, path):
            write(temporary)
            digest = sha256(temporary)
            replace_synced(temporary, path)
        return digest

    def _digest_file(self, fingerprint: str, suffix: str) -> Path:
        return self.folder / f"{fingerprint}{suffix}.sha256"

    @staticmethod
    def _verify(path: Path, digest_file: Path) -> None:
        if sha256(path) != digest_file.read_text().strip():
            raise R2AError(
                f"{path} is damaged: its content does not match the digest it was written with",
                f"delete it, then run dvc repro again; only this shard is computed anew: rm {path} {digest_file}",
            )


@contextmanager
def open_store(root: Path, stage: str, item: str) -> Iterator[WorkStore]:
    """The work store of `stage`, locked for `item` (model, dataset and setting of this run).

    Raises R2AError at once when another run holds the same item, MissingPrerequisite when the disk cannot be written.
    Leftovers of a killed run of this item are removed.
    """
    folder, own = root / stage, root / stage / item
    with disk_errors(None, own):
        own.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{item}.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise R2AError(
                f"another run is already writing {stage} {item}",
                "wait for it to end; a stage started by a killed dvc may still be running (ps shows it)",
            ) from None
        for leftover in own.glob(f"{TEMPORARY}*"):
            log.info("removing %s, left by a run that was stopped", leftover)
            leftover.unlink()
        yield WorkStore(own)


Result = TypeVar("Result")


class Job(Protocol):
    """What all shards of a stage share: a picklable frozen record. Its model loads when a shard first needs it."""

    @property
    def device(self) -> str: ...


def finish_shards(
    finish: Callable[..., Result], job: Job, store: WorkStore, shards: Sequence[object], resources: ResourceParams
) -> Iterator[Result]:
    """`finish(job, store, shard)` of every shard, in shard order.

    executor local: in this process, each shard when it is asked for. executor ray: see r2a_core.workers; `finish` must
    be a function of a module, and the store's folder must lie on a file system that all nodes share.
    """
    if resources.executor == "local" or not shards:
        return (finish(job, store, shard) for shard in shards)
    from r2a_core.infra.ray import finish_on_ray

    return finish_on_ray(finish, job, store, shards, resources)


PACKAGES = ("r2a_core", "stages")


def code_files(script: Path, root: Path) -> list[Path]:
    """Files below `root` that `script` imports, itself included, transitively, sorted; empty __init__ files left out.

    Imports inside functions count. Paths are relative to `root`.
    """
    found: set[Path] = set()
    waiting = [script.resolve()]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += [target for target in imported_files(file, root) if target not in found]
    return sorted(file.relative_to(root.resolve()) for file in found if file.name != "__init__.py")


def imported_files(file: Path, root: Path) -> list[Path]:
    """Project files that `file` itself imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    candidates = [
        root.joinpath(*name.split(".")).with_suffix(".py") for name in names if name.split(".")[0] in PACKAGES
    ]
    return [path.resolve() for path in candidates if path.is_file()]


def code_digest(script: Path, root: Path) -> str:
    """SHA-256 over the names and contents of a script's code files."""
    digest = hashlib.sha256()
    for path in code_files(script, root):
        digest.update(f"{path.as_posix()}\0".encode())
        digest.update(hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()


def fingerprint(**parts: Any) -> str:
    """Digest of whatever a shard depends on, given as JSON-able values. 32 hex digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def folder_digest(folder: Path, without: Collection[str] = ()) -> str:
    """SHA-256 over the names and contents of a folder's files (of a prepared model, say), but those named `without`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in without):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
