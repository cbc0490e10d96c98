"""Dataset items: the record every dataset is reduced to, and its parquet file (data/datasets/<dataset>.parquet)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from r2a_core.errors import R2AError

Kind = Literal["math", "open", "comparison"]
ITEM_SCHEMA = {
    "item_id": pl.String,
    "question": pl.String,
    "gold": pl.String,
    "kind": pl.String,
    "subject": pl.String,
    "level": pl.String,
    "extra": pl.String,
}


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


def items_frame(items: Sequence[Item]) -> pl.DataFrame:
    """Items as a frame in their own order. Raises R2AError when two share an item_id."""
    seen: set[str] = set()
    for number, item in enumerate(items):
        if item.item_id in seen:
            raise R2AError(f"item {number} repeats the id {item.item_id!r}", "give every item an id of its own")
        seen.add(item.item_id)
    return pl.DataFrame([asdict(item) for item in items], schema=ITEM_SCHEMA)


def read_items(path: Path) -> list[Item]:
    """Items of a dataset parquet file, in file order. Raises R2AError when a column is missing."""
    frame = pl.read_parquet(path)
    missing = [name for name in ITEM_SCHEMA if name not in frame.columns]
    if missing:
        raise R2AError(f"{path} has no column {', '.join(missing)}", "rebuild it with: dvc repro prepare_dataset")
    return [Item(**row) for row in frame.select(list(ITEM_SCHEMA)).iter_rows(named=True)]
