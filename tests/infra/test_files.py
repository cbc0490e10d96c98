"""Files on disk: whole or not there, a flipped bit anywhere in a table is found, metrics are written in one way."""

import hashlib
import json
import math
import random
from pathlib import Path

import polars as pl
import pytest

from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import json_text, link_or_copy, read_frame, write_frame, write_json, write_whole

SCHEMA = {"item_id": pl.String, "ids": pl.List(pl.Int32), "score": pl.Float64}
FLIPS, CUTS = 400, 60


@pytest.fixture
def table() -> pl.DataFrame:
    rows = [{"item_id": f"item-{n}", "ids": list(range(n % 7)), "score": n / 3} for n in range(200)]
    return pl.DataFrame(rows, schema=SCHEMA)


@pytest.fixture
def file(tmp_path: Path, table: pl.DataFrame) -> Path:
    path = tmp_path / "data" / "table.parquet"
    write_frame(path, table)
    return path


def test_other_readers_read_the_file_and_its_digest_is_of_all_other_bytes(file: Path, table: pl.DataFrame) -> None:
    assert read_frame(file, SCHEMA, "generate").equals(table)
    assert pl.read_parquet(file).equals(table)
    assert pl.scan_parquet(file).select("score").collect().equals(table.select("score"))
    before, after = file.read_bytes().split(b"sha256 ")
    assert after[:64].decode() == hashlib.sha256(before + after[64:]).hexdigest()
    again = file.with_name("again.parquet")
    write_frame(again, table)
    assert again.read_bytes() == file.read_bytes()
    assert sorted(path.name for path in file.parent.iterdir()) == ["again.parquet", "table.parquet"]


def flipped(whole: bytes, place: int, bit: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]


def test_a_flipped_bit_anywhere_in_the_content_is_found(file: Path, table: pl.DataFrame) -> None:
    whole, draw = file.read_bytes(), random.Random(0)
    label = whole.index(b"sha256 ")
    places = [place for place in range(len(whole)) if not label <= place < label + len(b"sha256 ")]
    for place in draw.sample(places, FLIPS):
        file.write_bytes(flipped(whole, place, draw.randrange(8)))
        with pytest.raises(R2AError, match="is damaged") as caught:
            read_frame(file, SCHEMA, "generate")
        assert str(file) in caught.value.message
        assert caught.value.hint == "delete it, then rebuild it with: dvc repro generate"
    file.write_bytes(flipped(whole, label, 0))  # of the label alone
    assert read_frame(file, SCHEMA, "generate").equals(table)


def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for size in random.Random(1).sample(range(len(whole)), CUTS):
        file.write_bytes(whole[:size])
        with pytest.raises(R2AError, match="is damaged"):
            read_frame(file, SCHEMA, "generate")


def test_what_the_machine_lacks_is_no_damage_of_a_sound_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("OS can't spawn worker thread")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(MissingPrerequisite, match="is whole but cannot be read: OS can't spawn") as caught:
        read_frame(file, SCHEMA, "generate")
    assert "threads" in caught.value.hint
    assert "delete" not in caught.value.hint


def test_a_missing_file_names_the_stage_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisite, match="does not exist") as caught:
        read_frame(tmp_path / "none.parquet", SCHEMA, "patch")
    assert caught.value.hint == "build it with: dvc repro patch"


def test_a_foreign_table_is_named_by_its_columns_and_their_types(tmp_path: Path, table: pl.DataFrame) -> None:
    path = tmp_path / "foreign.parquet"
    table.drop("ids").write_parquet(path)  # as another tool writes it, without a digest
    with pytest.raises(R2AError, match="has no column ids"):
        read_frame(path, SCHEMA, "generate")
    table.with_columns(pl.col("score").cast(pl.Float32)).write_parquet(path)
    with pytest.raises(R2AError, match="the column score holds Float32, not Float64"):
        read_frame(path, SCHEMA, "generate")
    assert read_frame(path, ["score"], "generate").columns == ["score"]
    path.write_bytes(b"PAR1 not a table PAR1")
    with pytest.raises(R2AError, match="damaged"):
        read_frame(path, SCHEMA, "generate")


def test_old_content_stays_when_writing_fails_and_goes_when_a_file_is_linked(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def broken(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, broken)
    assert path.read_text() == "old"
    (tmp_path / "a").write_text("new")
    link_or_copy(tmp_path / "a", path)
    assert path.read_text() == "new"


def test_a_library_s_own_error_about_the_disk_is_understood(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise RuntimeError("while serializing: I/O error: Read-only file system (os error 30)")

    with pytest.raises(MissingPrerequisite, match="cannot be written: Read-only file system"):
        write_whole(tmp_path / "a.parquet", refuse)


NUMBERS = [
    *((-2.5, "-2.5"), (0.0, "0.0"), (3, "3"), (True, "true"), (None, "null"), ("Δ", '"Δ"')),
    *((0.123456789, "0.123457"), (1234.56789012, "1234.56789")),
    *((0.00099999949, "0.000999999"), (1.234567891e-10, "1.23457e-10")),
]


def test_every_value_is_written_in_one_way_and_keys_stay_in_their_order(tmp_path):
    for value, written in NUMBERS:
        assert json_text({"x": value}) == f'{{\n  "x": {written}\n}}\n'
    path = tmp_path / "new" / "metrics.json"
    write_json(path, {"b": (0.1234567, {"z": 1, "a": 2}), "a": []})
    assert (
        path.read_text()
        == '{\n  "b": [\n    0.123457,\n    {\n      "z": 1,\n      "a": 2\n    }\n  ],\n  "a": []\n}\n'
    )
    assert json.loads(path.read_text()) == {"b": [0.123457, {"z": 1, "a": 2}], "a": []}
    assert [each.name for each in path.parent.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_by_its_key(tmp_path, value):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(R2AError, match=r"a\.b\[1\]\.c of a summary is -?(nan|inf)"):
        write_json(path, {"a": {"b": [0.5, {"c": value}]}})
    assert path.read_text() == "old"
