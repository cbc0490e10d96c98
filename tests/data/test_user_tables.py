"""A user's table files: an impossible file is refused, an impossible row left out and said; nothing is guessed."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.data.hub import load_math500
from r2a_core.data.items import items_frame, read_items
from r2a_core.data.user_tables import read_rows
from r2a_core.infra.errors import R2AError

GOOD = {"unique_id": "u1", "problem": "1+1?", "answer": "2", "subject": "Algebra", "level": 3}
HEADER = "unique_id,problem,answer,subject,level"
CSV = f"{HEADER}\nu1,1+1?,2,Algebra,3\n"
SURROGATE = '"\\ud800"'


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def test_the_same_rows_come_from_every_format(tmp_path: Path) -> None:
    pl.DataFrame({"a": ["x\n1", "Zürich"], "b": ["y", '"q"']}).write_parquet(tmp_path / "t.parquet")
    jsonl = write(tmp_path / "t.jsonl", '{"a": "x\\n1", "b": "y"}\n{"a": "Zürich", "b": "\\"q\\""}\n')
    csv = write(tmp_path / "t.csv", '\ufeffa,b\n"x\n1",y\n"Zürich","""q"""\n')
    expected = [(1, {"a": "x\n1", "b": "y"}), (2, {"a": "Zürich", "b": '"q"'})]
    for path in (tmp_path / "t.parquet", jsonl, csv):
        assert [(row.number, row.values) for row in read_rows(path, ("a", "b"))] == expected


def test_faulty_rows_keep_their_number(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "t.jsonl", '{"a": 1}\n\nnot json\n[1]\n{"a": 2}\n'), ("a",))
    assert [row.number for row in rows] == [1, 3, 4, 5]
    assert [bool(row.fault) for row in rows] == [False, True, True, False]
    with pytest.raises(R2AError, match="not a JSON object"):
        _ = rows[2].values
    rows = read_rows(write(tmp_path / "t.csv", "a,b\n1,2\n3\n4,5,6\n"), ("a",))
    assert [row.fault for row in rows] == ["", "it has 1 fields, the header 2", "it has 3 fields, the header 2"]


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
