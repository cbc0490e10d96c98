"""Fits the page into report.megabytes: leaves out some of what is read one at a time, and says what.

the page's data, bytes too many -> data without the last texts, traces and pairs of the longest lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from r2a_core.report.encode import ascii_json


@dataclass(frozen=True)
class Shelf:
    """A list in each record of a section, the most wanted first."""

    section: str
    field: str
    noun: str
    least: int  # entries of each record that stay


SHELVES = (
    Shelf("evaluation", "texts", "texts of items", 10),
    Shelf("traces", "items", "traces", 1),
    Shelf("patching", "sweeps", "probes of patched pairs", 2),
)


def trimmed(data: Mapping[str, Any], excess: float) -> dict[str, Any]:
    """Leaves out `excess` bytes, shelf after shelf down to what stays, then down to nothing; less where there is less.

    left_out: what of the whole is still there, by noun.
    """
    kept = dict(data)
    for shelf in (*SHELVES, *(replace(each, least=0) for each in SHELVES)):
        kept[shelf.section], saved = shortened(kept[shelf.section], shelf, excess)
        excess -= saved
    counts = {each.noun: [entries(one[each.section], each) for one in (kept, data)] for each in SHELVES}
    left = [f"{now} of {all_} {noun}" for noun, (now, all_) in counts.items() if now < all_]
    return kept | {"left_out": left}


def entries(records: list[dict[str, Any]], shelf: Shelf) -> int:
    """Counts what is on a shelf, over all records."""
    return sum(len(record[shelf.field]) for record in records)


def shortened(records: list[dict[str, Any]], shelf: Shelf, excess: float) -> tuple[list[dict[str, Any]], int]:
    """Takes the last entry of the longest list until `excess` bytes are gone; returns the records and the bytes."""
    sizes = [[len(ascii_json(entry)) + 1 for entry in record[shelf.field]] for record in records]
    saved = 0
    while saved < excess and (longest := max(sizes, key=len, default=[])) and len(longest) > shelf.least:
        saved += longest.pop()
    kept = [record | {shelf.field: record[shelf.field][: len(own)]} for record, own in zip(records, sizes, strict=True)]
    return kept, saved
