"""Entries of `models` in params.yaml become folders of one form; a stage that lacks something ends with code 3."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from r2a_core.config import HubModel, Tags, TextsModel
from r2a_core.models.pointer import ModelPointer, read_pointer
from r2a_core.models.prepare import prepare
from tests.study import ROOT, params_with, study_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = HubModel(kind="hub", hub_id="a/b", revision=COMMIT, dtype="bfloat16", tags=Tags())


def test_the_same_entry_gives_the_same_bytes_and_another_replaces_them_all(tmp_path: Path) -> None:
    for name in "ab":
        prepare(TextsModel(kind="texts"), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "tokenizer.json" in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    prepare(HUB, tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model.json"]
    assert read_pointer(tmp_path / "a") == ModelPointer("hub", "bfloat16", Tags(), "a/b", COMMIT)


@pytest.mark.parametrize(
    ("device", "cpu", "instructions", "expected"),
    [
        ("auto", "AVX512", True, "bfloat16"),
        ("cpu", "AVX512", False, "float32"),
        ("cpu", "AVX2", True, "float32"),  # instructions that the processor has and torch is told to leave
        ("cpu", "SVE256", False, "float32"),
        ("mps", "DEFAULT", False, "float32"),
        ("cuda", "AVX512", True, "float32"),  # no GPU here: loading says so
    ],
)
def test_auto_is_pinned_as_the_dtype_that_is_fast_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, cpu: str, instructions: bool, expected: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: cpu)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: instructions)
    prepare(HUB.model_copy(update={"dtype": "auto"}), tmp_path / "m", device=device)
    assert read_pointer(tmp_path / "m").dtype == expected
    prepare(HUB, tmp_path / "m", device=device)
    assert read_pointer(tmp_path / "m").dtype == "bfloat16"


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
