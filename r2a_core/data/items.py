"""Dataset items: the record every dataset is reduced to, and its parquet file (data/datasets/<dataset>.parquet)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame

Kind = Literal["math", "open", "comparison", "gym"]

ITEM_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "question": pl.String,
    "gold": pl.String,
    "kind": pl.String,
    "subject": pl.String,
    "level": pl.String,
    "extra": pl.String,
}


# Columns of data/pairs/selected.parquet.
SELECTION_SCHEMA = {"pair_id": pl.String, "kept": pl.Boolean, "reason": pl.String}


@dataclass(frozen=True)
class Item:
    """One question. gold is None where no exact answer exists (kind `open`); extra is JSON text."""

    item_id: str
    question: str
    gold: str | None
    kind: Kind
    subject: str = ""
    level: str = ""
    extra: str = "{}"


@dataclass(frozen=True)
class QuestionPair:
    """A clean and a corrupted question with opposite answers, whether read from a file or generated."""

    pair_id: str
    clean_question: str
    clean_answer: str
    corrupted_question: str
    corrupted_answer: str
    comparator: str
    domain: str


def choice(options: Sequence[str]) -> dict[str, Any]:
    """Returns what `extra` holds of a question with options: them, in its order, and the chance of guessing right."""
    return {"options": list(options), "chance": 1 / len(options)}


def items_frame(items: Sequence[Item]) -> pl.DataFrame:
    """Puts items into a frame, in their order. Raises R2AError when two share an item_id."""
    seen: set[str] = set()
    for number, item in enumerate(items):
        if item.item_id in seen:
            raise R2AError(f"item {number} repeats the id {item.item_id!r}", "give every item an id of its own")
        seen.add(item.item_id)
    return pl.DataFrame([asdict(item) for item in items], schema=ITEM_SCHEMA)


def read_items(path: Path) -> list[Item]:
    """Reads the items of a dataset, in file order. Raises what `read_frame` raises."""
    return [Item(**row) for row in read_frame(path, ITEM_SCHEMA, "prepare_dataset").iter_rows(named=True)]
