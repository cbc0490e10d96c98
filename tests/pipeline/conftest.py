"""A copy of the project's code and params in which every stage counts as run: its outputs are stand-ins."""

import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.study import PARAMS, ROOT, params_with, write_params

FILES = ("dvc.yaml", ".dvcignore", ".gitignore")

# One model, one reader and one dataset, so that dvc has a third of the stages to look at.
MODELS = PARAMS["run"]["models"][:1]
READERS = [{"model": name, "texts": MODELS[0]} for name in ("r1_qwen_1b5", "r1_qwen_7b")]
SMALL = params_with(run={"models": MODELS, "readers": READERS[:1], "datasets": PARAMS["run"]["datasets"][:1]})


def stand_in(path: Path, content: str) -> None:
    if not path.suffix:
        path = path / "file"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def copy_code(root: Path) -> None:
    for name in ("r2a_core", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)


def lock_all(root: Path) -> None:
    """Gives every stage stand-ins for its outputs, and writes them into dvc.lock, as if it had run."""
    with chdir(root), Repo(str(root)) as repo:
        for stage in repo.index.stages:
            for out in stage.outs:
                if not Path(out.fs_path).exists():
                    stand_in(Path(out.fs_path), f"of {stage.addressing}")
        repo.commit(force=True)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy. Tests that edit it put it back as it was."""
    root = tmp_path_factory.mktemp("locked")
    for name in FILES:
        shutil.copy(ROOT / name, root / name)
    copy_code(root)
    (root / "imports").mkdir()
    write_params(root, SMALL)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    Repo.init(str(root)).close()
    lock_all(root)
    return root
