"""Findings and their intervals, held against small runs whose numbers a person can count."""

import inspect
import math
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from r2a_core.config import read_yaml
from r2a_core.infra.errors import MissingPrerequisite
from r2a_core.infra.files import write_frame, write_json
from r2a_core.paths import StudyPaths
from r2a_core.trace import SETTINGS
from tests.study import PARAMS, ROOT, params_with, write_params
from tools import measures, verify
from tools.measures import Run, Value
from tools.verify import Finding

TOLD = """
# a comment
[study]
model = "m"
datasets = ["chat", "maths"]
probes = ["plain"]
[finding]
right = {sentence = "Right answers", unit = "percent", measure = "accuracy", setting = "with_reasoning"}
p = {sentence = "p", unit = "p", at_most = 0.001, measure = "metric", file = "evaluate-{model}-{of}", key = "paired.p"}
pairs = {sentence = "Pairs", over = "probes", unit = "count", measure = "metric", file = "patching-m", key = "{of}.n"}
"""
README = f"before\n{verify.BEGIN}old\n{verify.END}after\n"


def write_run(root: Path, right: int, chance: float | None = 0.5, mcnemar: float | None = 0.1) -> Run:
    """A run of model m on dataset chat: `right` of 10 answers are right with reasoning, 5 without."""
    params = params_with(run={"models": ["m"], "datasets": ["chat"], "readers": [{"model": "base", "texts": "m"}]})
    write_params(root, params)
    paths = StudyPaths(root)
    funnel = {setting: {"once": {"all": 10, "answer_format": 9}} for setting in SETTINGS}
    paired = {"n": 10, "accuracy_with": right / 10, "low_with": 0.2, "high_with": 0.8, "accuracy_without": 0.5}
    summary = dict.fromkeys(("model", "dataset", "decoding", "runs", "retried", "answers", "paired_once"))
    summary |= {"funnel": funnel, "chance": chance, "paired": paired | {"mcnemar_p": mcnemar, "p": 1e-9}}
    for path in (paths.summary("m", "chat"), paths.metrics("evaluate", "m", "chat")):
        write_json(path, summary)
    write_json(paths.metrics("patching", "m"), {"plain": {"n": 7, "layer": None}})
    return Run(paths, read_yaml(root / "params.yaml"))


