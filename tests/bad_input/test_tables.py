"""Dataset files: what no file can be is refused, what a row cannot be is left out and said; nothing is guessed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.config import FileDataset, HubDataset
from r2a_core.data.hub import load_math500, load_wildbench
from r2a_core.data.imported_texts import load_traces
from r2a_core.data.items import ITEM_SCHEMA, Item, items_frame, read_items
from r2a_core.data.pairs import read_pairs
from r2a_core.data.prepare import load_dataset

GOOD = {"unique_id": "u1", "problem": "1+1?", "answer": "2", "subject": "Algebra", "level": 3}
HEADER = "unique_id,problem,answer,subject,level"
CSV = f"{HEADER}\nu1,1+1?,2,Algebra,3\n"
SURROGATE = '"\\ud800"'

FILES: dict[str, tuple[str, bytes | str, str | list[str], str]] = {
    "an unknown format": ("m.xlsx", "x", "m.xlsx: unknown format '.xlsx'", "use one of .parquet, .jsonl, .csv"),
    "no format": ("m", "x", "m: unknown format ''", "use one of"),
    "an empty JSONL": ("m.jsonl", "", "m.jsonl has no rows", "written to its end"),
    "white space": ("m.jsonl", "\n \n\n", "m.jsonl has no rows", "written to its end"),
    "an empty CSV": ("m.csv", "", "m.csv has no rows", "written to its end"),
    "a CSV of its header": ("m.csv", f"{HEADER}\n", "m.csv has no rows", "written to its end"),
    "an empty parquet": ("m.parquet", "", "m.parquet cannot be read", "fetch it again"),
    "a parquet that is text": ("m.parquet", CSV, "m.parquet cannot be read", "fetch it again"),
    "a CSV that is a parquet": ("m.csv", b"PAR1\x00\xff\xfe\x00PAR1", "m.csv cannot be read", "fetch it again"),
    "UTF-16 JSONL": ("m.jsonl", json.dumps(GOOD).encode("utf-16"), "m.jsonl cannot be read", "check the file"),
    "Latin-1 JSONL": ("m.jsonl", '{"unique_id": "\xe4"}'.encode("latin-1"), "m.jsonl cannot be read", "check"),
    "Latin-1 CSV": ("m.csv", CSV.replace("u1", "\xe4").encode("latin-1"), "m.csv cannot be read", "check"),
    "an open quote": ("m.csv", f'{HEADER}\nu1,"1+1?,2,Algebra,3\n', "m.csv cannot be read", "check the file"),
    "text behind a quote": ("m.csv", f'{HEADER}\nu1,"1"+1,2,Algebra,3\n', "m.csv cannot be read", "check the file"),
    "semicolons": ("m.csv", CSV.replace(",", ";"), "m.csv has no column problem, answer", "rename or add it"),
    "no header": ("m.csv", CSV.partition("\n")[2] * 2, "m.csv has no column problem, answer", "it has u1, 1+1?"),
    "two columns of a name": ("m.csv", CSV.replace("level", "subject"), "two columns 'subject'", "rename or remove"),
    "a missing column": ("m.jsonl", '{"unique_id": "u", "problem": "p"}', "no column answer, subject, level", "add it"),
    "columns in capitals": ("m.csv", CSV.replace(HEADER, HEADER.upper()), "has no column problem", "UNIQUE_ID"),
    "all rows broken": ("m.jsonl", "{\n[]\n", "no row could be used; row 1: the line is not JSON", "check the columns"),
    "lines that are no objects": ("m.jsonl", "5\n[1]\n", "row 1: the line is not a JSON object", "check the columns"),
    "a line of brackets": ("m.jsonl", "[" * 100_000, "row 1: the line is not JSON", "check the columns"),
    "a number of 5000 digits": ("m.jsonl", '{"a": ' + "9" * 5000 + "}", "row 1: the line is not JSON", "check"),
    "a field given twice": ("m.jsonl", '{"a": 1, "a": 2}', "the field 'a' stands twice", "check the columns"),
    "short CSV rows": ("m.csv", f"{HEADER}\nu1,1\n", "row 1: it has 2 fields, the header 5", "check the columns"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used(refused, tmp_path: Path, case: str) -> None:
    name, content, says, hint = FILES[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: load_math500(tmp_path / name), says, hint)


def test_a_folder_is_no_file(refused, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").mkdir()
    params = HubDataset(kind="math500", instruction="", revision="main", file="m.jsonl")
    refused(lambda: load_dataset(params, tmp_path), "m.jsonl does not exist", "copy the file into")


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"unique_id": None}, "unique_id is empty, not a text"),
    "an empty id": ({"unique_id": ""}, "unique_id is empty, not a text"),
    "a blank id": ({"unique_id": " \t"}, "unique_id is ' \\t', not a text"),
    "an id that is a number": ({"unique_id": 7}, "unique_id is 7, not a text"),
    "an id that is a list": ({"unique_id": ["u"]}, "unique_id is ['u'], not a text"),
    "an id that came before": ({"unique_id": "u1"}, "the id 'u1' came before"),
    "no question": ({"problem": None}, "problem is empty, not a text"),
    "an empty question": ({"problem": ""}, "problem is empty, not a text"),
    "a question that is a number": ({"problem": 5}, "problem is 5, not a text"),
    "a question that is true": ({"problem": True}, "problem is True, not a text"),
    "a question that is a mapping": ({"problem": {"a": 1}}, "problem is {'a': 1}, not a text"),
    "no answer": ({"answer": None}, "answer is empty, not a text"),
    "an answer of white space": ({"answer": "\n"}, "answer is '\\n', not a text"),
    "an answer that is a number": ({"answer": 2}, "answer is 2, not a text"),
    "an answer that is NaN": ({"answer": float("nan")}, "answer is nan, not a text"),
    "half a character in the question": ({"problem": "a\ud800b"}, "problem has a lone surrogate at character 1"),
    "half a character in the answer": ({"answer": "\udfff"}, "answer has a lone surrogate at character 0"),
    "half a character in the id": ({"unique_id": "\ud800"}, "unique_id has a lone surrogate at character 0"),
    "half a character in the subject": ({"subject": "x\ud800"}, "subject has a lone surrogate at character 1"),
    "a subject that is a list": ({"subject": ["Algebra"]}, "subject is ['Algebra'], neither a text nor a number"),
    "a level that is NaN": ({"level": float("nan")}, "level is nan, neither a text nor a number"),
    "a level that is infinite": ({"level": float("inf")}, "level is inf, neither a text nor a number"),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_row_that_cannot_be_used_is_left_out_and_said(tmp_path: Path, case: str) -> None:
    change, reason = ROWS[case]
    rows = [GOOD, GOOD | {"unique_id": "u2"} | change, GOOD | {"unique_id": "u3"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_math500(tmp_path / "m.jsonl")
    assert [item.item_id for item in loaded.items] == ["u1", "u3"]
    assert [row.row for row in loaded.rejected] == [2]
    assert reason in loaded.rejected[0].reason
    assert items_frame(loaded.items).height == 2


def text_column(**change: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({name: [value] for name, value in GOOD.items()}).with_columns(**change)


PARQUET: dict[str, tuple[pl.DataFrame, str]] = {
    "ids of whole numbers": (text_column(unique_id=pl.Series([1])), "unique_id is 1, not a text"),
    "questions of bytes": (text_column(problem=pl.Series([b"1+1?"])), "problem is b'1+1?', not a text"),
    "questions of lists": (text_column(problem=pl.Series([["1+1?"]])), "problem is ['1+1?'], not a text"),
    "answers of floats": (text_column(answer=pl.Series([2.0])), "answer is 2.0, not a text"),
    "answers of nothing": (text_column(answer=pl.Series([None])), "answer is empty, not a text"),
    "subjects of records": (text_column(subject=pl.Series([{"a": 1}])), "subject is {'a': 1}, neither"),
}


@pytest.mark.parametrize("case", PARQUET)
def test_columns_of_another_type(refused, tmp_path: Path, case: str) -> None:
    frame, reason = PARQUET[case]
    frame.write_parquet(tmp_path / "m.parquet")
    refused(lambda: load_math500(tmp_path / "m.parquet"), ["no row could be used", reason], "check the columns")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_parquet_file_that_is_cut_off(refused, tmp_path: Path, share: float) -> None:
    path = tmp_path / "m.parquet"
    pl.DataFrame([GOOD | {"unique_id": f"u{n}"} for n in range(50)]).write_parquet(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refused(lambda: load_math500(path), "m.parquet cannot be read", "fetch it again")


def test_no_flipped_bit_of_a_parquet_file_ends_in_a_traceback(refused, tmp_path: Path) -> None:
    """Lengths in its footer may lie; what polars panics about is an error like others."""
    path = tmp_path / "m.parquet"
    pl.DataFrame([GOOD | {"unique_id": f"u{n}"} for n in range(20)]).write_parquet(path)
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    named = 0
    for place in range(footer, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            load_math500(path)
        except Exception as error:
            refused(lambda error=error: raise_(error), "", "")
            named += 1
    assert named > 20


def raise_(error: Exception) -> None:
    raise error


def test_odd_but_whole_texts_come_through_unchanged(tmp_path: Path) -> None:
    texts = ["a\0b", "x" * 2_000_000, "\ufeffq", "a\r\nb", "\u202e\U0001f600", '"quoted, twice"', "=1+1", "<script>"]
    rows = [GOOD | {"unique_id": f"../u/{n}", "problem": text} for n, text in enumerate(texts)]
    (tmp_path / "m.jsonl").write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_math500(tmp_path / "m.jsonl")
    assert [item.question for item in loaded.items] == texts
    items_frame(loaded.items).write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet") == loaded.items


def test_quoted_fields_of_a_csv_file_keep_their_commas_and_lines(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(f'\ufeff{HEADER}\r\nu1,"a, ""b""\r\nc",2,,\r\n'.encode())
    (item,) = load_math500(tmp_path / "m.csv").items
    assert (item.question, item.subject, item.level) == ('a, "b"\r\nc', "", "")


CHAT = {
    "session_id": "s",
    "conversation_input": [{"role": "user", "content": "Why?"}],
    "checklist": ["is it clear?"],
    "primary_tag": "Planning",
}
CHATS: dict[str, tuple[dict[str, Any], str]] = {
    "no id": ({"session_id": None}, "session_id is empty"),
    "maths": ({"primary_tag": "Math"}, "its primary tag is Math"),
    "an unknown tag": ({"primary_tag": "Knitting"}, "its primary tag 'Knitting' belongs to no area"),
    "a tag that is a list": ({"primary_tag": ["Planning"]}, "primary_tag is ['Planning'], not a text"),
    "no turns": ({"conversation_input": []}, "conversation_input has no user turn"),
    "nobody asks": ({"conversation_input": [{"role": "assistant", "content": "Hi"}]}, "has no user turn"),
    "turns in words": ({"conversation_input": "Why?"}, "conversation_input is neither a list nor JSON text"),
    "turns that are texts": ({"conversation_input": ["Why?"]}, "conversation_input is not a list of dict"),
    "a turn that says nothing": ({"conversation_input": [{"role": "user", "content": None}]}, "content is empty"),
    "a turn of nobody": ({"conversation_input": [{"content": "Why?"}]}, "conversation_input has no user turn"),
    "half a character": ({"conversation_input": [{"role": "user", "content": "\ud800"}]}, "content has a lone"),
    "a checklist of numbers": ({"checklist": [1]}, "checklist is not a list of str"),
    "half a character in the checklist": ({"checklist": ["\ud800"]}, "has a lone surrogate"),
}


@pytest.mark.parametrize("case", CHATS)
def test_a_conversation_that_cannot_be_used(refused, tmp_path: Path, case: str) -> None:
    change, reason = CHATS[case]
    (tmp_path / "w.jsonl").write_text(json.dumps(CHAT | change))
    refused(lambda: load_wildbench(tmp_path / "w.jsonl"), ["no row could be used", reason], "check the columns")


PAIR = {
    "case_id": "c1",
    "query_a": "Considering size, which is larger: ant or dog?",
    "answer_a": "dog",
    "query_b": "Considering number, which is larger: ant or dog?",
    "answer_b": "ant",
    "domain": "animals",
}
LONG = "Considering " + "x, which is: a or b" * 400
PAIRS: dict[str, tuple[dict[str, Any], str]] = {
    "another form": ({"query_a": "Which is larger?"}, "is not of the form 'Considering"),
    "another comparator": ({"query_b": "Considering x, which is smaller: ant or dog?"}, "the comparators differ"),
    "an answer that is no option": ({"answer_a": "cat"}, "the answer 'cat' is not one of the options"),
    "equal answers": ({"answer_b": "dog"}, "both answers are 'dog'"),
    "no answer": ({"answer_a": None}, "answer_a is empty"),
    "no id": ({"case_id": None}, "case_id is empty"),
    "an id that is a list": ({"case_id": ["c"]}, "case_id is ['c'], neither a text nor a number"),
    "half a character": ({"query_a": "\ud800"}, "query_a has a lone surrogate"),
    "half a character in the domain": ({"domain": "\ud800"}, "domain has a lone surrogate"),
    "a very long question": ({"query_a": LONG}, "a question has 7612 characters, more than 1000"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_a_pair_that_cannot_be_used(refused, tmp_path: Path, case: str) -> None:
    change, reason = PAIRS[case]
    (tmp_path / "p.jsonl").write_text(json.dumps(PAIR | change))
    refused(lambda: read_pairs(tmp_path / "p.jsonl"), ["no row could be used", reason], "check the columns")


TRACE = {
    "model": "m",
    "setting": "with_reasoning",
    "unique_id": "q",
    "problem": "1+1?",
    "response": "Hm.</think>2",
    "answer": "2",
    "subject": "Algebra",
    "level": 1,
}
TRACES: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": None}, "model is empty"),
    "a wrong setting": ({"setting": "with reasoning"}, "setting is 'with reasoning', not with_reasoning or"),
    "no setting": ({"setting": None}, "setting is empty"),
    "an empty response": ({"response": ""}, "response is empty"),
    "a response that is a list": ({"response": ["2"]}, "response is ['2'], not a text"),
    "half a character in the response": ({"response": "x\udc00"}, "response has a lone surrogate at character 1"),
    "an empty answer": ({"answer": " "}, "answer is empty; null stands for"),
    "an answer that is NaN": ({"answer": float("nan")}, "answer is nan, neither a text nor a number"),
    "an answer that is a list": ({"answer": ["2"]}, "answer is ['2'], neither a text nor a number"),
    "half a character in the answer": ({"answer": "\ud800"}, "answer has a lone surrogate"),
    "half a character in the subject": ({"subject": "\ud800"}, "subject has a lone surrogate"),
    "an unknown finish": ({"finish": "eos"}, "finish is 'eos', not stop or length"),
    "a finish that is a list": ({"finish": ["stop"]}, "finish is ['stop'], not stop or length"),
}


@pytest.mark.parametrize("case", TRACES)
def test_a_trace_that_cannot_be_used(refused, tmp_path: Path, case: str) -> None:
    change, reason = TRACES[case]
    (tmp_path / "t.jsonl").write_text(json.dumps(TRACE | change))
    refused(lambda: load_traces(tmp_path / "t.jsonl"), ["no row could be used", reason], "check the columns")


def test_a_trace_file_without_the_model_that_is_asked_for(refused, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(TRACE))
    params = FileDataset(kind="traces", instruction="", file="t.jsonl", texts_of={"ours": "n"})
    refused(lambda: load_dataset(params, tmp_path), "t.jsonl has no texts of 'n'", "texts_of.ours: one of m")


def item(**change: Any) -> dict[str, Any]:
    return vars(Item("a", "Q?", "1", "math")) | change


STORED: dict[str, tuple[Callable[[Path], Any], str | list[str], str]] = {
    "absent": (lambda path: None, "does not exist", "dvc repro prepare_dataset"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged or cut off", "delete it, then"),
    "no parquet": (lambda path: path.write_text("x"), "is damaged or cut off", "delete it, then"),
    "no columns": (
        lambda path: pl.DataFrame({"item_id": ["a"]}).write_parquet(path),
        "no column question",
        "delete it",
    ),
    "ids of numbers": (
        lambda path: pl.DataFrame([item(item_id=1)]).write_parquet(path),
        "the column item_id holds Int64, not String",
        "delete it, then",
    ),
    "a question that is null": (
        lambda path: pl.DataFrame([item(question=None)], schema=ITEM_SCHEMA).write_parquet(path),
        "the column question has an empty row",
        "delete it, then",
    ),
    "an unknown kind": (
        lambda path: pl.DataFrame([item(kind="essay")]).write_parquet(path),
        "an item is of the unknown kind 'essay'",
        "delete it, then",
    ),
    "an id twice": (
        lambda path: pl.DataFrame([item(), item()]).write_parquet(path),
        "holds two items 'a'",
        "delete it, then",
    ),
}


@pytest.mark.parametrize("case", STORED)
def test_a_stored_dataset_that_is_none(refused, tmp_path: Path, case: str) -> None:
    spoil, says, hint = STORED[case]
    spoil(tmp_path / "d.parquet")
    refused(lambda: read_items(tmp_path / "d.parquet"), says, hint)
