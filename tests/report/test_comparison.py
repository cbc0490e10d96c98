"""Numbers side by side: rows by hand, models of two runs, and studies that cannot be set beside this one."""

import copy
import math
import shutil
from dataclasses import replace
from typing import Any

import pytest

from r2a_core.infra.errors import R2AError
from r2a_core.paths import StudyPaths
from r2a_core.report.comparison import side_by_side
from r2a_core.report.page import report_data
from r2a_core.report.values import Value
from tests.study import call, command_line, params_with, study_folder


def mass(value: float, low: float | None = None, high: float | None = None, model: str = "m") -> Value:
    return Value(model, "d", "mass", "share", value, low, high)


def heads(*names: int) -> Value:
    return Value("m", "d", "heads", "heads", len(names), heads=[(0, name) for name in names])


def cell(value: float, low: Any = None, high: Any = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("columns", "cells", "difference", "only"),
    [
        ({"a": [mass(0.5, 0.25, 0.75)], "b": [mass(0.75)]}, [cell(0.5, 0.25, 0.75), cell(0.75)], cell(0.25), []),
        (
            {"a": [mass(0.5, 0.2, 0.9)], "b": [mass(0.25, 0.22, 0.65)]},
            [cell(0.5, 0.2, 0.9), cell(0.25, 0.22, 0.65)],
            cell(-0.25, pytest.approx(-0.25 - math.hypot(0.03, 0.4)), pytest.approx(-0.25 + math.hypot(0.4, 0.3))),
            [],
        ),
        ({"a": [mass(1)], "b": [mass(2)], "c": [mass(4)]}, [cell(1), cell(2), cell(4)], None, []),
        ({"a": [mass(1)], "b": [], "c": [mass(4)]}, [cell(1), None, cell(4)], None, []),
        ({"a": [heads(1, 2, 3)], "b": [heads(3, 4, 1)]}, [cell(3), cell(2)], None, []),
        ({"a": [heads()], "b": [heads(1)]}, [cell(0), cell(0)], None, []),
        (
            {"a": [mass(1), mass(1, model="n"), heads(1)], "b": [heads(1), mass(2, model="o")]},
            [cell(1), cell(1)],
            None,
            ["Only a has: mass (m, d; n, d).", "Only b has: mass (o, d)."],
        ),
    ],
)
def test_a_row_holds_what_two_columns_have(columns, cells, difference, only):
    found = side_by_side(columns)
    assert [(row["cells"], row["difference"]) for row in found["rows"]] == [(cells, difference)]
    assert (found["columns"], found["only"]) == (list(columns), only)


def test_runs_of_other_models_are_compared_in_their_order(inputs, page_data):
    found = report_data(replace(inputs, models=("tiny_qwen2",)), against=replace(inputs, models=("r1_qwen_7b",)))
    against = found["against"]
    assert {row["model"] for row in against["rows"]} == {"r1_qwen_7b | tiny_qwen2", ""}
    rows = {row["measure"]: row for row in against["rows"]}
    # with reasoning 4 of 5 are right in both; the same heads are ranked by other attention
    assert [one["value"] for one in rows["accuracy with reasoning"]["cells"]] == [80.0, 80.0]
    marks = [{tuple(head) for head in record["marks"]["rfh"]} for record in page_data["heads"]]
    shared = [one["value"] for one in rows["Reasoning-Focus Heads of 24, shared with the first column"]["cells"]]
    assert shared == [len(marks[1]), len(marks[0] & marks[1])]
    flips = [
        max(curve["mean"])
        for record in reversed(page_data["patching"])
        for curve in record["curves"]
        if (curve["curve"], curve["probe"]) == ("flip", "plain")
    ]
    moved = rows["named answer (flipping token), plain probe, in its best layer"]["difference"]["value"]
    assert moved == pytest.approx(flips[1] - flips[0])
    assert any(text.startswith("Only this run has: loss after ") for text in against["only"])
    assert page_data["against"] is None


def test_models_datasets_and_settings_of_one_run_are_named(inputs):
    values = {**inputs.values, "run": inputs.values["run"] | {"models": ["tiny_qwen2"]}}
    other = replace(inputs, models=("tiny_qwen2",), datasets=("math500", "d"), values=values)
    only = report_data(inputs, against=other)["against"]["only"]
    assert only[:4] == [
        f"Only {inputs.paths.root.name} has the dataset d.",
        "Only this run has the model r1_qwen_7b.",
        "Only this run has the dataset wildbench.",
        "Settings that differ: run.models.",
    ]


def test_models_of_a_run_are_columns(page_data):
    beside = page_data["overview"]["beside"]
    assert beside["columns"] == ["tiny_qwen2", "r1_qwen_7b"]
    row = next(row for row in beside["rows"] if row["measure"] == "accuracy without reasoning")
    assert ([one["value"] for one in row["cells"]], row["difference"]["value"], row["model"]) == ([40.0, 40.0], 0.0, "")


def test_a_run_that_shares_nothing_is_refused(inputs, tmp_path):
    with pytest.raises(R2AError, match=r"no dataset is in both: .* ran on d, this study on math500, wildbench"):
        report_data(inputs, against=replace(inputs, datasets=("d",)))
    with pytest.raises(R2AError, match="has no number that this study has too"):
        report_data(inputs, against=replace(inputs, paths=StudyPaths(tmp_path)))


def test_the_page_of_two_runs_is_one_of_its_own_and_another_folder_is_refused(inputs, tmp_path, monkeypatch, capsys):
    params = params_with(run={"models": ["tiny_qwen2"], "datasets": ["math500"]})
    here, there = (study_folder(tmp_path / name, params) for name in ("here", "there"))
    shutil.copytree(inputs.paths.data / "evaluation" / "tiny_qwen2", here / "data" / "evaluation" / "tiny_qwen2")
    run = command_line(monkeypatch, capsys)
    nothing = run(here, "report", "--against", "../there")
    assert (nothing.code, "../there is not a study: there is no data" in nothing.err) == (2, True)
    nowhere = run(here, "report", "--against", "nowhere")
    assert "--against nowhere is not a study: there is no params.yaml and no data" in nowhere.err
    itself = run(here, "report", "--against", ".")
    assert (itself.code, "--against . is this study itself" in itself.err) == (2, True)
    shutil.copytree(here / "data", there / "data")
    call(here, "report", None, there)  # type: ignore[arg-type]
    assert [path.name for path in (here / "data" / "report").iterdir()] == ["against.html"]
    assert not (there / "data" / "report").exists()
    older = copy.deepcopy(params)  # lacks a section and a key, and has a kind of model that is gone
    del older["knockout"], older["heads"]["walk"]
    older["models"]["tiny_qwen2"] = {"kind": "gone"}
    study_folder(there, older)
    call(here, "report", None, there)  # type: ignore[arg-type]
    (there / "data" / "evaluation" / "tiny_qwen2" / "math500.json").write_text("{")
    damaged = run(here, "report", "--against", "../there")
    assert (damaged.code, "../there/data/evaluation/tiny_qwen2/math500.json is damaged" in damaged.err) == (2, True)
    assert "hint: compare with a study that is whole" in damaged.err
    study_folder(there, {"run": {}})
    old = run(here, "report", "--against", "../there")
    assert (old.code, "../there: params.yaml: run.models is missing" in old.err) == (2, True)
