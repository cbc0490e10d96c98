"""Entries of `models` in params.yaml become folders of one form; a stage that lacks something ends with code 3."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import HubModel, LocalModel, ModelParams, Tags, TextsModel, parse
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.models.load import load_tokenizer
from r2a_core.models.pointer import ModelPointer, read_pointer
from r2a_core.models.prepare import prepare
from tests.study import ROOT, params_with, study_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAGS = {"bos": None, "eos": "<|im_end|>", "think_open": "<think>", "think_close": "</think>"}
HUB = {"kind": "hub", "hub_id": "a/b", "revision": COMMIT, "dtype": "bfloat16", "tags": TAGS}


def test_each_kind_has_its_record() -> None:
    assert parse(ModelParams, HUB, "models.x") == HubModel(
        kind="hub", hub_id="a/b", revision=COMMIT, dtype="bfloat16", tags=Tags(bos=None, eos="<|im_end|>")
    )
    assert parse(ModelParams, {"kind": "texts"}, "models.x") == TextsModel(kind="texts", tags=Tags())
    local = {"kind": "local", "path": "~/m", "dtype": "float32", "tags": TAGS}
    assert isinstance(parse(ModelParams, local, "models.x"), LocalModel)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "api"}, r"models\.x\.kind is 'api'"),
        ({}, r"models\.x\.kind is missing"),
        ({key: HUB[key] for key in HUB if key != "revision"}, r"models\.x\.revision"),
        (HUB | {"hub_id": "no owner"}, r"models\.x\.hub_id"),
        (HUB | {"dtype": "float8"}, r"models\.x\.dtype"),
        (HUB | {"tags": TAGS | {"think": "x"}}, "unknown key 'think'"),
        (HUB | {"path": "m"}, "unknown key 'path'"),
    ],
)
def test_impossible_entries_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(R2AError, match=message) as caught:
        parse(ModelParams, values, "models.x")
    assert caught.value.hint


def test_a_hub_model_is_a_small_pointer_file(tmp_path: Path) -> None:
    prepare(HubModel(kind="hub", hub_id="a/b", revision=COMMIT, dtype="bfloat16", tags=Tags()), tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.json"]
    assert read_pointer(tmp_path / "m") == ModelPointer("hub", "bfloat16", Tags(), "a/b", COMMIT)


def test_a_local_model_is_known_by_its_weights(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    params = LocalModel(kind="local", path=str(tmp_path / "weights"), dtype="float32", tags=Tags())
    with pytest.raises(MissingPrerequisite):
        prepare(params, tmp_path / "m")
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").write_text("w")
    first = prepare(params, tmp_path / "m")
    (tmp_path / "weights" / "model.safetensors").write_text("v")
    assert prepare(params, tmp_path / "m").weights != first.weights


def test_a_model_of_texts_is_the_built_in_tokenizer_with_its_own_tags(tmp_path: Path) -> None:
    tags = Tags(bos=None, eos="<|im_end|>", think_open="[THINK]", think_close="[/THINK]")
    prepare(TextsModel(kind="texts", tags=tags), tmp_path / "m")
    text = load_tokenizer(tmp_path / "m")
    assert text.ids.bos is None
    assert len({text.ids.eos, text.ids.think_open, text.ids.think_close}) == 3
    plain = "Größe: \\(x^2\\)\r\n\t 数学 🙂 a b ."
    assert text.hf.decode(text.hf.encode(plain, add_special_tokens=False)) == plain


def test_a_folder_prepared_before_is_replaced_as_a_whole(tmp_path: Path) -> None:
    prepare(TextsModel(kind="texts"), tmp_path / "m")
    assert (tmp_path / "m" / "tokenizer.json").is_file()
    prepare(HubModel(kind="hub", hub_id="a/b", revision=COMMIT, dtype="bfloat16", tags=Tags()), tmp_path / "m")
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["model.json"]


def test_the_same_entry_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        prepare(TextsModel(kind="texts"), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("stage", "name", "hint"),
    [
        ("prepare_model", "far", "take the model out of run.models"),
        ("prepare_dataset", "math500", "copy test.jsonl into imports/"),
    ],
)
def test_a_stage_without_the_hub_ends_with_code_3_and_a_hint(tmp_path: Path, stage: str, name: str, hint: str) -> None:
    far = {"kind": "hub", "hub_id": "a/b", "revision": "main", "dtype": "float32", "tags": {}}
    math500 = {"kind": "math500", "instruction": "", "revision": "main"}
    project = study_folder(tmp_path / "study", params_with(models={"far": far}, datasets={"math500": math500}))
    command = [sys.executable, "-m", f"stages.{stage}", name]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(project / "hub"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    last = done.stderr.strip().splitlines()
    assert last[-2].startswith("error: ")
    assert "HF_HUB_OFFLINE is set" in last[-2]
    assert last[-1].startswith("hint: ")
    assert hint in last[-1]
    assert "Traceback" not in done.stderr
    assert not list(project.rglob("*.parquet"))
