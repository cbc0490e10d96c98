"""Reading the tables that earlier stages wrote: what is absent, damaged or of another form is named with a way out.

parquet file, schema -> frame of the schema's columns, in its order.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.errors import MissingPrerequisite, R2AError

# What polars raises at a damaged file: its own errors, and, where a length in it lies, a panic, which is no Exception.
UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


def read_stored(path: Path, schema: Mapping[str, Any], stage: str) -> pl.DataFrame:
    """The columns of `schema` of a file that `stage` wrote; further columns are left out.

    Raises MissingPrerequisite when the file is absent, R2AError when it cannot be read or lacks a column of that type.
    """
    if not path.is_file():
        raise MissingPrerequisite(f"{path} does not exist", f"build it with: dvc repro {stage}")
    rebuild = f"rebuild it with: dvc repro --force {stage}"
    try:
        frame = pl.read_parquet(path)
    except UNREADABLE as error:
        raise R2AError(f"{path} is damaged or cut off: {first_line(error)}", rebuild) from None
    if missing := [name for name in schema if name not in frame.columns]:
        raise R2AError(f"{path} has no column {', '.join(missing)}", rebuild)
    for name, wanted in schema.items():
        if frame.schema[name] != wanted:
            raise R2AError(f"{path}: the column {name} holds {frame.schema[name]}, not {wanted}", rebuild)
    return frame.select(list(schema))


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
