"""docs/data.md says what the schemas and the tables say."""

from pathlib import Path

import polars as pl
import pytest

from tools import data_docs

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD = {"pair_id": ["a", "b"], "kept": [True, False], "reason": [None, "two tokens"]}


def test_the_page_is_what_the_schemas_give() -> None:
    assert (ROOT / "docs" / "data.md").read_text(encoding="utf-8") == data_docs.render()


def test_a_table_is_held_against_the_closest_pattern(tmp_path: Path) -> None:
    (folder := tmp_path / "pairs").mkdir()
    pl.DataFrame(GOOD, schema=data_docs.SELECTION_SCHEMA).write_parquet(folder / "selected.parquet")
    assert list(data_docs.faults(tmp_path)) == []
    pl.DataFrame(GOOD, schema=data_docs.SELECTION_SCHEMA).write_parquet(folder / "model.parquet")
    assert [fault.partition(":")[0] for fault in data_docs.faults(tmp_path)] == ["pairs/model.parquet"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("answer", [0.5, 1.5], "answer lies in 0.5 .. 1.5"),
        ("walk_correlation", [-1.25, 0.0], "walk_correlation lies in -1.25 .. 0.0"),
        ("layer", [-1, 0], "layer lies in -1 .. 0"),
        ("source", ["answer", "question"], "source holds ['question']"),
        ("centroid", [[0.5, float("nan")], [2.0]], "centroid lies in 0.5 .. 2.0"),
    ],
)
def test_a_value_beyond_its_range_is_named(column: str, values: list[object], said: str) -> None:
    table = next(each for each in data_docs.TABLES if each.schema is data_docs.ATTENTION_SCHEMA)
    frame = pl.DataFrame({name: [None, None] for name in table.schema}, schema=dict(table.schema))
    assert list(data_docs.table_faults(table, frame, Path("x"))) == []
    wrong = frame.with_columns(pl.Series(column, values, dtype=table.schema[column]))
    assert [said in fault for fault in data_docs.table_faults(table, wrong, Path("x"))] == [True]
