"""Records that spare no work are out of dvc.lock while stages run, and it ends with the bytes that DVC gives it."""

import json
import shutil
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc
from dvc.dvcfile import Lockfile
from dvc.repo import Repo

from r2a_core.config import read_yaml
from tests.study import ROOT
from tools import repro
from tools.short_lock import completed, entries_alone, shortened, with_entry


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


OTHER_LOCKS = {
    "plain": (lambda lock: lock, {}),
    "records beside those of stages": (lambda lock: lock + "datasets: []\n", {}),
    "a quoted name": (lambda lock: lock.replace("  a:", "  'a':"), {}),
    "a comment": (lambda lock: lock.replace("    cmd: cp in a", "    # mine\n    cmd: cp in a"), {}),
    "a name that YAML quotes": (lambda lock: lock, {"1": {"cmd": "cp in 1", "outs": ["1"]}}),
    "anchors": (lambda lock: lock, {n: {"cmd": "true", "params": ["nested", "nested.k"]} for n in ("d", "e")}),
}


@pytest.mark.parametrize("kind", OTHER_LOCKS)
def test_an_entry_alone_is_written_in_the_bytes_that_dvc_gives_the_whole_lock(study: Path, monkeypatch, kind) -> None:
    """Stages that change and new ones; and locks that are left to DVC's own way until they are plain."""
    edit, more_stages = OTHER_LOCKS[kind]
    lock, own = study / "dvc.lock", Lockfile.dump_stages
    before = edit(lock.read_text())
    stages = {name: {"cmd": f"cp in {name}", "deps": ["in"], "outs": [name]} for name in ("a", "c")}
    stages["b"] = {"cmd": ["cp in b", "echo"], "deps": ["in"], "outs": ["b"]}
    stages["new"] = {"cmd": "cp in new", "params": ["rate", "text"], "outs": ["new"]}
    stages["newer"] = {"cmd": "cp new newer", "deps": ["new"], "outs": ["newer"]}
    (study / "params.yaml").write_text("rate: 1e-5\ntext: 'no: 1'\nnested: {k: [1, 2]}\n")
    (study / "dvc.yaml").write_text(json.dumps({"stages": stages | more_stages}))
    asked, found = [], []

    def counted(*given: Any, **more: Any) -> None:
        asked.append(given)
        own(*given, **more)

    monkeypatch.setattr(Lockfile, "dump_stages", counted)
    for way in (nullcontext, entries_alone):
        lock.write_text(before)
        asked.clear()
        with chdir(study), way():
            assert dvc(["repro", "--quiet", "--no-run-cache", "--force"]) == 0
        found.append(lock.read_text())
    assert found[0] == found[1] != before
    assert read_yaml(lock)["stages"].keys() == (stages | more_stages).keys()
    assert bool(asked) == (kind != "plain")
    assert Lockfile.dump_stages is counted


def test_an_entry_takes_the_place_of_its_stage_or_comes_last() -> None:
    lock = "schema: '2.0'\nstages:\n  a:\n    cmd: a\n  ab:\n    cmd: ab\n"
    assert with_entry(lock, "  a:\n    cmd: x\n") == lock.replace("cmd: a\n", "cmd: x\n")
    assert with_entry(lock, "  b:\n    cmd: b\n") == lock + "  b:\n    cmd: b\n"
