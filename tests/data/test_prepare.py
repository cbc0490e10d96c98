"""Entries of `datasets` in params.yaml: what is accepted, and what is loaded for them."""

from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import BuiltinDataset, DatasetParams, FileDataset, HubDataset, parse
from r2a_core.data.prepare import load_dataset
from r2a_core.infra.errors import R2AError

HUB = {"kind": "math500", "instruction": " Box it.", "revision": "main"}


def test_each_kind_has_its_record() -> None:
    built = parse(DatasetParams, {"kind": "arithmetic", "instruction": "", "n": 3, "seed": 0}, "datasets.a")
    assert built == BuiltinDataset(kind="arithmetic", instruction="", n=3, seed=0)
    assert parse(DatasetParams, HUB, "datasets.m") == HubDataset(
        kind="math500", instruction=" Box it.", revision="main", file=None
    )
    texts = {"kind": "traces", "instruction": "", "file": "t.parquet", "texts_of": {"r1": "r1-llama"}}
    assert parse(DatasetParams, texts, "datasets.t") == FileDataset(
        kind="traces", instruction="", file="t.parquet", texts_of={"r1": "r1-llama"}
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "maths"}, r"datasets\.x\.kind is 'maths'"),
        (None, r"datasets\.x must be a mapping"),
        (HUB | {"revison": "main"}, "unknown key 'revison'"),
        ({"kind": "math500", "instruction": ""}, r"datasets\.x\.revision"),
        ({"kind": "arithmetic", "instruction": "", "n": 0, "seed": 0}, r"datasets\.x\.n.*greater than 0"),
        ({"kind": "arithmetic", "instruction": "", "n": True, "seed": 0}, r"datasets\.x\.n must be a valid integer"),
        ({"kind": "traces", "instruction": "", "file": "t", "texts_of": {"a": 1}}, r"datasets\.x\.texts_of\.a"),
    ],
)
def test_impossible_entries_are_refused(values: Any, message: str) -> None:
    with pytest.raises(R2AError, match=message) as caught:
        parse(DatasetParams, values, "datasets.x")
    assert caught.value.hint


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    (tmp_path / "imports").mkdir()
    return tmp_path / "imports"


def test_an_absent_file_is_named_with_what_to_do(imports: Path) -> None:
    (imports / "folder.jsonl").mkdir()
    for name in ("math.jsonl", "folder.jsonl"):
        params = HubDataset(kind="math500", instruction="", revision="main", file=name)
        with pytest.raises(R2AError, match=f"imports/{name} does not exist") as caught:
            load_dataset(params, imports)
        assert "copy the file" in caught.value.hint


def test_a_local_file_goes_before_the_hub(imports: Path) -> None:
    (imports / "m.jsonl").write_text(
        '{"problem": "1+1?", "answer": "2", "subject": "Algebra", "level": 1, "unique_id": "u"}\n'
    )
    loaded = load_dataset(HubDataset(kind="math500", instruction="", revision="main", file="m.jsonl"), imports)
    assert [(item.item_id, item.gold) for item in loaded.items] == [("u", "2")]


def test_pairs_are_counted_in_pairs_and_loaded_as_questions(imports: Path) -> None:
    for values in ({"kind": "pairs_table", "n": 2}, {"kind": "generated_pairs", "n": 2, "seed": 0}):
        items = load_dataset(parse(DatasetParams, {"instruction": "", **values}, "datasets.p"), imports).items
        assert [item.item_id.rpartition("-")[2] for item in items] == ["clean", "corrupted"] * 2
