"""`dvc exp run -S` and params.yaml: one value changes, comments, quotes and lists stay, and later edits count."""

import difflib
import os
import re
import subprocess
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from tests.processes import PATH
from tests.study import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
STAGE = "cmd: cat params.yaml > seen.yaml\n    params: [generate, run]\n    outs: [seen.yaml]"
# What -S sets, the lines that go and those that come.
CASES = {
    "generate.temperature=0": (
        ["  temperature: 0.6  # 0 = greedy; else 0.05 to 10"],
        ["  temperature: 0    # 0 = greedy; else 0.05 to 10"],
    ),
    "heads.walk.mass=0.5": (["  walk: {mass: 0.4, correlation: 0.7}"], ["  walk: {mass: 0.5, correlation: 0.7}"]),
    "run.datasets=[orders,days]": (["  - comparisons", "  - swaps"], []),
    "capture.residual_layers=[0,1]": (["  residual_layers: []"], ["  residual_layers:", "  - 0", "  - 1"]),
    "models.r1_full.max_tokens=null": (
        ["    max_tokens: 32768  # tokens of a response; null = generate.max_new_tokens"],
        ["    max_tokens:        # tokens of a response; null = generate.max_new_tokens"],
    ),
    "models.tiny_qwen2.recipe.seed=5": (["      seed: 0"], ["      seed: 5"]),
}


def difference(before: str, after: str) -> tuple[list[str], list[str]]:
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]
    return [line[2:] for line in lines if line[0] == "-"], [line[2:] for line in lines if line[0] == "+"]


@pytest.mark.parametrize("assignment", CASES)
def test_one_value_changes_and_no_other_byte(tmp_path: Path, assignment: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, encoding="utf-8")
    apply_overrides(path, [assignment])
    assert difference(TEXT, path.read_text(encoding="utf-8")) == CASES[assignment]


def lists(values: dict[str, Any], place: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from lists(value, f"{place}{key}.")
        elif isinstance(value, list):
            yield f"{place}{key}"


def test_every_list_can_be_emptied_and_filled_again(tmp_path: Path) -> None:
    """All lists at once: what dvc writes of an empty one may spoil a later line, until a list that is not empty."""
    path, values = tmp_path / "params.yaml", yaml.safe_load(TEXT)
    path.write_text(TEXT, encoding="utf-8")
    keys = [*lists(values), "capture.layers"]
    comments = re.compile(r"(?<!\S)#.*")
    for value in ("[]", "[a]", "[]", "null", "[a,b]", "null", "[]"):
        apply_overrides(path, [f"{key}={value}" for key in keys])
        for key in keys:
            *sections, last = key.split(".")
            reduce(dict.__getitem__, sections, values)[last] = yaml.safe_load(value)
        text = path.read_text(encoding="utf-8")
        assert yaml.safe_load(text) == values
        assert comments.findall(text) == comments.findall(TEXT)


def test_an_experiment_a_hand_edit_and_another_experiment(tmp_path: Path) -> None:
    who = {f"GIT_{role}_{part}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}

    def run(*command: str) -> None:
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | who | {"PATH": PATH}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    params = tmp_path / "params.yaml"
    params.write_text(TEXT, encoding="utf-8")
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  see:\n    {STAGE}\n", encoding="utf-8")
    run("git", "init", "-q", ".")
    run("dvc", "init", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-qm", "params")
    run("dvc", "exp", "run", "-q", "-S", "generate.temperature=0", "-S", "run.datasets=[comparisons]")
    edited = params.read_text(encoding="utf-8").replace("  runs: 1 ", "  runs: 2 ")
    params.write_text(edited, encoding="utf-8")
    run("dvc", "exp", "run", "-q", "-S", "generate.seed=3")
    values = yaml.safe_load(TEXT)
    values["generate"] |= {"temperature": 0, "runs": 2, "seed": 3}
    values["run"]["datasets"] = ["comparisons"]
    seen = (tmp_path / "seen.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(seen) == values
    gone, came = difference(TEXT, seen)
    assert (len(gone), len(came)) == (6, 3)  # one line each, and those of three datasets left out
