"""The page is one file that fetches nothing, that model text cannot break, and that comes out the same twice."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.config import read_yaml
from r2a_core.infra.errors import R2AError
from r2a_core.paths import StudyPaths
from r2a_core.report.certainty import exchange_line
from r2a_core.report.inputs import flattened
from r2a_core.report.measured import MEASURED
from r2a_core.report.overview import model_line
from r2a_core.report.page import build_page, build_pages, report_data
from r2a_core.report.plot_tables import plot_tables
from r2a_core.report.sections import pairs_left_out
from r2a_core.report.size import trimmed

ROOT = Path(__file__).parents[2]


def without_data(page: str) -> str:
    return re.sub(r'(<script type="application/json" id="data">).*?(</script>)', r"\1\2", page, flags=re.DOTALL)


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_two_builds_are_the_same_bytes(page, inputs, judged_data):
    assert build_page(report_data(inputs), 10.0) == page
    assert build_page(judged_data, 10.0) == build_page(judged_data, 10.0)


def test_the_page_names_no_other_place_and_runs_its_own_script_only(page):
    code = re.sub(r"'sha256-[^']*'", "", without_data(page))  # Base64 has slashes of its own
    assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", code, flags=re.MULTILINE).replace("/*", "").replace("*/", "")
    assert not re.search(r"\b(src|href)=[\"'](?!#)", code)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", code)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|eval\(", code)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        body = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        assert len(body) == 1
        digest = base64.b64encode(hashlib.sha256(body[0].encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_hostile_text_stays_inside_the_data_and_survives(page_data):
    data = page_data | {"machine": {"a\ud800": "</script>\x00b"}}
    page = build_page(data, 10.0)
    assert page.count("<script") == page.lower().count("</script") == 2  # the data and the page's own
    assert data_of(page) == json.loads(json.dumps(data))
    assert "onerror" not in without_data(page)


@pytest.mark.parametrize(
    ("excess", "left"),
    [
        (0, []),
        (1, ["3 of 4 traces"]),  # of each run ten texts, a trace and a pair stay as long as they can
        (10**9, ["0 of 8 texts of items", "0 of 4 traces", "0 of 8 probes of patched pairs"]),
    ],
)
def test_what_is_left_out_is_counted(page_data, excess, left):
    assert trimmed(page_data, excess)["left_out"] == left
    assert page_data["left_out"] == []


def test_a_page_that_would_be_too_large_fits_and_says_what_it_lacks(page_data, page, caplog):
    megabytes = (len(page) - 1) / 1e6
    small = build_page(page_data, megabytes)
    assert len(page) - 40_000 < len(small) < len(page)
    assert '"left_out":["3 of 4 traces"]' in small
    assert "carries 3 of 4 traces" in caplog.text
    assert len(build_page(page_data, 0.001)) > 1000  # never refused


def test_what_one_page_does_not_hold_is_in_a_folder_of_pages(inputs, page_data, page, caplog):
    assert build_pages(inputs, page_data) == (page, {})
    tight = replace(inputs, params=inputs.params.model_copy(update={"megabytes": (len(page) - 1) / 1e6}))
    whole, pages = build_pages(tight, page_data)
    assert f"to fit report.megabytes ({tight.params.megabytes:g})" in caplog.text
    assert list(pages) == [f"{model}-{dataset}.html" for model, dataset in inputs.runs]
    assert max(map(len, [whole, *pages.values()])) < len(page)
    assert [link["href"] for link in data_of(whole)["pages"]] == [f"pages/{name}" for name in pages]
    for (model, dataset), text in zip(inputs.runs, pages.values(), strict=True):
        part = data_of(text)
        assert {(one["model"], one["dataset"]) for one in part["evaluation"]} <= {(model, dataset)}
        assert part["left_out"] == []
        assert part["pages"] == [{"label": "the whole study", "href": "../index.html"}]
    assert data_of(whole)["left_out"]


def test_what_is_missing_is_said_and_a_study_of_nothing_still_has_a_page(tmp_path, inputs, page_data):
    assert "tiny_qwen2 on wildbench has not been evaluated" in [gap["what"] for gap in page_data["gaps"]]
    assert all(gap["stage"] for gap in page_data["gaps"])
    data = report_data(replace(inputs, paths=StudyPaths(tmp_path), models=("m",), datasets=("d",)))
    sections = ("evaluation", "attention", "heads", "readers", "traces", "patching")
    beyond = ("knockout", "walks", "perturb", "sentences", "instruments")
    assert [data[name] for name in (*sections, *beyond)] == [[]] * 11
    assert all(one["answer"].startswith("Not answered") for one in data["overview"]["questions"])
    assert len(build_page(data, 10.0)) > 10_000
    assert all(table.is_empty() for table in plot_tables(data).values())


def test_what_is_measured_where_is_there():
    values = read_yaml(ROOT / "params.yaml")
    stages = {path.stem for path in (ROOT / "stages").glob("*.py")}
    keys = {f"{one['key']}." for one in flattened(values)}
    for one in MEASURED.values():
        assert set(one.stage.split(", ")) <= stages
        assert all((ROOT / path).is_file() for path in one.code)
        assert all(any(key.startswith(f"{name}.") for key in keys) for name in one.params)


@pytest.mark.parametrize(
    ("record", "about", "line"),
    [
        ({"kind": "hub", "source": "a/m"}, None, "m: from the Hugging Face Hub (a/m); 2 layers of 1 head."),
        (
            {"kind": "gguf", "source": "m.gguf"},
            "7 parameters",
            "m: a pretrained model (m.gguf), 7 parameters;",
        ),
        (
            {"kind": "local", "adapter": "p"},
            None,
            "m: from a local folder, tuned by the adapter p; 2 layers",
        ),
    ],
)
def test_a_model_is_introduced_by_its_origin_and_what_params_say_of_it(record, about, line):
    known = {"name": "m", "source": None, "adapter": None, "layers": 2, "heads": 1}
    assert model_line(known | record, about).startswith(line)


@pytest.mark.parametrize(
    ("statuses", "n_pairs", "left"),
    [
        (["aligned", "aligned", "wrong"], 2, {"wrong": 1}),
        (["aligned", "aligned", "no_response"], 1, {"no_response": 1, "weak": 1}),  # patch dropped one
    ],
)
def test_pairs_that_were_not_exchanged_are_counted_by_why(statuses, n_pairs, left, tmp_path):
    rows = [{"pair_id": str(at), "probe": probe, "status": one} for at, one in enumerate(statuses) for probe in "ab"]
    pl.DataFrame(rows).write_parquet(tmp_path / "m.parquet")
    assert pairs_left_out(tmp_path / "m.parquet", n_pairs) == left
    said = exchange_line({"model": "m", "n_pairs": n_pairs, "left_out": left, "crossings": []})
    assert said.startswith(f"Exchange in m: n = {n_pairs} of 3 pairs of questions; 1 ")
    assert pairs_left_out(tmp_path / "none.parquet", n_pairs) == {}


def test_damaged_files_are_named(tmp_path, inputs):
    paths = StudyPaths(tmp_path)
    damaged = replace(inputs, paths=paths, models=("tiny_qwen2",), datasets=("math500",))
    whole = inputs.paths.heads("tiny_qwen2").read_bytes()
    paths.heads("tiny_qwen2").parent.mkdir(parents=True)
    paths.heads("tiny_qwen2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(R2AError, match=r"tiny_qwen2\.parquet is damaged"):
        report_data(damaged)
    pl.DataFrame({"layer": [0]}).write_parquet(paths.heads("tiny_qwen2"))
    with pytest.raises(R2AError, match="has no column head"):
        report_data(damaged)


def test_plot_tables_hold_the_numbers_of_the_page(page_data):
    tables = plot_tables(page_data)
    accuracy = tables["accuracy"].filter(panel="math500", series="with reasoning", x="tiny_qwen2")
    assert accuracy["y"].to_list() == [80.0]
    funnel = tables["funnel"].filter(panel="tiny_qwen2 on math500", series="with reasoning")
    steps = ["all", "finished", "think format", "answer format", "common"]
    assert funnel.select("x", "y").rows() == list(zip(steps, [6, 5, 5, 5, 5], strict=True))
    heads = tables["heads"].filter(panel="tiny_qwen2 on math500", series="answer to reasoning")
    assert heads["y"].to_list() == sorted(page_data["heads"][0]["scores"]["answer_to_reasoning"], reverse=True)
    curve = next(one for one in page_data["patching"][0]["curves"] if (one["probe"], one["curve"]) == ("plain", "flip"))
    flip = tables["patching"].filter(panel="tiny_qwen2, plain probe", series="flip")
    assert flip["y"].to_list() == curve["mean"]
    assert flip["x"].to_list() == ["0", "1", "2", "3"]
