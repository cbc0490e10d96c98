"""The work store: finished shards of an expensive stage, kept outside the DVC outputs so that a killed run resumes.

A shard is one file named by its fingerprint, with a `.sha256` file beside it that is written last:

    <root>/<stage>/<item>/<fingerprint><suffix>          the shard
    <root>/<stage>/<item>/<fingerprint><suffix>.sha256   hex digest of the shard; without it the shard is not finished
    <root>/<stage>/<item>.lock                           held (flock) by the one run that may write this item

A shard is written to a temporary name, synced and renamed, so a run killed at any moment loses at most the shard it was
working on. Outputs are assembled from the store at the end and equal those of an undisturbed run.
"""

import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from r2a_core.errors import MissingPrerequisite, R2AError

log = logging.getLogger(__name__)
TEMPORARY = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
MEGABYTE = 10**6


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


@contextmanager
def disk_errors(temporary: Path | None, path: Path) -> Iterator[None]:
    """Turns a disk that is full or not to be written into MissingPrerequisite, and removes the half-written file.

    What a library raises in its own way is told by the operating system's error number in its text.
    """
    try:
        yield
    except Exception as error:
        number = disk_error_number(error)
        if number is None:
            raise
        written = temporary.stat().st_size if temporary is not None and temporary.is_file() else 0
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise disk_trouble(path, number, written) from None


def disk_error_number(error: BaseException) -> int | None:
    """The operating system's number of a full or forbidden disk, or None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
    else:
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else None
    return number if number in (*FULL, *FORBIDDEN) else None


def disk_trouble(path: Path, number: int, written: int = 0) -> MissingPrerequisite:
    """The error that names the place, what it has and what to do. written: bytes of the file before the disk ended."""
    reason = os.strerror(number)
    if number in FORBIDDEN:
        return MissingPrerequisite(
            f"{path} cannot be written: {reason}", f"permit writing to {path.parent}, then run dvc repro again"
        )
    place = next(each for each in path.parents if each.is_dir())
    free = shutil.disk_usage(place).free / MEGABYTE
    return MissingPrerequisite(
        f"{path} cannot be written: {reason} after {written / MEGABYTE:.1f} MB; {place} has {free:.1f} MB free",
        "free some space there, then run dvc repro again: finished shards are kept",
    )


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def replace_synced(temporary: Path, path: Path) -> None:
    """Renames a finished temporary file to its name, after its bytes and then its folder entry reached the disk."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write` with a temporary name beside `path` and renames the result: readers see whole files only."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    with disk_errors(temporary, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        replace_synced(temporary, path)


def write_text_whole(path: Path, text: str) -> None:
    """A small text file, whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_whole(path, write)


def link_or_copy(source: Path, target: Path) -> None:
    """`target` with the content of `source`: a hard link where the file system has them, else a copy."""
    with disk_errors(target, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
