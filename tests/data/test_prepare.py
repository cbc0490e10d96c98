"""Entries of `datasets` in params.yaml: what is loaded for them."""

import json
from pathlib import Path

import pytest

from r2a_core.config import DatasetParams, HubDataset, parse
from r2a_core.data.prepare import load_dataset
from r2a_core.infra.errors import R2AError


def test_a_local_file_goes_before_the_hub_or_is_named(tmp_path: Path) -> None:
    params = HubDataset(kind="math500", instruction="", revision="main", file="m.jsonl")
    with pytest.raises(R2AError, match=r"m\.jsonl does not exist") as caught:
        load_dataset(params, tmp_path)
    assert "copy the file" in caught.value.hint
    row = {"problem": "1+1?", "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "u"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    assert [(item.item_id, item.gold) for item in load_dataset(params, tmp_path).items] == [("u", "2")]


@pytest.mark.parametrize("values", [{"kind": "pairs_table", "n": 2}, {"kind": "generated_pairs", "n": 2, "seed": 0}])
def test_pairs_are_counted_in_pairs_and_loaded_as_questions(tmp_path: Path, values: dict) -> None:
    items = load_dataset(parse(DatasetParams, {"instruction": "", **values}, "datasets.p"), tmp_path).items
    assert [item.item_id.rpartition("-")[2] for item in items] == ["clean", "corrupted"] * 2
