"""Tables on disk: any reader reads them, a flipped bit anywhere is found, and what is wrong is named with a way out."""

import hashlib
import random
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import read_frame, write_frame

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
    assert pq.read_table(file).to_pydict() == table.to_dict(as_series=False)
    before, after = file.read_bytes().split(b"sha256 ")
    assert after[:64].decode() == hashlib.sha256(before + after[64:]).hexdigest()
    assert pq.read_metadata(file).serialized_size == len(after) - 64 - 8


def test_equal_frames_give_equal_bytes_and_no_temporary_file_stays(file: Path, table: pl.DataFrame) -> None:
    again = file.with_name("again.parquet")
    write_frame(again, table)
    assert again.read_bytes() == file.read_bytes()
    assert sorted(path.name for path in file.parent.iterdir()) == ["again.parquet", "table.parquet"]


def flipped(whole: bytes, place: int, bit: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]


def test_a_flipped_bit_anywhere_in_the_content_is_found(file: Path) -> None:
    whole, draw = file.read_bytes(), random.Random(0)
    label = whole.index(b"sha256 ")
    places = [place for place in range(len(whole)) if not label <= place < label + len(b"sha256 ")]
    for place in draw.sample(places, FLIPS):
        file.write_bytes(flipped(whole, place, draw.randrange(8)))
        with pytest.raises(R2AError, match="is damaged") as caught:
            read_frame(file, SCHEMA, "generate")
        assert str(file) in caught.value.message
        assert caught.value.hint == "delete it, then rebuild it with: dvc repro generate"


def test_a_flipped_bit_of_the_label_leaves_the_table_as_it_was(file: Path, table: pl.DataFrame) -> None:
    whole = file.read_bytes()
    file.write_bytes(flipped(whole, whole.index(b"sha256 "), 0))
    assert read_frame(file, SCHEMA, "generate").equals(table)


def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for size in random.Random(1).sample(range(len(whole)), CUTS):
        file.write_bytes(whole[:size])
        with pytest.raises(R2AError, match="is damaged"):
            read_frame(file, SCHEMA, "generate")


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
