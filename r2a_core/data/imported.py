"""Dataset kind `traces`: texts that models have written before, imported instead of generated.

A parquet or JSONL file, one row a text, with columns model, setting, unique_id, problem, response, answer, subject,
level (the last two may be absent). `response` is the full text from BOS to EOS, or the response alone. Rows with one
unique_id are one question; its texts travel in the question's `extra`, as {"texts": {model: {setting: text}}}.
"""

import json
from pathlib import Path
from typing import Any

from r2a_core.data.items import Item
from r2a_core.data.tables import LoadedItems, RejectedRow, label_of, read_rows, refuse_none, text_of
from r2a_core.errors import R2AError

COLUMNS = ("model", "setting", "unique_id", "problem", "response", "answer")
SETTINGS = ("with_reasoning", "without_reasoning")


def load_traces(path: Path) -> LoadedItems:
    """Questions of a trace file in order of first appearance, and the rows left out with the reason."""
    questions: dict[str, dict[str, Any]] = {}
    texts: dict[str, dict[str, dict[str, str]]] = {}
    rejected: list[RejectedRow] = []
    for row in read_rows(path, COLUMNS):
        try:
            item_id = text_of(row.values, "unique_id")
            add_text(texts.setdefault(item_id, {}), row.values, questions.get(item_id))
        except R2AError as error:
            rejected.append(RejectedRow(row.number, error.message))
            continue
        questions.setdefault(item_id, row.values)
    refuse_none(list(questions), rejected)
    return LoadedItems([to_item(row, texts[item_id]) for item_id, row in questions.items()], rejected)


def add_text(texts: dict[str, dict[str, str]], row: dict[str, Any], first: dict[str, Any] | None) -> None:
    """Files one row's text under its model and setting. Raises R2AError for rows that contradict another."""
    model, setting = text_of(row, "model"), text_of(row, "setting")
    response = text_of(row, "response")
    text_of(row, "problem")
    if setting not in SETTINGS:
        raise R2AError(f"setting is {setting!r}, not {' or '.join(SETTINGS)}")
    for column in ("problem", "answer"):
        if first is not None and first.get(column) != row.get(column):
            raise R2AError(f"the {column} of {row['unique_id']!r} differs from an earlier row")
    if setting in texts.get(model, {}):
        raise R2AError(f"{model}, {setting}, {row['unique_id']!r} came before")
    texts.setdefault(model, {})[setting] = response


def to_item(row: dict[str, Any], texts: dict[str, dict[str, str]]) -> Item:
    """One question with all its texts."""
    gold = row.get("answer")
    return Item(
        item_id=row["unique_id"],
        question=row["problem"],
        gold=None if gold is None else str(gold),
        kind="open" if gold is None else "math",
        subject=label_of(row, "subject"),
        level=label_of(row, "level"),
        extra=json.dumps({"texts": texts}, sort_keys=True, ensure_ascii=False),
    )


def text_for(item: Item, model: str, setting: str) -> str | None:
    """The imported text of a question, or None where the file had none for this model and setting."""
    return json.loads(item.extra).get("texts", {}).get(model, {}).get(setting)
