"""Params edited while a stage runs, under dvc itself: it records nothing, and hands out no file made otherwise."""

import json
import os
import subprocess
from pathlib import Path

import polars as pl
import pytest
import yaml
from dvc.repo import Repo

from tests.processes import PATH
from tests.study import PARAMS, ROOT, params_with, study_folder, write_params

TARGET = "prepare_dataset@arithmetic"
# The stage itself; when `later` holds params, they become the study's once it has made its questions.
SCRIPT = """
import os, stages.prepare_dataset as stage

made = stage.load_dataset
def edited_meanwhile(*arguments):
    loaded = made(*arguments)
    if os.path.exists("later"):
        os.replace("later", "params.yaml")
    return loaded
stage.load_dataset = edited_meanwhile
stage.run_stage(stage.prepare_dataset)
"""


def params(n: int) -> dict[str, object]:
    return params_with(datasets={"arithmetic": PARAMS["datasets"]["arithmetic"] | {"n": n}})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = study_folder(tmp_path / "project", params(3))
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    own = stages["prepare_dataset"] | {"matrix": {"dataset": ["arithmetic"]}, "cmd": "python script.py ${item.dataset}"}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare_dataset": own}}), encoding="utf-8")
    (root / "script.py").write_text(SCRIPT, encoding="utf-8")
    for name in ("r2a_core", "stages", ".dvcignore"):
        (root / name).symlink_to(ROOT / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    Repo.init(str(root)).close()
    return root


def repro(root: Path) -> str:
    """`dvc repro`: what it prints, and its exit code as the first line."""
    environment = os.environ | {"PATH": PATH, "PYTHONPATH": str(root)}
    done = subprocess.run(
        ["dvc", "repro", TARGET], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


def state(root: Path) -> tuple[int, int]:
    """How many questions the file has, and how many dvc.lock says."""
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"][TARGET]
    height = pl.read_parquet(root / "data" / "datasets" / "arithmetic.parquet").height
    return height, lock["params"]["params.yaml"]["datasets.arithmetic"]["n"]


def edited_meanwhile(root: Path, before: int, after: int) -> None:
    write_params(root, params(before))
    (root / "later").write_text(json.dumps(params(after)), encoding="utf-8")
    printed = repro(root)
    assert printed.startswith("255\n"), printed
    assert "error: datasets.arithmetic.n in params.yaml changed while the stage ran" in printed


def test_a_run_whose_params_were_edited_is_not_recorded(project: Path) -> None:
    edited_meanwhile(project, 3, 5)
    assert not (project / "dvc.lock").exists()
    assert repro(project).startswith("0\n")
    assert state(project) == (5, 5)
    edited_meanwhile(project, 4, 5)  # the lock of five questions is older, and its params are those of now
    assert pl.read_parquet(project / "data" / "datasets" / "arithmetic.parquet").height == 4
    for n in (5, 4):
        write_params(project, params(n))
        assert repro(project).startswith("0\n")
        assert state(project) == (n, n)
