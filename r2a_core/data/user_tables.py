"""Reads a user's table file (parquet, JSONL, CSV) row by row: bad rows are left out with a reason, not guessed at.

file -> TableRow records -> records of the caller (questions, pairs), and RejectedRow records that give the number and
the reason. Rows count from 1; in a JSONL file that is the line, in a CSV file the record after the header.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import polars as pl

from r2a_core.infra.errors import R2AError, first_line
from r2a_core.infra.files import UNREADABLE

Record = TypeVar("Record")

LARGEST_FIELD = 1 << 30  # characters of one CSV field


@dataclass(frozen=True)
class RejectedRow:
    """A row left out: its number in the file, from 1, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Loaded(Generic[Record]):
    """Records of a source in its own order, and the rows that could not become one."""

    items: list[Record]
    rejected: list[RejectedRow]


@dataclass(frozen=True)
class TableRow:
    """One row: its number, and its values by column or the fault for which it has none."""

    number: int
    columns: dict[str, Any] | None
    fault: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Values by column. Raises R2AError with the fault of a row that could not be read."""
        if self.columns is None:
            raise R2AError(self.fault)
        return self.columns


def read_rows(path: Path, columns: Sequence[str]) -> list[TableRow]:
    """Reads all rows of a file. Raises R2AError for unknown formats, damaged or empty files and missing columns."""
    reader = READERS.get(path.suffix)
    if reader is None:
        raise R2AError(f"{path.name}: unknown format {path.suffix!r}", f"use one of {', '.join(READERS)}")
    try:
        rows = list(reader(path))
    except (*UNREADABLE, UnicodeDecodeError, csv.Error) as error:
        raise R2AError(
            f"{path.name} cannot be read: {first_line(error)}", "check the file, or fetch it again"
        ) from None
    if not rows:
        raise R2AError(f"{path.name} has no rows", "check that the file was written to its end")
    return with_columns(path, rows, columns)


def with_columns(path: Path, rows: list[TableRow], columns: Sequence[str]) -> list[TableRow]:
    """Returns the rows. Raises R2AError for a column that none of them has, unless none can be read."""
    present = {name: None for row in rows if row.columns is not None for name in row.columns}
    missing = [name for name in columns if name not in present]
    if missing and present:
        raise R2AError(
            f"{path.name} has no column {', '.join(missing)}", f"it has {', '.join(present)}; rename or add it"
        )
    return rows


def parquet_rows(path: Path) -> Iterator[TableRow]:
    for number, values in enumerate(pl.read_parquet(path).iter_rows(named=True), start=1):
        yield TableRow(number, values)


def jsonl_rows(path: Path) -> Iterator[TableRow]:
    """Yields one row per line that is not blank; a line that holds no JSON object is a fault."""
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line, object_pairs_hook=unique_fields)
            except (ValueError, RecursionError) as error:
                yield TableRow(number, None, f"the line is not JSON ({error})")
                continue
            is_object = isinstance(values, dict)
            yield TableRow(number, values) if is_object else TableRow(number, None, "the line is not a JSON object")


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a JSON object. Raises ValueError when it gives a field twice: json would silently keep the last."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values


def csv_rows(path: Path) -> Iterator[TableRow]:
    """Yields one row per record. Raises R2AError when two columns have one name."""
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        header = next(reader, [])
        if repeated := [name for name in header if header.count(name) > 1]:
            raise R2AError(f"{path.name} has two columns {repeated[0]!r}", "rename or remove one of them")
        for number, fields in enumerate((row for row in reader if row), start=1):
            if len(fields) == len(header):
                yield TableRow(number, dict(zip(header, fields, strict=True)))
            else:
                yield TableRow(number, None, f"it has {len(fields)} fields, the header {len(header)}")


READERS: dict[str, Callable[[Path], Iterator[TableRow]]] = {
    ".parquet": parquet_rows,
    ".jsonl": jsonl_rows,
    ".csv": csv_rows,
}


def collect(
    rows: Sequence[TableRow], make: Callable[[dict[str, Any]], Record], id_of: Callable[[Record], str]
) -> Loaded[Record]:
    """Makes a record of each row. A row whose `make` raises R2AError, or whose id came before, is rejected.

    Raises R2AError when no row is left.
    """
    items: list[Record] = []
    rejected: list[RejectedRow] = []
    seen: set[str] = set()
    for row in rows:
        try:
            item = make(row.values)
            for name, text in vars(item).items():
                encodable(text or "", name)
            if id_of(item) in seen:
                raise R2AError(f"the id {id_of(item)!r} came before")
        except R2AError as error:
            rejected.append(RejectedRow(row.number, error.message))
            continue
        seen.add(id_of(item))
        items.append(item)
    require_rows(items, rejected)
    return Loaded(items, rejected)


def require_rows(found: Sequence[Any], rejected: Sequence[RejectedRow]) -> None:
    """Raises R2AError, with the first reason, when nothing of a file could be used."""
    if not found:
        first = rejected[0]
        raise R2AError(f"no row could be used; row {first.row}: {first.reason}", "check the columns of the file")


def required_text(row: dict[str, Any], column: str) -> str:
    """Returns a non-empty text of a row. Raises R2AError saying what is there instead."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise R2AError(f"{column} is {'empty' if value in (None, '') else shortened(value)}, not a text")
    return encodable(value, column)


def optional_label(row: dict[str, Any], column: str) -> str:
    """Returns a short text or number of a row as text; empty where the column is absent or null.

    Raises R2AError for anything else, NaN included: as text it would pass for a label.
    """
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
        raise R2AError(f"{column} is {shortened(value)}, neither a text nor a number")
    return encodable(str(value), column)


def encodable(text: str, column: str) -> str:
    """Returns the text itself. Raises R2AError when it is no Unicode text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise R2AError(f"{column} has a lone surrogate at character {error.start}, which is no Unicode text") from None
    return text


def shortened(value: Any) -> str:
    """Shows what a field holds, for the reason of a rejection."""
    return repr(value)[:60]
