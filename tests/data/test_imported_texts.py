"""Trace files: questions with their texts, and rows that contradict one another."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.data.imported_texts import ImportedText, load_traces, models_with_text, text_for
from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS

ROW: dict[str, Any] = {"model": "m-1", "setting": "with_reasoning", "unique_id": "q1", "problem": "1+1?"}
ROW |= {"response": "Two", "answer": "2", "subject": "Algebra", "level": 3}


def file(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "traces.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_one_id_are_one_question_with_several_texts(tmp_path: Path) -> None:
    rows = [
        ROW,
        ROW | {"unique_id": "q0", "problem": "Why?", "answer": None, "finish": "stop"},
        ROW | {"setting": "without_reasoning", "response": "2!"},
        ROW | {"model": "m-2", "response": "Zwei", "finish": "length"},
    ]
    loaded = load_traces(file(tmp_path, *rows))
    assert loaded.rejected == []
    first, second = loaded.items
    about = (first.item_id, first.question, first.gold, first.kind, first.subject, first.level)
    assert about == ("q1", "1+1?", "2", "math", "Algebra", "3")
    assert (second.item_id, second.gold, second.kind) == ("q0", None, "open")
    texts = [text_for(first, model, setting) for model in ("m-1", "m-2") for setting in SETTINGS]
    assert texts == [ImportedText("Two"), ImportedText("2!"), ImportedText("Zwei", "length"), None]
    assert text_for(second, "m-1", "with_reasoning") == ImportedText("Two", "stop")
    assert (models_with_text(first), models_with_text(second)) == (["m-1", "m-2"], ["m-1"])
    # subject and level may be absent
    (item,) = load_traces(file(tmp_path, {name: ROW[name] for name in ROW if name not in ("subject", "level")})).items
    assert (item.subject, item.level) == ("", "")


def test_texts_of_may_only_name_models_of_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, ROW, ROW | {"model": "m-2"})
    assert len(load_traces(path, {"ours": "m-2"}).items) == 1
    with pytest.raises(R2AError, match="has no texts of 'm2'") as caught:
        load_traces(path, {"ours": "m2"})
    assert caught.value.hint == "texts_of.ours: one of m-1, m-2"


def test_all_published_texts_import(reference: Path) -> None:
    path = reference / "math500_greedy_traces.parquet"
    loaded = load_traces(path)
    assert loaded.rejected == []
    frame = pl.read_parquet(path)
    assert frame.height == 276
    found = {
        (model, setting, item.item_id): text_for(item, model, setting)
        for item in loaded.items
        for model in models_with_text(item)
        for setting in SETTINGS
    }
    assert {key: text.content for key, text in found.items() if text is not None} == {
        (model, setting, unique_id): response
        for model, setting, unique_id, response in frame.select("model", "setting", "unique_id", "response").iter_rows()
    }
    golds = dict(frame.select("unique_id", "answer").iter_rows())
    assert {item.item_id: item.gold for item in loaded.items} == golds
