"""Writes files whole or not at all, tables with a digest of their bytes, metrics as JSON; reports a full disk.

frame -> parquet file -> frame with the columns asked for; record -> JSON file. A file is written to a temporary name,
synced and renamed, so a reader never sees half of it. A table carries a digest:

    pages | "sha256 " and 64 hex digits | footer | length of the footer, 4 bytes little endian | "PAR1"

The digest covers all bytes but itself. Parquet readers find pages by their offsets and the footer from the end, so any
of them can read such a file. Without a digest, four of ten flipped bits would go unnoticed as other numbers or texts.
Files of other tools have none; only their form is checked.
"""

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from r2a_core.infra.errors import MissingPrerequisite, R2AError, first_line

TEMPORARY = ".tmp-"  # how names of unfinished files start

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)

MEGABYTE = 10**6


@contextmanager
def disk_errors(temporary: Path | None, path: Path) -> Iterator[None]:
    """Turns errors of a full or read-only disk into MissingPrerequisite, and removes the half-written file.

    Library errors are recognised by the OS errno in their message.
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
    """Returns the errno of a full or read-only disk, or None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        number = error.errno
    else:
        found = re.search(r"os error (\d+)", str(error))
        number = int(found[1]) if found else None
    return number if number in (*FULL, *FORBIDDEN) else None


def disk_trouble(path: Path, number: int, written: int = 0) -> MissingPrerequisite:
    """Makes the error that names the place, its free space and a hint. written: bytes before the failure."""
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
    """Computes the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path, without: Collection[str] = (), digest_of: Callable[[Path], str] = sha256) -> str:
    """Returns the SHA-256 over the names and contents of a folder's files.

    without: patterns, in lower case, of file and folder names that do not count, such as "*.md". Unfinished files and
    what Python compiles never do. digest_of: gives the SHA-256 of one file.
    """
    patterns = ("__pycache__", f"{TEMPORARY}*", *without)
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        inside = path.relative_to(folder)
        if not any(fnmatchcase(part.lower(), pattern) for part in inside.parts for pattern in patterns):
            digest.update(f"{inside.as_posix()}\0".encode(errors="surrogateescape"))
            digest.update(bytes.fromhex(digest_of(path)))
    return digest.hexdigest()


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


def write_whole(path: Path, write: Callable[[Path], object], writer: str = "") -> None:
    """Calls `write` with a temporary name beside `path` and renames the result: readers see whole files only.

    writer: keeps temporary names apart where several processes may write the file at once. Raises MissingPrerequisite
    when the disk is full or read-only.
    """
    temporary = path.with_name(f"{TEMPORARY}{writer}{path.name}")
    with disk_errors(temporary, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        replace_synced(temporary, path)


def write_text_whole(path: Path, text: str, writer: str = "") -> None:
    """Writes a small text file, whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), writer)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes metrics or a summary as JSON, whole or not at all (see `json_text`)."""
    write_text_whole(path, json_text(record))


def json_text(record: Mapping[str, Any]) -> str:
    """Formats a record as JSON: keys in the order given, indented by 2, one trailing newline, floats rounded.

    Floats keep 6 decimals, those below 0.001 in size 6 significant digits (a p of 1e-10 must not become 0). Tuples
    become lists. Raises R2AError, naming the key, when a number is NaN or infinite; None becomes null.
    """
    return json.dumps(_rounded(record, ""), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner, f"{key}[{place}]") for place, inner in enumerate(value)]
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise R2AError(f"{key} of a summary is {value}", "look for NaN in the tables that it sums up")
    return round(value, 6) if abs(value) >= 1e-3 else float(f"{value:.6g}")


def link_or_copy(source: Path, target: Path) -> None:
    """Makes `target` a hard link to `source`, or a copy where the file system has no hard links."""
    with disk_errors(target, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


MAGIC, LABEL = b"PAR1", b"sha256 "

TAIL = 8  # bytes after the footer: its length and the magic

BLOCK = len(LABEL) + 64  # bytes of the digest and its label

# What polars raises at a damaged file: its own errors, and, for a wrong length, a panic, which is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Writes a frame as parquet with its digest, whole or not at all."""
    write_whole(path, lambda temporary: save_frame(temporary, frame))


def save_frame(path: Path, frame: pl.DataFrame) -> None:
    """Writes a frame as parquet with its digest to a path that the caller renames (a shard of the work store).

    The bytes are built in memory, because polars hides why a write fails and the operating system does not.
    """
    stream = io.BytesIO()
    frame.write_parquet(stream)
    place = footer_place(stream)
    assert place is not None
    content = stream.getbuffer()
    digest = digest_around(stream, place, place)
    with path.open("wb") as file:
        file.write(content[:place])
        file.write(LABEL + digest.encode())
        file.write(content[place:])


def read_frame(path: Path, columns: Mapping[str, Any] | Sequence[str], stage: str) -> pl.DataFrame:
    """Reads the named columns of a parquet file, in that order; a mapping also gives their types.

    Raises MissingPrerequisite when the file is absent or the machine cannot read it, R2AError when it is damaged or
    lacks one of the columns; both name the stage to run.
    """
    if not path.is_file():
        raise MissingPrerequisite(f"{path} does not exist", f"build it with: dvc repro {stage}")
    again = f"delete it, then rebuild it with: dvc repro {stage}"
    sound = digest_holds(path)
    if sound is False:
        raise R2AError(f"{path} is damaged: its content does not match the digest it was written with", again)
    try:
        schema = pl.read_parquet_schema(path)
        if missing := [name for name in columns if name not in schema]:
            raise R2AError(f"{path} has no column {', '.join(missing)}", again)
        if isinstance(columns, Mapping):
            for name, kind in columns.items():
                if schema[name] != kind:
                    raise R2AError(f"{path}: the column {name} holds {schema[name]}, not {kind}", again)
        return pl.read_parquet(path, columns=list(columns))
    except UNREADABLE as error:
        if sound:
            hint = "look at what this machine lacks: threads, memory, open files"
            raise MissingPrerequisite(f"{path} is whole but cannot be read: {first_line(error)}", hint) from None
        raise R2AError(f"{path} is damaged or cut off: {first_line(error)}", again) from None


def digest_holds(path: Path) -> bool | None:
    """Checks that a parquet file has the content it was written with; None for a file without a digest."""
    with path.open("rb") as file:
        footer = footer_place(file)
        if footer is None or footer < BLOCK:
            return None
        file.seek(footer - BLOCK)
        block = file.read(BLOCK)
        if not block.startswith(LABEL):
            return None
        return digest_around(file, footer - BLOCK, footer).encode() == block[len(LABEL) :]


def footer_place(file: BinaryIO) -> int | None:
    """Finds the offset of the footer of an open parquet file; None if the file does not end like one."""
    size = file.seek(0, os.SEEK_END)
    if size < TAIL + len(MAGIC):
        return None
    file.seek(size - TAIL)
    tail = file.read(TAIL)
    place = size - TAIL - int.from_bytes(tail[:4], "little")
    return place if tail.endswith(MAGIC) and place >= len(MAGIC) else None


def digest_around(file: BinaryIO, start: int, stop: int) -> str:
    """Computes the SHA-256 of an open file without its bytes `start` to `stop`, in hex."""
    digest = hashlib.sha256()
    file.seek(0)
    left = start
    while left and (part := file.read(min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    file.seek(stop)
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()
