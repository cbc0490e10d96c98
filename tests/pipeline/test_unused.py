"""A name less in `run`: what dvc.lock records is what a run without that name would have recorded."""

import logging
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from stages._study import open_study
from tests.pipeline.conftest import FILES, READERS, copy_code, lock_all
from tests.study import ROOT, params_with, write_params

MATRICES = {
    name: list(stage.get("matrix", ()))
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}
GONE = {
    "models": "data/attention/tiny_llama",
    "readers": "data/attention/r1_qwen_7b",
    "datasets": "data/datasets/comparison.parquet",
    "settings": "data/generations/tiny_llama/comparison/without_reasoning.parquet",
}


def study(root: Path, **run: list[Any]) -> Path:
    """A copy of the project's code and params whose stages have all run."""
    root.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, root / name)
    copy_code(root)
    (root / "imports").mkdir()
    write_params(root, params_with(run=run))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    Repo.init(str(root)).close()
    lock_all(root)
    return root


def start(address: str) -> None:
    """What a stage does first, for stage@item as DVC has it."""
    stage, _, item = address.partition("@")
    if stage == "prepare_pairs":
        return  # a stage of prepare_dataset, without inputs
    names: dict[str, str] = dict(zip(MATRICES[stage], item.split("-") if item else [], strict=True))
    if "reader" in names:
        names = READERS[int(names.pop("reader").removeprefix("reader"))] | names
    if stage != "prepare_reader":  # is a stage of prepare_model
        open_study(stage, **names)


def locked(root: Path) -> dict[str, object]:
    """dvc.lock by stage, of the stages that the params name."""
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    with chdir(root), Repo(str(root)) as repo:
        return {stage.addressing: lock[stage.addressing] for stage in repo.index.stages}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study(tmp_path_factory.mktemp("whole") / "study", readers=READERS)


@pytest.mark.parametrize("kind", GONE)
def test_the_lock_is_that_of_a_run_that_never_had_the_name(
    whole: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fewer = {"readers": READERS} | {kind: params_with(run={"readers": READERS})["run"][kind][:1]}
    root = shutil.copytree(whole, tmp_path / "study", symlinks=True)
    write_params(root, params_with(run=fewer))
    with chdir(root), Repo(str(root)) as repo:
        for address in repo.status():
            start(address)
        repo.commit(force=True)
        assert repo.status() == {}
    assert locked(root) == locked(study(tmp_path / "fresh", **fewer))
    assert not (root / GONE[kind]).exists()
    assert (root / ".work" / "unused" / GONE[kind]).exists()
    moved = f"{GONE[kind]} is not part of the run: moved to .work/unused/{GONE[kind]}"
    assert caplog.messages.count(moved) == 1
