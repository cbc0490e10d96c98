"""Entries of `datasets` in params.yaml: what is loaded for them."""

import json
from pathlib import Path

import pytest

from r2a_core.config import DatasetParams, HubDataset, parse
from r2a_core.data.prepare import load_dataset
from r2a_core.infra.pins import content_digest


def test_a_local_file_goes_before_the_hub_once_it_is_pinned(refused, tmp_path: Path) -> None:
    def load(pin: str | None = None) -> list[tuple[str, str | None]]:
        params = HubDataset(kind="math500", instruction="", revision="main", file="m.jsonl", sha256=pin)
        return [(item.item_id, item.gold) for item in load_dataset(params, tmp_path, "maths").items]

    assert refused(load, "m.jsonl does not exist", "copy the file").exit_code == 3
    row = {"problem": "1+1?", "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "u"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    pin = content_digest(tmp_path / "m.jsonl")
    refused(load, "datasets.maths.sha256 is null", f"datasets.maths.sha256: {pin}")
    assert load(pin) == [("u", "2")]
    (tmp_path / "m.jsonl").write_text(json.dumps(row | {"answer": "3"}))
    refused(lambda: load(pin), "m.jsonl is not what datasets.maths.sha256 says", "put the old content back")


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "pairs_table", "n": 2},
        {"kind": "generated_pairs", "n": 2, "seed": 0},
        {"kind": "context_pairs", "n": 2, "seed": 0},
    ],
)
def test_pairs_are_counted_in_pairs_and_loaded_as_questions(tmp_path: Path, values: dict) -> None:
    items = load_dataset(parse(DatasetParams, {"instruction": "", **values}, "datasets.p"), tmp_path, "p").items
    assert [item.item_id.rpartition("-")[2] for item in items] == ["clean", "corrupted"] * 2
