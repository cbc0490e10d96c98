"""Judged answers on the page: the record, the sentence and the paper's numbers beside it; nothing where none are."""

from pathlib import Path
from typing import Any

import pytest

from r2a_core.evaluation.paired import summary_text
from r2a_core.report.page import build_page, report_data
from r2a_core.report.sources import study_sources
from tests.judging.made_up import SETTINGS, judged_run

MODELS = ("r1_llama_8b", "tiny_qwen2")


@pytest.fixture(scope="module")
def runs() -> dict[str, Any]:
    return {
        "r1_llama_8b": judged_run("r1_llama_8b", n=20, repeats=2),
        "tiny_qwen2": judged_run("tiny_qwen2", n=10, seed=4),
    }


@pytest.fixture(scope="module")
def judged_data(runs: dict[str, Any], study, report_params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The data of a page of two models on one judged dataset."""
    data: Path = tmp_path_factory.mktemp("judged")
    for model, run in runs.items():
        folder = data / "evaluation" / model
        folder.mkdir(parents=True)
        run.frame.write_parquet(folder / "wildbench.parquet")
        (folder / "wildbench.json").write_text(summary_text(run.summary), encoding="utf-8")
    sources = study_sources(data, MODELS, ("wildbench",), SETTINGS)
    return report_data(sources, report_params, study.params)


def test_the_areas_are_those_of_the_summary_in_the_papers_order(judged_data: dict, runs: dict[str, Any]) -> None:
    record = next(record for record in judged_data["evaluation"] if record["model"] == "r1_llama_8b")
    areas = runs["r1_llama_8b"].summary["areas"]
    assert [area["area"] for area in record["judged"]] == [
        "coding & analysis",
        "creative tasks",
        "information seeking",
        "reasoning & planning",
        "overall",
    ]
    for area in record["judged"]:
        assert area["n"] == areas[area["area"]]["n"]
        assert area["mean_with"] == pytest.approx(areas[area["area"]]["mean_with"], abs=1e-6)
    assert record["judged"][1]["published"] == {"with_reasoning": 7.5, "without_reasoning": 6.6, "n": 213}
    assert record["judged"][1]["stars"] == "***"


def test_the_question_is_answered_by_the_scores(judged_data: dict, runs: dict[str, Any]) -> None:
    question = judged_data["overview"]["questions"][0]
    overall = runs["r1_llama_8b"].summary["areas"]["overall"]
    assert question["figure"] == "judged"
    assert question["answer"].startswith(
        "Judge scores are significantly higher with reasoning in 1 and lower in 0 of 2"
    )
    expected = f"judge score {overall['mean_with']:.2f} with, {overall['mean_without']:.2f} without, n = {overall['n']}"
    assert expected in question["details"][0]


def test_the_paper_stands_beside_its_models(judged_data: dict, runs: dict[str, Any]) -> None:
    rows = {row["measure"]: row for row in judged_data["overview"]["published"]}
    assert {row["model"] for row in rows.values()} == {"r1_llama_8b"}
    row = rows["judge score without reasoning, WildBench, overall"]
    assert row["published"] == 6.6
    assert row["ours"] == pytest.approx(runs["r1_llama_8b"].summary["areas"]["overall"]["mean_without"], abs=1e-6)
    assert rows["items judged in both settings, WildBench, overall"]["published"] == 633


def test_the_page_is_built_the_same_twice(judged_data: dict) -> None:
    assert build_page(judged_data, 10.0) == build_page(judged_data, 10.0)


def test_graded_runs_have_no_judged_part(page_data: dict) -> None:
    assert [record["judged"] for record in page_data["evaluation"]] == [None, None]
    assert "Judge scores" not in page_data["overview"]["questions"][0]["answer"]


def test_a_browser_draws_the_scores(judged_data: dict, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("Chromium is not on this machine")
    path = tmp_path / "index.html"
    path.write_text(build_page(judged_data, 10.0), encoding="utf-8")
    troubles: list[str] = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1200, "height": 900})
        view.on("console", lambda message: troubles.append(message.text))
        view.on("pageerror", lambda error: troubles.append(str(error)))
        view.goto(path.as_uri())
        view.wait_for_selector("html[data-ready]")
        bars = view.locator("#judged rect[data-side=with]")
        shown = [float(bars.nth(at).get_attribute("data-value")) for at in range(bars.count())]
        text = view.locator("#judged").inner_text()
        view.locator("#judged").screenshot(path=str(tmp_path / "judged.png"))
        browser.close()
    assert not troubles
    expected = [area["mean_with"] for record in judged_data["evaluation"] for area in record["judged"]]
    assert shown == pytest.approx(expected)
    assert "Judge: gpt-4o-2024-05-13" in text
    assert "2 of each response" in text
