"""A project folder that was moved, copied or linked to: the scripts of its environment start its own Python."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.moved import correct


def set_up(root: Path, name: str = ".venv") -> Path:
    """An environment in `root`, with a script and an editable install as pip writes them."""
    (root / "r2a_core").mkdir(parents=True)
    (root / "r2a_core" / "__init__.py").touch()
    environment = root / name
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    script = environment / "bin" / "tell"
    script.write_text(f"#!{environment}/bin/python\nimport r2a_core\nprint(r2a_core.__file__)\n")
    script.chmod(0o755)
    next(environment.glob("lib/*/site-packages")).joinpath("__editable__.r2a.pth").write_text(f"{root}\n")
    return environment


def told(environment: Path) -> str:
    """What the environment's script says when it is started elsewhere."""
    return subprocess.run([environment / "bin" / "tell"], cwd="/", capture_output=True, text=True, check=True).stdout


def test_a_moved_environment_is_corrected_once(tmp_path: Path) -> None:
    environment = set_up(tmp_path / "old")
    assert correct(environment) == ""
    moved = (tmp_path / "old").rename(tmp_path / "old-2") / ".venv"
    with pytest.raises(OSError):
        told(moved)
    assert correct(moved) == f".venv was made in {tmp_path}/old: its files now name this folder."
    assert told(moved) == f"{tmp_path}/old-2/r2a_core/__init__.py\n"
    assert correct(moved) == ""
    back = (tmp_path / "old-2").rename(tmp_path / "old") / ".venv"  # a name that the present one begins with
    assert correct(back)
    assert told(back) == f"{tmp_path}/old/r2a_core/__init__.py\n"


def test_a_copy_leaves_the_original_alone(tmp_path: Path) -> None:
    environment = set_up(tmp_path / "a", ".venv-peers")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=os.link, symlinks=True)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".venv-peers").symlink_to(environment)
    assert correct(tmp_path / "linked" / ".venv-peers") == ""
    assert "was made in" in correct(tmp_path / "b" / ".venv-peers")
    for name in "ab":
        assert told(tmp_path / name / ".venv-peers") == f"{tmp_path}/{name}/r2a_core/__init__.py\n"


@pytest.mark.parametrize("place", ["with a space", "x" * 120, ""], ids=["a space", "too long", "no python"])
def test_an_environment_that_cannot_be_corrected_is_set_up_again(tmp_path: Path, place: str) -> None:
    environment = set_up(tmp_path / "old")
    moved = (tmp_path / "old").rename(tmp_path / place) / ".venv" if place else environment
    if not place:
        (moved / "bin" / "python").unlink()
    assert correct(moved) == ".venv fits another folder or Python: it is set up again."
    assert not moved.exists()
    assert correct(moved) == ""
