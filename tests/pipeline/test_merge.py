"""Two branches that each added a model are merged as docs/reruns.md says: no model is computed again."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.processes import PATH

PIPELINE = """
stages:
  train:
    matrix: {model: '${run.models}'}
    cmd: mkdir -p data && echo ${item.model} > data/${item.model}.txt && echo ${item.model} >> ran.log
    params: ['models.${item.model}']
    outs: ['data/${item.model}.txt']
  report:
    cmd: cat data/* > report.txt && echo report >> ran.log
    deps: [data]
    params: [run.models]
    outs: [report.txt]
"""
PARAMS = "run:\n  models: [MODELS]\nmodels: {a: 1, b: 2, c: 3}\n"


@pytest.mark.parametrize("kept", ["--ours", "--theirs"])
def test_a_merged_lock_needs_the_last_stages_only(tmp_path: Path, kept: str) -> None:
    who = {f"GIT_{role}_{part}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}

    def run(command: str, fails: bool = False) -> None:
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=os.environ | who | {"PATH": PATH}, capture_output=True, text=True
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr

    def run_models(models: str) -> None:
        (tmp_path / "params.yaml").write_text(PARAMS.replace("MODELS", models))
        run("dvc repro -q")
        run("git add -A")

    run("git init -q -b main .")
    run("dvc init -q")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / ".gitignore").write_text("/data\n/ran.log\n")
    run_models("a")
    run("git commit -qm a")
    for model in ("b", "c"):
        run(f"git checkout -q -b with-{model} main")
        run_models(f"a, {model}")
        run(f"git commit -qm {model}")
    run("git merge with-b", fails=True)
    (tmp_path / "ran.log").unlink()
    run(f"git checkout {kept} dvc.lock")
    run_models("a, b, c")
    run("git commit -qm merged")
    assert (tmp_path / "ran.log").read_text() == "report\n"
    assert (tmp_path / "report.txt").read_text() == "a\nb\nc\n"
    run("dvc status")
