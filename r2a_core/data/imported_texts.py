"""Loads the dataset kind `traces`: texts that models have written before, imported instead of generated.

A table file with one row per text, chat messages, or a log of inspect_ai (r2a_core.data.chat_texts) -> rows with the
columns model, setting, unique_id, problem, response, answer, subject, level (the last two may be absent). `response` is
the full text from BOS to EOS, or the response alone. A column finish (stop or length) tells whether a text ended by
itself where its EOS was cut off; a column reasoning holds the reasoning where it is kept apart. Rows with one unique_id
are one question; its texts travel in its `extra`, as {"texts": {model: {setting: {"content": ..., "finish": ...}}}}.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r2a_core.data.chat_texts import LOGS, log_rows, message_row
from r2a_core.data.items import Item
from r2a_core.data.user_tables import (
    Loaded,
    RejectedRow,
    TableRow,
    optional_label,
    read_rows,
    require_rows,
    required_text,
    with_columns,
)
from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS

COLUMNS = ("model", "setting", "unique_id", "problem", "response", "answer")

FINISHES = ("stop", "length")


@dataclass(frozen=True)
class ImportedText:
    """One text; finish is None where only its EOS can tell."""

    content: str
    finish: str | None = None  # stop | length
    reasoning: str | None = None  # where the file keeps it apart; content is then the answer


Texts = dict[str, dict[str, ImportedText]]  # by model, then by setting


def load_traces(path: Path, texts_of: Mapping[str, str] | None = None) -> Loaded[Item]:
    """Loads the questions of a trace file in order of first appearance, and the rows left out with the reason.

    `texts_of`: our model name -> model name in the file. Raises R2AError when it names a model that the file lacks.
    """
    questions: dict[str, dict[str, Any]] = {}
    texts: dict[str, Texts] = {}
    rejected: list[RejectedRow] = []
    for row in trace_rows(path):
        try:
            item_id = required_text(row.values, "unique_id")
            add_text(texts.setdefault(item_id, {}), row.values, questions.get(item_id))
        except R2AError as error:
            rejected.append(RejectedRow(row.number, error.message))
            continue
        questions.setdefault(item_id, row.values)
    require_rows(list(questions), rejected)
    found = sorted({model for models in texts.values() for model in models})
    for ours, theirs in (texts_of or {}).items():
        if theirs not in found:
            raise R2AError(f"{path.name} has no texts of {theirs!r}", f"texts_of.{ours}: one of {', '.join(found)}")
    return Loaded([to_item(row, texts[item_id]) for item_id, row in questions.items()], rejected)


def trace_rows(path: Path) -> list[TableRow]:
    """Reads a file as rows with COLUMNS. Raises R2AError as `read_rows` and `log_rows`."""
    if path.suffix in LOGS:
        return log_rows(path)
    rows = read_rows(path, ())
    if any("messages" in (row.columns or ()) for row in rows):
        rows = [message_row(row, path.stem) for row in rows]
    return with_columns(path, rows, COLUMNS)


def add_text(texts: Texts, row: dict[str, Any], first: dict[str, Any] | None) -> None:
    """Files one row's text under its model and setting. Raises R2AError for rows that contradict another."""
    model, setting, finish = required_text(row, "model"), required_text(row, "setting"), row.get("finish")
    reasoning = row.get("reasoning")
    response = required_text(row, "response" if reasoning is None else "reasoning")
    required_text(row, "problem")
    for column in ("subject", "level"):
        optional_label(row, column)
    if setting not in SETTINGS:
        raise R2AError(f"setting is {setting!r}, not {' or '.join(SETTINGS)}")
    if finish is not None and finish not in FINISHES:
        raise R2AError(f"finish is {finish!r}, not {' or '.join(FINISHES)}")
    if row.get("answer") is not None and not optional_label(row, "answer").strip():
        raise R2AError("answer is empty; null stands for a question without an exact answer")
    for column in ("problem", "answer"):
        if first is not None and first.get(column) != row.get(column):
            raise R2AError(f"the {column} of {row['unique_id']!r} differs from an earlier row")
    if setting in texts.get(model, {}):
        raise R2AError(f"{model}, {setting}, {row['unique_id']!r} came before")
    texts.setdefault(model, {})[setting] = ImportedText(
        response if reasoning is None else optional_label(row, "response"), finish, reasoning
    )


def to_item(row: dict[str, Any], texts: Texts) -> Item:
    """Makes an item of one question with all its texts."""
    gold = row.get("answer")
    records = {model: {setting: record(each) for setting, each in texts[model].items()} for model in texts}
    return Item(
        item_id=row["unique_id"],
        question=row["problem"],
        gold=None if gold is None else optional_label(row, "answer"),
        kind="open" if gold is None else "math",
        subject=optional_label(row, "subject"),
        level=optional_label(row, "level"),
        extra=json.dumps({"texts": records}, sort_keys=True, ensure_ascii=False),
    )


def record(text: ImportedText) -> dict[str, Any]:
    """Returns what `extra` holds of a text: reasoning only where it is kept apart."""
    return {name: value for name, value in asdict(text).items() if name != "reasoning" or value is not None}


def models_with_text(item: Item) -> list[str]:
    """Names the models, as the file does, that have a text to this question."""
    return sorted(json.loads(item.extra).get("texts", {}))


def text_for(item: Item, model: str, setting: str) -> ImportedText | None:
    """Returns the imported text of a question, None where the file had none for this model and setting."""
    found = json.loads(item.extra).get("texts", {}).get(model, {}).get(setting)
    return None if found is None else ImportedText(**found)
