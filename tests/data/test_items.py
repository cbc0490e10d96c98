"""Items as a dataset file holds them."""

from pathlib import Path

import pytest

from r2a_core.data.items import Item, items_frame, read_items
from r2a_core.infra.errors import MissingPrerequisite, R2AError


def test_items_come_back_as_they_were(tmp_path: Path) -> None:
    items = [Item("b", "Q\u2028\x00?", None, "open", "s", "5", '{"x": 1}'), Item("a", "Q", "1", "math")]
    items_frame(items).write_parquet(tmp_path / "i.parquet")
    assert read_items(tmp_path / "i.parquet") == items
    with pytest.raises(R2AError, match="item 2 repeats the id 'b'"):
        items_frame([*items, items[0]])
    with pytest.raises(MissingPrerequisite, match="does not exist") as caught:
        read_items(tmp_path / "absent.parquet")
    assert "dvc repro prepare_dataset" in caught.value.hint
