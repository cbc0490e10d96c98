"""docs/walkthrough.md against the code: named files and functions exist, walks are short, and each step follows.

A step of Python code follows when an earlier step of its walk names its function in its own body and can reach the
module, or when both are stages and share a file of the study beside the model.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.pipeline.imports import imported

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
STEP = re.compile(r"^\d+\. `([^`]+)` ((?:`[^`]+`(?:,\s+)?)+):", re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A file and the functions of it that a value passes through, in order."""

    file: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Walk:
    title: str
    limit: int  # files
    steps: tuple[Step, ...]


def walks() -> list[Walk]:
    found = []
    for section in PAGE.split("\n## ")[1:]:
        title, body = section.split("\n", 1)
        limit = re.search(r"\(at most (\d+) files\)", title)
        assert limit is not None, title
        steps = tuple(Step(file, tuple(re.findall(r"`([^`]+)`", names))) for file, names in STEP.findall(body))
        assert len(steps) == len(re.findall(r"^\d+\. ", body, re.MULTILINE)), f"{title}: a step is not of the form"
        found.append(Walk(title, int(limit[1]), steps))
    return found


WALKS = walks()
STEPS = sorted({(step.file, name) for walk in WALKS for step in walk.steps for name in step.names})


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def definition(file: str, name: str) -> ast.AST:
    """The function or class `name` (Class.method for a method) of a Python file."""
    node: ast.AST = tree(file)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        found = [each for each in getattr(node, "body", []) if isinstance(each, kinds) and each.name == part]
        assert found, f"{file} defines no {name}"
        node = found[0]
    return node


def mentioned(file: str, name: str) -> set[str]:
    nodes = list(ast.walk(definition(file, name)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def study_files(file: str, name: str) -> set[str]:
    """The methods of StudyPaths that a stage uses, but for the model, which nearly all stages read."""
    body = ast.walk(definition("r2a_core/paths.py", "StudyPaths"))
    known = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    of_paths = {
        node.attr
        for node in ast.walk(definition(file, name))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("paths")
    }
    return (of_paths & known) - {"model", "metrics"}


def follows(earlier: list[tuple[str, str]], file: str, name: str) -> bool:
    """Whether a function is reached from the functions before it."""
    own = name.split(".")[-1]
    for other, caller in earlier:
        near = other == file or Path(file) in imported(Path(other))
        if near and own in mentioned(other, caller):
            return True
        stages = file.startswith("stages/") and other.startswith("stages/")
        if stages and study_files(file, name) & study_files(other, caller):
            return True
    return False


@pytest.mark.parametrize(("file", "name"), STEPS)
def test_every_named_file_has_the_function(file, name):
    if file == "params.yaml":
        value = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        for key in name.split("."):
            value = value[key]
    elif file.endswith(".js"):
        pattern = rf"^(?:async )?(?:function|const|let) {re.escape(name)}\b"
        assert re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{file}: {name}"
    else:
        definition(file, name)


@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.title)
def test_a_walk_is_as_short_as_it_says_and_every_step_is_reached_from_an_earlier_one(walk):
    assert len({step.file for step in walk.steps}) <= walk.limit
    python = [(step.file, name) for step in walk.steps for name in step.names if step.file.endswith(".py")]
    start = next(place for place, (file, _) in enumerate(python) if file.startswith("stages/"))
    for place in range(start + 1, len(python)):
        file, name = python[place]
        assert follows(python[start:place], file, name), f"nothing before it reaches {file} {name}"


def test_a_parameter_is_a_field_of_its_record():
    (record,) = [step for step in WALKS[0].steps if step.file == "r2a_core/config/responses.py"]
    key = WALKS[0].steps[0].names[0].split(".")[-1]
    fields = [
        node.target for node in ast.walk(definition(record.file, record.names[0])) if isinstance(node, ast.AnnAssign)
    ]
    assert key in [ast.unparse(field) for field in fields]
    last = WALKS[0].steps[-1]
    assert "choose" in last.names
    assert key in mentioned(last.file, last.names[-1])


def test_the_table_names_every_stage():
    stages = set(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| ")]
    named = {name.strip() for row in rows for name in row[2].split(",")}
    assert {name for name in stages if not name.startswith("figures_")} <= named
