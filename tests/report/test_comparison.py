"""Numbers side by side: rows by hand, models of two runs, and studies that cannot be set beside this one."""

import copy
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from r2a_core.infra.errors import R2AError
from r2a_core.paths import StudyPaths
from r2a_core.report.comparison import other_name, side_by_side
from r2a_core.report.differences import difference
from r2a_core.report.page import report_data
from r2a_core.report.values import Value, run_values
from tests.report.conftest import EVALUATE, write
from tests.study import call, command_line, params_with, study_folder


def mass(value: float, low: float | None = None, high: float | None = None, model: str = "m") -> Value:
    return Value(model, "d", "mass", "share", value, low, high)


def heads(*names: int) -> Value:
    return Value("m", "d", "heads", "heads", len(names), heads=[(0, name) for name in names])


def cell(value: float, low: Any = None, high: Any = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def gap(value: Any, low: Any = None, high: Any = None, n: int | None = None, p: Any = None) -> dict[str, Any]:
    return cell(value, low, high) | {"n": n, "p": p}


def of_items(*values: float, first: int = 0, is_median: bool = False) -> Value:
    items = {str(place): value for place, value in enumerate(values, first)}
    return Value("m", "d", "mass", "share", 1, 0, 2, items=items, is_median=is_median, scale=10)


def around(middle: float, half: float) -> tuple[Any, Any]:
    return pytest.approx(middle - half, abs=1e-4), pytest.approx(middle + half, abs=1e-4)


Z, T3 = 1.959964, 3.182446  # that bound the central 95% of a normal distribution, and of Student's with 3 degrees
MIDDLE = partial(of_items, is_median=True)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (  # three gained, one lost, one added to each and two to the ten; three or more of four: 5 / 16 a side
            of_items(1, 1, 1, 0, 0, 0, 0, 0, 1, 1),
            of_items(0, 1, 1, 1, 1, 1, 0, 0, 1, 1),
            gap(2, *around(10 / 6, 10 * Z * math.sqrt((1 / 2 - 1 / 36) / 12)), 10, 0.625),
        ),
        (of_items(0, 1, 1, 0), of_items(1, 1, 1, 1, first=2), gap(5, around(2.5, 10 * Z * 0.41458)[0], 10, 2, 1)),
        (of_items(5, 1, 2, 0), of_items(6, 3, 5, 2), gap(20, *around(20, 10 * T3 * math.sqrt(2 / 3 / 4)), 4)),
        (MIDDLE(1, 2, 9), MIDDLE(4, 9, 3), gap(20, n=3)),
        (MIDDLE(*range(12)), MIDDLE(*range(3, 15)), gap(30, 30, 30, 12)),
        (of_items(0, 1, 1, 0), of_items(1, 1, 1, 1, first=3), gap(0, *around(0, math.sqrt(2)))),
        (of_items(0, 1, 1, 0), mass(2), gap(1)),
    ],
    ids=["right or wrong", "half the items", "means", "few medians", "medians", "fewer than half", "no items"],
)
def test_a_difference_is_of_the_items_that_both_have(first, second, expected):
    assert difference(first, second, EVALUATE) == expected


def test_the_numbers_of_items_make_those_of_the_page(page_data, judged_data, inputs):
    values = [one for data in (page_data, judged_data) for one in run_values(data, inputs.walk) if one.items]
    for one in values:
        middle = np.median if one.is_median else np.mean
        assert one.scale * middle(list(one.items.values())) == pytest.approx(one.value), one.measure
    kinds = ("accuracy", "accuracy gained", "judge score", "median mass", "loss after", "answers that stay", "area")
    assert all(any(one.measure.startswith(kind) for one in values) for kind in kinds)


@pytest.mark.parametrize(
    ("columns", "cells", "difference", "only"),
    [
        ({"a": [mass(0.5, 0.25, 0.75)], "b": [mass(0.75)]}, [cell(0.5, 0.25, 0.75), cell(0.75)], gap(0.25), []),
        (
            {"a": [mass(0.5, 0.2, 0.9)], "b": [mass(0.25, 0.22, 0.65)]},
            [cell(0.5, 0.2, 0.9), cell(0.25, 0.22, 0.65)],
            gap(-0.25, pytest.approx(-0.25 - math.hypot(0.03, 0.4)), pytest.approx(-0.25 + math.hypot(0.4, 0.3))),
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
    found = side_by_side(columns, EVALUATE)
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


@pytest.mark.parametrize(
    ("root", "own", "name"),
    [
        ("/a/other", "/a/study", "other"),
        ("/b/study", "/a/study", "b/study"),
        ("/b/x/study", "/a/x/study", "b/x/study"),
        ("/x/study", "/a/x/study", "/x/study"),
        ("/study", "/a/study", "/study"),
    ],
)
def test_another_run_is_named_by_the_end_of_its_path_that_tells_it_from_this_one(root, own, name):
    assert other_name(Path(root), Path(own)) == name


def test_models_datasets_and_settings_of_one_run_are_named(inputs):
    values = {**inputs.values, "run": inputs.values["run"] | {"models": ["tiny_qwen2"]}}
    other = replace(inputs, models=("tiny_qwen2",), datasets=("math500", "d"), values=values)
    only = report_data(inputs, against=other)["against"]["only"]
    assert only[:4] == [
        f"Only {inputs.paths.root.resolve().as_posix()} has the dataset d.",
        "Only this run has the model r1_qwen_7b.",
        "Only this run has the dataset wildbench.",
        "Settings that differ: run.models.",
    ]


def test_models_of_a_run_are_columns(page_data):
    beside = page_data["overview"]["beside"]
    assert beside["columns"] == ["tiny_qwen2", "r1_qwen_7b"]
    row = next(row for row in beside["rows"] if row["measure"] == "accuracy without reasoning")
    assert ([one["value"] for one in row["cells"]], row["model"]) == ([40.0, 40.0], "")
    none = around(
        0, 100 * Z * math.sqrt(2 / 7 / 7)
    )  # no item differs: one of either kind is added, and two to the five
    assert row["difference"] == gap(0, *none, 5, 1)


def test_only_items_with_the_same_question_are_paired(inputs, tmp_path):
    shutil.copytree(inputs.paths.root, tmp_path / "other")
    paths = StudyPaths(tmp_path / "other")
    asked = pl.col("question").str.replace("Ann has 3 pears", "Ann has three pears")
    write(pl.read_parquet(paths.items("math500")).with_columns(asked), paths.items("math500"))
    against = report_data(inputs, against=replace(inputs, paths=paths))["against"]
    pairs = {(row["model"], row["measure"]): (row["difference"] or {}).get("n") for row in against["rows"]}
    model = {measure: n for (name, measure), n in pairs.items() if name == "tiny_qwen2"}
    assert model["accuracy without reasoning"] == 4
    assert model["median mass, answer \u2192 reasoning"] == 4
    assert "The questions of math500 are not the same: 6 there, 6 here, 5 in both." in against["only"]


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
