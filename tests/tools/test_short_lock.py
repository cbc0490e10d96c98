"""Records that spare no work are out of dvc.lock while stages run, and it ends with the bytes that DVC gives it."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo

from r2a_core.config import read_yaml
from tests.study import ROOT
from tools import repro
from tools.short_lock import completed, shortened


def test_a_stage_with_a_lost_result_keeps_its_place_and_command(tmp_path: Path) -> None:
    """The project's own lock: one result of two stages is lost."""
    whole, path = (ROOT / "dvc.lock").read_text(encoding="utf-8"), tmp_path / "dvc.lock"
    before = read_yaml(ROOT / "dvc.lock")["stages"]
    two = list(before)[5:7]
    short = shortened(whole, {before[name]["outs"][-1]["path"] for name in two})
    path.write_text(short, encoding="utf-8")
    after = read_yaml(path)["stages"]
    assert list(after) == list(before)
    assert after == before | {name: {"cmd": before[name]["cmd"]} for name in two}
    assert completed(short, whole) == whole
    assert shortened(whole, {"data/none"}) == whole


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A project that was run: three stages, and a file that each copies."""
    with chdir(tmp_path):
        Repo.init(no_scm=True).close()
        Path("in").write_text("text")
        stages = {name: {"cmd": f"cp in {name}", "deps": ["in"], "outs": [name]} for name in "cab"}
        Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
        assert dvc(["repro", "--quiet"]) == 0
    return tmp_path


def test_what_is_neither_here_nor_in_the_cache_runs_and_what_does_not_gets_its_record_back(study: Path) -> None:
    lock = study / "dvc.lock"
    whole = lock.read_text()
    (study / "a").unlink()
    (study / "b").unlink()
    with chdir(study):
        with repro.short_lock():
            assert lock.read_text() == whole  # a and b are in the cache
        shutil.rmtree(".dvc/cache/files")
        with repro.short_lock():
            assert [name for name, entry in read_yaml(lock)["stages"].items() if len(entry) > 1] == ["c"]
            assert dvc(["repro", "--quiet", "--single-item", "a"]) == 0
            assert (study / "a").read_text() == "text"
        assert lock.read_text() == whole
        assert not (study / "b").exists()
