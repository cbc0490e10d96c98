"""Names in params and in files never lead out of their folders."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.activations.store import TRACES, ShardFolder, StoreKind
from r2a_core.config import DatasetParams, Params, parse, read_yaml
from r2a_core.data.prepare import load_dataset, local_file
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import write_frame
from r2a_core.patching.stage import CLEAN_RUNS
from tests.study import ROOT

ROW = {"unique_id": "u", "problem": "1+1?", "answer": "2", "subject": "", "level": 1}


@pytest.fixture
def imports(tmp_path: Path) -> Path:
    """imports/ with a file, a folder, and links that lead out of it; beside it a file that is none of its own."""
    folder = tmp_path / "imports"
    (folder / "sub").mkdir(parents=True)
    for path in (folder / "own.jsonl", folder / "sub" / "own.jsonl", tmp_path / "secret.jsonl"):
        path.write_text(json.dumps(ROW))
    (folder / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (folder / "out").symlink_to(tmp_path)
    (folder / "inner.jsonl").symlink_to(folder / "own.jsonl")
    (folder / "dangling.jsonl").symlink_to(tmp_path / "none.jsonl")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.jsonl", "sub/../../secret.jsonl", "./../secret.jsonl", "/etc/passwd", "//etc/passwd"),
        *("link.jsonl", "out/secret.jsonl", "sub/../link.jsonl"),
    ],
)
def test_a_file_outside_is_not_read(imports: Path, name: str) -> None:
    entry = {"kind": "math500", "instruction": "", "revision": "main", "file": name}
    params = parse(DatasetParams, entry, "datasets.x")
    with pytest.raises(R2AError, match="lies outside imports/") as caught:
        load_dataset(params, imports, "x")
    assert "copy it into" in caught.value.hint


@pytest.mark.parametrize("name", ["none.jsonl", "dangling.jsonl", "sub", ".", "", "own.jsonl/x", "a" * 300])
def test_a_name_of_no_file_is_said(imports: Path, name: str) -> None:
    with pytest.raises(R2AError, match="does not exist"):
        local_file(imports, name)
    for own in ("own.jsonl", "sub/own.jsonl", "inner.jsonl", "./own.jsonl"):
        assert local_file(imports, own).read_text() == json.dumps(ROW)


@pytest.mark.parametrize("section", ["models", "datasets"])
@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "a b", "a;b", "$(x)", "a\nb", "é", "-x", "a.b", 5])
def test_a_name_that_could_be_a_path_or_a_command_is_refused(section: str, name: Any) -> None:
    params = read_yaml(ROOT / "params.yaml")
    params[section][name] = {"kind": "texts"} if section == "models" else params["datasets"]["arithmetic"]
    with pytest.raises(R2AError, match="is no name") as caught:
        parse(Params, params, "")
    assert "letters, digits and _" in caught.value.hint


@pytest.mark.parametrize("kind", [TRACES, CLEAN_RUNS], ids=["traces", "clean runs"])
@pytest.mark.parametrize(
    "name",
    [
        *("../elsewhere/shard-00000.safetensors", "/tmp/shard-00000.safetensors", "..", "shard-0.safetensors", None),
        *("shard-00000.safetensors/../x", "shard-00000.bin", "shard-٠٠٠٠٠.safetensors"),
    ],
)
def test_an_index_names_shards_of_its_own_folder_only(tmp_path: Path, kind: StoreKind, name: str | None) -> None:
    row = dict.fromkeys(kind.schema) | {"shard": name}
    write_frame(tmp_path / "index.parquet", pl.DataFrame([row], dict(kind.schema)))
    with pytest.raises(R2AError, match="is no shard of its folder") as caught:
        ShardFolder(tmp_path, kind).shard(row)
    assert "dvc repro capture" in caught.value.hint
