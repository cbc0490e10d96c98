"""Rows of local files: three formats, and every fault reported by its number and reason."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from r2a_core.data.items import Item, items_frame, read_items
from r2a_core.data.user_tables import read_rows, text_of
from r2a_core.infra.errors import R2AError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def test_the_same_rows_come_from_every_format(write: Write, tmp_path: Path) -> None:
    pl.DataFrame({"a": ["x\n1", "Zürich"], "b": ["y", '"q"']}).write_parquet(tmp_path / "t.parquet")
    jsonl = write("t.jsonl", '{"a": "x\\n1", "b": "y"}\n{"a": "Zürich", "b": "\\"q\\""}\n')
    csv = write("t.csv", '\ufeffa,b\n"x\n1",y\n"Zürich","""q"""\n')
    expected = [(1, {"a": "x\n1", "b": "y"}), (2, {"a": "Zürich", "b": '"q"'})]
    for path in (tmp_path / "t.parquet", jsonl, csv):
        assert [(row.number, row.values) for row in read_rows(path, ("a", "b"))] == expected


def test_faulty_rows_keep_their_number(write: Write) -> None:
    rows = read_rows(write("t.jsonl", '{"a": 1}\n\nnot json\n[1]\n{"a": 2}\n'), ("a",))
    assert [row.number for row in rows] == [1, 3, 4, 5]
    assert [bool(row.fault) for row in rows] == [False, True, True, False]
    with pytest.raises(R2AError, match="not a JSON object"):
        _ = rows[2].values
    rows = read_rows(write("t.csv", "a,b\n1,2\n3\n4,5,6\n"), ("a",))
    assert [row.fault for row in rows] == ["", "it has 1 fields, the header 2", "it has 3 fields, the header 2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.xlsx", "", "unknown format '.xlsx'"),
        ("t.parquet", "no parquet at all", r"t\.parquet cannot be read"),
        ("t.jsonl", b'{"a": "\xff"}', r"t\.jsonl cannot be read"),
        ("t.csv", 'a,b\n"1,2\n', r"t\.csv cannot be read"),
        ("t.jsonl", "", "has no rows"),
        ("t.csv", "a,b\n", "has no rows"),
        ("t.csv", "a,c\n1,2\n", "no column b"),
    ],
)
def test_files_that_cannot_be_used_say_why(write: Write, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(R2AError, match=message) as caught:
        read_rows(write(name, content), ("a", "b"))
    assert caught.value.hint


def test_a_missing_column_names_those_that_are_there(write: Write) -> None:
    with pytest.raises(R2AError) as caught:
        read_rows(write("t.jsonl", '{"question": "x", "gold": "y"}\n'), ("problem", "gold"))
    assert "no column problem" in caught.value.message
    assert "question, gold" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "reason"),
    [(None, "a is empty"), ("", "a is empty"), (7, "a is 7"), ("  ", "a is '  '"), ("x\ud800", "lone surrogate")],
)
def test_a_text_is_a_text(value: object, reason: str) -> None:
    with pytest.raises(R2AError, match=reason):
        text_of({"a": value}, "a")


def test_items_come_back_as_they_were(tmp_path: Path) -> None:
    items = [Item("b", "Q\u2028\x00?", None, "open", "s", "5", '{"x": 1}'), Item("a", "Q", "1", "math")]
    items_frame(items).write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet") == items
    with pytest.raises(R2AError, match="item 2 repeats the id 'b'"):
        items_frame([*items, items[0]])
    pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / "j.parquet")
    with pytest.raises(R2AError, match="no column question, gold"):
        read_items(tmp_path / "j.parquet")
