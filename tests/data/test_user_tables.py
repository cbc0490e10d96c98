"""A user's table files: an impossible file is refused, an impossible row left out and said; nothing is guessed."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.data.hub import load_math500, load_wildbench
from r2a_core.data.imported_texts import load_traces
from r2a_core.data.items import items_frame, read_items
from r2a_core.data.pairs import load_pairs
from r2a_core.data.user_tables import read_rows
from r2a_core.infra.errors import R2AError

GOOD = {"unique_id": "u1", "problem": "1+1?", "answer": "2", "subject": "Algebra", "level": 3}
REFUSED = json.loads((Path(__file__).parent / "refused.json").read_text(encoding="utf-8"))


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode())
    return path


def test_the_same_rows_come_from_every_format(tmp_path: Path) -> None:
    rows = [{"a": "x,\r\n1", "b": "y"}, {"a": "Zürich", "b": '"q"'}]
    pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    jsonl = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    csv = write(tmp_path / "t.csv", '\ufeffa,b\r\n"x,\r\n1",y\r\n"Zürich","""q"""\r\n')
    expected = list(enumerate(rows, 1))
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


LONG = [{"content": "[" * 100_000}, {"content": '{"a": ' + "9" * 5000 + "}"}]
LONG = [case | {"case": "a long line", "file": "m.jsonl", "says": "row 1: the line is not JSON"} for case in LONG]


@pytest.mark.parametrize("case", REFUSED["files"] + LONG, ids=lambda case: case["case"])
def test_a_file_that_cannot_be_used(refused, tmp_path: Path, case: dict[str, str]) -> None:
    path = tmp_path / case["file"]
    path.write_bytes(case["content"].encode(case.get("encoding", "utf-8")))
    refused(lambda: load_math500(path), case["says"], case.get("hint", "check the columns"))


ASKED = [f"Considering {aspect}, which is larger: ant or dog?" for aspect in ("size", "number")]
PAIR = {"case_id": "c1", "domain": "d", "answer_a": "dog", "answer_b": "ant", "query_a": ASKED[0], "query_b": ASKED[1]}
LONG_PAIR = {"query_a": "Considering " + "x, which is: a or b" * 400}
CHAT = {"session_id": "s", "primary_tag": "Planning", "conversation_input": [{"role": "user", "content": "Why?"}]}
TRACE = GOOD | {"model": "m-1", "setting": "with_reasoning", "unique_id": "q1", "response": "Two"}
KINDS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {  # a loader, a good row, what makes another of it
    "math500_rows": (load_math500, GOOD, {"unique_id": "u2"}),
    "conversations": (load_wildbench, CHAT | {"checklist": []}, {"session_id": "t"}),
    "trace_rows": (load_traces, TRACE, {}),
    "pairs": (load_pairs, PAIR, {"case_id": "c2"}),
}
ROWS = [(kind, change, reason) for kind in KINDS for change, reason in REFUSED[kind]]
ROWS.append(("pairs", LONG_PAIR, "a question has 7612 characters, more than 1000"))


@pytest.mark.parametrize(("kind", "change", "reason"), ROWS, ids=lambda part: str(part)[:40])
def test_a_row_that_cannot_be_used_is_left_out_and_said(
    tmp_path: Path, kind: str, change: dict[str, Any], reason: str
) -> None:
    load, good, another = KINDS[kind]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (good, good | another | change)))
    loaded = load(tmp_path / "m.jsonl")
    assert len(loaded.items) == 1
    assert [row.row for row in loaded.rejected] == [2]
    assert reason in loaded.rejected[0].reason


COLUMNS: list[tuple[str, Any, str]] = [
    ("problem", b"1+1?", "problem is b'1+1?', not a text"),
    ("answer", 2.0, "answer is 2.0, not a text"),
    ("subject", {"a": 1}, "subject is {'a': 1}, neither"),
]


@pytest.mark.parametrize(("column", "value", "reason"), COLUMNS)
def test_parquet_columns_of_another_type(refused, tmp_path: Path, column: str, value: Any, reason: str) -> None:
    pl.DataFrame([GOOD | {column: value}]).write_parquet(tmp_path / "m.parquet")
    refused(lambda: load_math500(tmp_path / "m.parquet"), ["no row could be used", reason], "check the columns")


def test_no_parquet_file_cut_off_or_with_a_flipped_bit_ends_in_a_traceback(refused, tmp_path: Path) -> None:
    """Lengths in its footer may lie; what polars panics about is an error like others."""
    path = tmp_path / "m.parquet"
    pl.DataFrame([GOOD | {"unique_id": f"u{n}"} for n in range(20)]).write_parquet(path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(lambda: load_math500(path), "m.parquet cannot be read", "fetch it again")
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    named = 0
    for place in range(footer, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with suppress(R2AError):  # any other kind goes through
            load_math500(path)
            continue
        named += 1
    assert named > 20


def test_odd_but_whole_texts_come_through_unchanged(tmp_path: Path) -> None:
    texts = ["a\0b", "x" * 2_000_000, "\ufeffq", "a\r\nb", "\u202e\U0001f600", '"quoted, twice"', "=1+1", "<script>"]
    rows = [GOOD | {"unique_id": f"../u/{n}", "problem": text} for n, text in enumerate(texts)]
    (tmp_path / "m.jsonl").write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_math500(tmp_path / "m.jsonl")
    assert [item.question for item in loaded.items] == texts
    items_frame(loaded.items).write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet") == loaded.items
