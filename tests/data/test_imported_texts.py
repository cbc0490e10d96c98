"""Trace files: questions with their texts, and rows that contradict one another."""

import json
import sys
import zipfile
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


USER = {"role": "user", "content": "1+1?"}
CHATS: list[tuple[str, dict[str, Any], Any]] = [
    # name, fields of the line -> its text, or words of the reason why it is left out
    ("reasoning_content", {"reply": {"reasoning_content": "Hm.", "content": "2"}}, ImportedText("2", "stop", "Hm.")),
    ("reasoning", {"reply": {"reasoning": "Hm.", "content": "2"}}, ImportedText("2", "stop", "Hm.")),
    ("tags", {"reply": {"content": "<think>\nHm.</think>2"}}, ImportedText("<think>\nHm.</think>2", "stop")),
    (
        "blocks",
        {"reply": {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "2"}]}},
        ImportedText("2", "stop", "Hm."),
    ),
    (
        "cut off",
        {"reply": {"reasoning_content": "Hm.", "content": None}, "finish_reason": "length"},
        ImportedText("", "length", "Hm."),
    ),
    ("filtered", {"reply": {"content": "2"}, "finish_reason": "content_filter"}, "ended by 'content_filter'"),
    ("redacted", {"reply": {"content": [{"type": "reasoning", "reasoning": "x", "redacted": True}]}}, "redacted"),
    ("an image", {"reply": {"content": [{"type": "image", "image": "x"}]}}, "a block of type 'image'"),
    ("tools", {"reply": {"content": "2", "tool_calls": [{}]}}, "calls of tools"),
    ("nothing", {"reply": {"content": ""}}, "response is empty"),
    (
        "two turns",
        {"messages": [USER, {"role": "assistant"}, USER, {"role": "assistant"}]},
        "one reply: user, assistant",
    ),
    ("no list", {"messages": "1+1?"}, "messages is '1+1?', not a list"),
]


@pytest.mark.parametrize(("name", "fields", "expected"), CHATS, ids=[case[0] for case in CHATS])
def test_chat_messages_are_texts(tmp_path: Path, name: str, fields: dict[str, Any], expected: Any) -> None:
    reply = {"role": "assistant"} | fields.get("reply", {})
    good = {
        "id": 7,
        "messages": [{"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "2"}],
    }
    line = {"id": 8, "model": "m", "answer": "2", "messages": [{"role": "user", "content": f"{name}?"}, reply]} | fields
    loaded = load_traces(file(tmp_path, good, line))
    first = loaded.items[0]
    assert (first.item_id, first.question, first.gold) == ("7", "1+1?", None)
    assert text_for(first, "traces", "without_reasoning") == ImportedText("2", "stop")  # the file's name, no model
    if isinstance(expected, str):
        (rejected,) = loaded.rejected
        assert rejected.row == 2
        assert expected in rejected.reason
        return
    second = loaded.items[1]
    assert (second.item_id, second.question, second.gold) == ("8", f"{name}?", "2")
    assert text_for(second, "m", "with_reasoning") == expected


def test_messages_without_an_id_are_one_question_when_they_ask_the_same(tmp_path: Path) -> None:
    lines = [{"model": model, "messages": [USER, {"role": "assistant", "content": "2"}]} for model in ("a", "b")]
    (item,) = load_traces(file(tmp_path, *lines)).items
    assert models_with_text(item) == ["a", "b"]


def inspect_sample(name: str, epoch: int = 1, **fields: Any) -> dict[str, Any]:
    blocks = [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "attachment://abc"}]
    choice = {"message": {"role": "assistant", "content": blocks}, "stop_reason": "stop"}
    sample = {"id": name, "epoch": epoch, "input": "1+1?", "target": "2", "output": {"choices": [choice]}}
    return sample | {"attachments": {"abc": "2"}, "metadata": {"level": 3}} | fields


SAMPLES = [
    inspect_sample("again", 2),
    inspect_sample("again"),
    inspect_sample("asked", input=[{"role": "system", "content": "x"}, USER], target=["2"]),
    inspect_sample("options", input="Which?", choices=["1", "2"], messages=[USER, {"role": "assistant"}], target="B"),
    inspect_sample("failed", error={"message": "x"}),
    inspect_sample("silent", output={"choices": []}),
    inspect_sample("several", target=["2", "two"]),
]


@pytest.mark.parametrize("suffix", [".json", ".eval"])
def test_logs_of_inspect_are_texts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"log{suffix}"
    header = {"version": 2, "status": "success", "eval": {"model": "vllm/m-1"}}
    if suffix == ".json":
        path.write_text(json.dumps(header | {"samples": SAMPLES}))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
            log.writestr("_journal/start.json", json.dumps(header))
            for sample in SAMPLES:
                log.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    loaded = load_traces(path, {"ours": "vllm/m-1"})
    about = [(item.item_id, item.question, item.gold, item.level) for item in loaded.items]
    assert about == [("again", "1+1?", "2", "3"), ("asked", "1+1?", "2", "3"), ("options", "1+1?", "B", "3")]
    assert {text_for(item, "vllm/m-1", "with_reasoning") for item in loaded.items} == {ImportedText("2", "stop", "Hm.")}
    reasons = [each.reason for each in loaded.rejected]
    wanted = ("ended in an error", "no output", "2 targets", "came before")
    assert [words for words, reason in zip(wanted, reasons, strict=True) if words not in reason] == []


BROKEN: dict[str, tuple[bytes, str, str]] = {
    "no.json": (b"[1]", "cannot be read as a log", "an inspect_ai log"),
    "empty.json": (b'{"eval": {"model": "m"}, "samples": []}', "has no samples", "--to json"),
    "no.eval": (b"PK", "cannot be read as a log", "an inspect_ai log"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_log_says_so(tmp_path: Path, refused: Any, name: str) -> None:
    content, says, hint = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    refused(lambda: load_traces(tmp_path / name), says, hint)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python reads it")
def test_a_log_compressed_with_zstd_says_how_to_convert_it(tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("header.json", "{}")
    method = (93).to_bytes(2, "little")  # zstd
    content = path.read_bytes()
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.index(mark) + offset
        content = content[:place] + method + content[place + 2 :]
    path.write_bytes(content)
    refused(lambda: load_traces(path), "compressed with zstd", "inspect log convert --to json")


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
