"""What an edit reruns: the table of docs/reruns.md, made in a copy of the project and asked of dvc."""

import json
import re
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

from tests.pipeline.conftest import READERS, SMALL, copy_code
from tests.study import ROOT, write_params

Edit = Callable[[Path], None]


def code(name: str) -> Edit:

    def edit(root: Path) -> None:
        path = root / name
        assert path.is_file(), name
        with path.open("a", encoding="utf-8") as file:
            file.write("\n# an edit\n")

    return edit


def param(place: str, value: Any) -> Edit:

    def edit(root: Path) -> None:
        params = json.loads((root / "params.yaml").read_text(encoding="utf-8"))
        *sections, last = place.split(".")
        section = params
        for each in sections:
            section = section[each]
        assert section.get(last) != value
        section[last] = value
        write_params(root, params)

    return edit


def one_more(section: str, name: Any) -> Edit:
    """One more name in a list of `run`; `section` has an entry of that name. One more reader likewise."""

    def edit(root: Path) -> None:
        params = json.loads((root / "params.yaml").read_text(encoding="utf-8"))
        param(f"run.{section}", [*params["run"][section], name])(root)

    return edit


PARAM_EDITS = {
    "generate.temperature": 0.9,
    "judge.max_tokens": 17,
    "capture.limit": 17,
    "attention.reflection_phrases": ["hmm"],
    "heads.top": 5,
    "maps.cells": 17,
    "pairs.align.padding": "masked",
    "patch.sweep.components": ["resid_pre", "z"],
    "patch.crossing.confidence": 0.9,
    "knockout.k": [2],
    "walks.peak": 5.0,
    "perturb.levels": [1.0],
    "sentences.least": 5,
    "instruments.seed": 1,
    "report.title": "Another title",
    "resources.executor": "ray",
    "datasets.arithmetic.n": 17,
}
EDITS: dict[str, Edit] = {
    **{f"`{place}`": param(place, value) for place, value in PARAM_EDITS.items()},
    "`run.settings` without `without_reasoning`": param("run.settings", ["with_reasoning"]),
    "one more of `run.models`": one_more("models", "qwen3_4b_thinking"),
    "one more of `run.readers`": one_more("readers", READERS[1]),
    "one more of `run.datasets`": one_more("datasets", "math500"),
}


def changed_stages(root: Path) -> dict[str, bool]:
    """Stages with something that differs from dvc.lock -> whether that is true of all their items."""
    with chdir(root), Repo(str(root)) as repo:
        names = [str(stage.addressing) for stage in repo.index.stages]
        changed = set(repo.status())
    by_stage: dict[str, list[bool]] = {}
    for name in names:
        by_stage.setdefault(name.split("@")[0], []).append(name in changed)
    return {stage: all(items) for stage, items in by_stage.items() if any(items)}


def told(changed: dict[str, bool]) -> str:
    """As a cell of the table: the stages in the order of dvc.yaml, those of which only some items run in italics."""
    return ", ".join(stage if whole else f"*{stage}*" for stage, whole in changed.items()) or "nothing"


def table() -> dict[str, str]:
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \|$", (ROOT / "docs" / "reruns.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    return {edit: stages for edit, stages in rows if edit not in ("edit", "---")}


def code_edits() -> dict[str, Edit]:
    """Edits of the table that name a source file."""
    found = {edit: re.match(r"`((?:r2a_core|stages)/[\w/.]+)`", edit) for edit in table()}
    return {edit: code(match[1]) for edit, match in found.items() if match}


EDITS |= code_edits()


def test_the_table_has_these_edits_and_nothing_is_to_be_run_before_one(locked: Path) -> None:
    assert sorted(table()) == sorted(EDITS)
    assert len(code_edits()) >= 17
    assert told(changed_stages(locked)) == "nothing"


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_reruns_what_the_table_says(locked: Path, edit: str) -> None:
    EDITS[edit](locked)
    try:
        assert told(changed_stages(locked)) == table()[edit]
    finally:
        restore(locked)


def restore(root: Path) -> None:
    write_params(root, SMALL)
    copy_code(root)


def test_what_the_grader_counts_is_not_what_is_patched() -> None:
    graded = table()["`r2a_core/evaluation/normalise.py`, the grader's units"].replace("*", "").split(", ")
    assert {"evaluate", "pairs"} <= set(graded)
    assert not {"generate", "generate_pairs", "capture", "capture_pairs", "patch", "prepare_model"} & set(graded)