def finding(stated: Value | None = None, of: str = "chat", **line: Any) -> Finding:
    return Finding("name", {"sentence": "S", "unit": "percent", "measure": "accuracy"} | line, "m", of, stated)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a run of 9 right answers of 10, findings that are not stated, and a README."""
    write_run(tmp_path, 9)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "findings.toml").write_text(TOLD)
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def test_a_share_has_wilsons_interval():
    z = 1.959964
    middle, half = (0.9 + z**2 / 20) / (1 + z**2 / 10), z * math.sqrt(0.009 + z**2 / 400) / (1 + z**2 / 10)
    found = measures.share(9, 10)
    assert found.interval == pytest.approx([middle - half, middle + half], abs=1e-6)
    assert found.interval == pytest.approx([0.59585, 0.98212], abs=1e-5)
    stated = verify.as_stated(found, "percent")
    assert stated == {"value": 0.9, "interval": [0.595, 0.983], "n": 10}  # outwards
    assert finding(Value(**stated)).cell == "90.0% [59.5%, 98.3%]"


def test_a_mean_has_a_bootstrap_interval_without_missing_numbers():
    values = np.random.default_rng(1).normal(3, 2, (400, 1))
    means = measures.resampled(np.hstack([values, np.full((400, 1), math.nan), np.where(values > 3, values, math.nan)]))
    found = measures.bootstrapped(means[:, 0], 400)
    assert found.value == pytest.approx(values.mean())
    assert found.interval == pytest.approx([found.value - 0.196, found.value + 0.196], abs=0.03)  # 1.96 * 2 / 20
    assert np.isnan(means[:, 1]).all()
    assert means[0, 2] == pytest.approx(values[values > 3].mean())


@pytest.mark.parametrize(
    ("line", "stated", "here", "held"),
    [
        ({}, Value(0.9, [0.8, 0.95], 100), Value(0.8, [0.7, 0.9], 100), True),
        ({}, Value(0.9, [0.8, 0.95], 100), Value(0.79, [0.7, 0.99], 100), False),
        ({}, Value(0.9, [0.8, 0.95], 100), Value(0.79, [0.7, 0.85], 50), True),  # fewer items: the intervals meet
        ({}, Value(0.9, [0.8, 0.95], 100), Value(0.75, [0.7, 0.79], 50), False),
        ({"at_least": 0.85}, Value(0.9, [0.8, 0.95], 100), Value(0.84, [0.8, 0.9], 100), False),
        ({"at_least": 0.85}, Value(0.9, [0.8, 0.95], 100), Value(0.84, [0.8, 0.9], 50), True),
        ({"at_least": 0.85}, Value(0.9, [0.8, 0.95], 100), Value(0.81, [0.7, 0.84], 50), False),
        ({"at_most": 0.05, "at_least": -0.05}, Value(0.01), Value(-0.05), True),
        ({"at_most": 0.05, "at_least": -0.05}, None, Value(-0.051), False),
        ({}, Value(0.123), Value(0.1234), True),  # nothing but the value, in the digits that are shown
        ({}, Value(0.123), Value(0.1241), False),
        ({"tolerance": 0.002}, Value(0.123), Value(0.1252), True),
        ({"tolerance": 0.002}, Value(0.123), Value(0.1258), False),
        ({}, Value(0.9, [0.8, 0.95], 100), None, False),
    ],
)
def test_a_finding_holds_within_its_bounds_and_interval(line, stated, here, held):
    assert finding(stated, **line).holds(here) is held


def test_a_run_of_too_few_is_not_held_against_what_is_stated(tmp_path):
    run = write_run(tmp_path, 4)  # of 10 answers
    stated = Value(0.9, [0.7, 1.0], 40)
    told = [finding(stated, setting="with_reasoning", least_n=least_n) for least_n in (10, 11)]
    rows, held = verify.verdicts(told, {"here": run})
    assert [row[-2:] for row in rows[1:]] == [["40.0%", "NO"], ["40.0%", "needs 11, has 10"]]
    assert held == [False]


def test_a_run_is_held_against_what_another_one_stated(project, capsys):
    with chdir(project):
        assert verify.main(["--state"]) == 0
        write_run(project, 4)
        assert verify.main([]) == 1
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    rows = [[text.strip() for text in line if text.strip()] for line in lines[-6:]]
    assert rows == [
        ["Right answers", "chat", "90.0% [59.5%, 98.3%]", "40.0%", "NO"],
        ["Right answers", "maths", "-", "-", "not in this run"],
        ["p (at most 0.001)", "chat", "1e-09", "1e-09", "yes"],
        ["p (at most 0.001)", "maths", "-", "-", "not in this run"],
        ["Pairs", "plain", "7", "7", "yes"],
        ["2 of 3 hold"],
    ]


def test_stating_writes_values_and_readme_and_nothing_else(project):
    with chdir(project):
        verify.main(["--state"])
    told = (project / "tools" / "findings.toml").read_text()
    assert told.startswith(TOLD)
    assert "[stated.right]\nchat = {value = 0.9, interval = [0.595, 0.983], n = 10}\n" in told
    assert (project / "README.md").read_text() == (
        f"before\n{verify.BEGIN}"
        "|  | chat | maths |\n| --- | --- | --- |\n"
        "| Right answers | 90.0% [59.5%, 98.3%] | - |\n| p (at most 0.001) | 1e-09 | - |\n"
        "\n|  | plain |\n| --- | --- |\n| Pairs | 7 |\n"
        f"{verify.END}after\n"
    )


def test_a_run_that_was_not_made_or_has_no_finding_is_told(project):
    StudyPaths(project).summary("m", "chat").unlink()
    with chdir(project):
        with pytest.raises(MissingPrerequisite, match=r"chat\.json does not exist\nhint: make the run: make repro$"):
            verify.main([])
        write_params(project, params_with(run={"models": ["other"]}))
        with pytest.raises(MissingPrerequisite, match="no finding is about this run"):
            verify.main([])


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ({"measure": "well_formed", "setting": "without_reasoning"}, 0.9),
        ({"measure": "guessing"}, 0.623046875),  # at most 5 heads of 10 coins: 638 / 1024
        ({"measure": "metric", "file": "patching-m", "key": "plain.layer"}, None),
        ({"measure": "metric", "file": "patching-m", "key": "plain.layer.low"}, None),
    ],
)
def test_measures_of_evaluation_and_metrics(tmp_path, line, value):
    here = finding(**line).measured(write_run(tmp_path, 9))
    assert (here and here.value) == value
    assert finding(measure="guessing").measured(write_run(tmp_path, 9, chance=None)) is None
    scored = finding(setting="with_reasoning").measured(write_run(tmp_path, 6, mcnemar=None))  # not 0 or 1
    assert scored == Value(0.6, [0.2, 0.8], 10)


def test_measures_of_heads(tmp_path):
    run = write_run(tmp_path, 9)
    heads = [(0, 0, 0.9, 0.9), (1, 0, 0.6, 0.8), (1, 1, 0.5, 0.6), (2, 0, 0.4, 0.9)]  # layer, head, mass, walk
    rows = [
        (item, layer, head, source, copied, mass, None if item == "b" and layer == 1 else walk)
        for item, copied in (("a", 0.2), ("b", 0.8))
        for layer, head, mass, walk in heads
        for source in ("answer", "reasoning")
    ]
    names = ["item_id", "layer", "head", "source", "copied", "reasoning", "walk_correlation_weighted"]
    write_frame(run.paths.attention("m", "chat"), pl.DataFrame(rows, schema=names, orient="row"))
    known = {"layer": [0, 1, 1, 2], "head": [0, 0, 1, 0], "dataset": ["chat"] * 4, "walk_null_95": [0.1, 0.1, 0.1, 0.1]}
    known |= {
        "rank": [1, 2, 3, 4],
        "count_rank": [1, 2, 3, 4],
        "induction": [0.1, 0.9, 0.8, 0.0],
        "focus": [-0.1, 0.1, 1.0, 1.0],
    }
    kinds = {"reasoning_focus": [1, 1, 0, 0], "induction_head": [0, 1, 1, 0], "retrieval_head": [0, 0, 0, 1]}
    table = pl.DataFrame(known | {"retrieval": [0.0, 0.0, 0.0, 0.3]} | kinds)
    table = table.with_columns(pl.col(*kinds).cast(pl.Boolean))
    write_frame(run.paths.heads("m"), table)
    walking = {"measure": "walking", "layers": [0, 2], "mass": 0.5, "walk": 0.7}
    shared = {"measure": "shared", "other": "induction"}  # of L0.H0 and L1.H0 with L1.H0 and L1.H1
    cases: list[tuple[dict[str, Any], Value]] = [
        (walking, Value(2.0, [1.0, 2.0], 2)),  # a quarter of the resamples hold b alone
        (walking | {"layers": [1, 2]}, Value(1.0, [0.0, 1.0], 2)),
        (walking | {"copied_below": 0.5}, Value(2.0, [2.0, 2.0], 1)),
        (walking | {"above_even": True}, Value(1.0, [0.0, 1.0], 2)),  # the other head reads like an even one
        (shared, Value(1.0, [1.0, 1.0], 2)),
        (shared | {"other": "retrieval"}, Value(0.0, [0.0, 0.0], 2)),
        (shared | {"by_chance": True}, Value(1.0)),  # 2 * 2 / 4
    ]
    for line, value in cases:
        assert finding(**line).measured(run) == value
    assert finding(**walking, copied_below=0.1).measured(run) is None
    write_frame(run.paths.heads("m"), table.with_columns(walk_null_95=pl.Series([0.95, 0.1, 0.1, 0.1])))
    found = finding(**walking).measured(run)
    assert found is not None
    assert found.value == 1.0

    reader = {"model": ["base", "base", "m", "m"], "layer": [0, 1, 0, 1], "head": [0] * 4, "walk_null_95": [0.1] * 4}
    reader |= {"focus": [1.0] * 4}
    write_frame(run.paths.read_heads("base", "m", "chat"), pl.DataFrame(reader))
    read = pl.DataFrame(rows, schema=names, orient="row").filter(pl.col("head") == 0, pl.col("layer") < 2)
    write_frame(run.paths.reading("base", "m", "chat"), read.with_columns(reasoning=pl.col("reasoning") - 0.2))
    assert finding(**walking, reader="base").measured(run) == Value(1.0, [1.0, 1.0], 2)
    assert finding(**walking, reader="another").measured(run) is None


def test_measures_of_patching(tmp_path):
    run = write_run(tmp_path, 9)
    curves = {"flip": (0.9, 0.7, 0.0), "think_close": (0, 0, 0), "answer_end": (0, 0.1, 0.8)}  # by layer
    rows = [
        (pair, "plain", "resid_pre", layer, position, role, nld + change)
        for pair, change in (("x", 0.0), ("y", 0.2))
        for position, (role, by_layer) in enumerate(curves.items())
        for layer, nld in enumerate(by_layer)
    ]
    names = ["pair_id", "probe", "component", "layer", "position", "role", "nld"]
    write_frame(run.paths.patching("m"), pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None))
    for curve, layers, value in (("flip", [0, 1], 0.9), ("flip", [-1, -1], 0.1), ("final", [-2, -1], 0.55)):
        here = finding(of="plain", measure="nld", curve=curve, layers=layers).measured(run)
        assert here is not None
        assert [here.value, *(here.interval or ())] == pytest.approx([value, value - 0.1, value + 0.1])
    assert finding(of="boxed", measure="nld", curve="flip", layers=[0, 1]).measured(run) is None


def test_the_projects_findings_can_be_measured_and_readme_shows_what_they_state():
    with chdir(ROOT):
        told = verify.findings()
    for each in told:
        given = {key: value for key, value in each.line.items() if key not in verify.NO_ARGUMENTS}
        inspect.signature(verify.MEASURES[each.line["measure"]]).bind("run", each.model, each.of, **given)
        verify.shown(0.5, each.line["unit"])
    stated, page = [each for each in told if each.stated], (ROOT / "README.md").read_text(encoding="utf-8")
    assert {each.model for each in stated} <= set(PARAMS["models"])
    assert {each.of for each in stated if "over" not in each.line} <= set(PARAMS["datasets"])
    assert page == (verify.with_tables(page, verify.markdown(told)) if stated else page.replace(verify.BEGIN, ""))
