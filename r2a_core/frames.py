"""Tables on disk: parquet files that carry a digest of their own bytes, and a reader that refuses damaged ones by name.

frame -> parquet file, written whole; parquet file -> frame with the columns asked for.

    pages | "sha256 " and 64 hex digits | footer | length of the footer, 4 bytes little endian | "PAR1"

The digest is of all bytes but itself. Parquet readers find pages by their offsets and the footer from the end, so any
of them reads such a file. Without a digest, four of ten flipped bits would pass unseen as other numbers or texts. A
file of another tool has none: of it only the form is checked.
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from r2a_core.errors import MissingPrerequisite, R2AError, first_line
from r2a_core.store import write_whole

MAGIC, LABEL = b"PAR1", b"sha256 "
TAIL = 8  # bytes after the footer: its length and the magic
BLOCK = len(LABEL) + 64  # bytes of the digest and its label
# What polars raises at a damaged file: its own errors, and, where a length in it lies, a panic, which is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Writes a frame as parquet with its digest, whole or not at all."""
    write_whole(path, lambda temporary: save_frame(temporary, frame))


def save_frame(path: Path, frame: pl.DataFrame) -> None:
    """Writes a frame as parquet with its digest to a path that somebody else makes whole (a shard of the work store).

    The bytes are made in memory: polars does not say why it cannot write, the operating system does.
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
    """The named columns of a parquet file, in that order; a mapping also says their types.

    Raises MissingPrerequisite when the file is absent, R2AError when it is damaged or lacks one of the columns; both
    name the stage to run.
    """
    if not path.is_file():
        raise MissingPrerequisite(f"{path} does not exist", f"build it with: dvc repro {stage}")
    again = f"delete it, then rebuild it with: dvc repro {stage}"
    if not digest_holds(path):
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
        raise R2AError(f"{path} is damaged or cut off: {first_line(error)}", again) from None


def digest_holds(path: Path) -> bool:
    """Whether a parquet file has the content it was written with; true of a file without a digest."""
    with path.open("rb") as file:
        footer = footer_place(file)
        if footer is None or footer < BLOCK:
            return True
        file.seek(footer - BLOCK)
        block = file.read(BLOCK)
        if not block.startswith(LABEL):
            return True
        return digest_around(file, footer - BLOCK, footer).encode() == block[len(LABEL) :]


def footer_place(file: BinaryIO) -> int | None:
    """Offset of the footer of an open parquet file; None where the file does not end as one."""
    size = file.seek(0, os.SEEK_END)
    if size < TAIL + len(MAGIC):
        return None
    file.seek(size - TAIL)
    tail = file.read(TAIL)
    place = size - TAIL - int.from_bytes(tail[:4], "little")
    return place if tail.endswith(MAGIC) and place >= len(MAGIC) else None


def digest_around(file: BinaryIO, start: int, stop: int) -> str:
    """Hex SHA-256 of an open file without its bytes `start` to `stop`."""
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
