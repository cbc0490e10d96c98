"""Figure 1b and its table: bars, whiskers and stars are those of the summaries, made up but evaluated for real."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.evaluation.paired import stars
from r2a_core.figures.evaluation import accuracy_figure, draw_evaluation
from r2a_core.figures.judged import TABLE_SCHEMA, judged_figure, judged_table, judged_table_figure
from r2a_core.figures.tables import accuracy_table
from r2a_core.paper import JUDGE_SCORES
from tests.evaluation.judged_runs import GAINS, judged_run
from tests.figures.drawn import bars, inside, lines_at, notes, whiskers

ORDER = [*GAINS, "overall"]


@pytest.fixture(scope="module")
def judged() -> list[dict[str, Any]]:
    """Three runs: a model of the paper judged three times, one judged once, and one of a single area."""
    return [
        judged_run("r1_qwen_7b", repeats=3, seed=1).summary,
        judged_run("a_reasoning_model_with_a_rather_long_name", n=12, level=3, seed=2).summary,
        judged_run("tiny_qwen2", n=12, seed=3, areas={"creative tasks": 0.5}, dataset="poems").summary,
    ]


def panels(fig: Figure) -> list[Axes]:
    return [axes for axes in fig.axes if axes.get_title()]


def test_the_papers_areas_add_up_to_its_overall() -> None:
    for scores in JUDGE_SCORES.values():
        *areas, overall = (scores[area] for area in ORDER)
        assert sum(area.n for area in areas) == overall.n
        for setting in ("with_reasoning", "without_reasoning"):
            mean = sum(getattr(area, setting) * area.n for area in areas) / overall.n
            assert mean == pytest.approx(getattr(overall, setting), abs=0.15)


def test_the_table_holds_every_area(judged: list[dict[str, Any]]) -> None:
    frame = judged_table(judged)
    assert dict(frame.schema) == TABLE_SCHEMA
    assert frame["area"].to_list() == [*ORDER, *ORDER, "creative tasks", "overall"]
    for row in frame.iter_rows(named=True):
        summary = next(summary for summary in judged if summary["model"] == row["model"])
        record = summary["areas"][row["area"]]
        for name in ("n", "mean_with", "low_without", "difference", "t", "p", "win", "loss"):
            assert row[name] == record[name]
        assert row["repeats_equal"] == record["disagreement"]["exact"]
    assert frame["repeats"].to_list()[0] == 3
    shown = [text.get_text() for text in judged_table_figure(frame).texts]
    first = frame.row(0, named=True)
    assert f"{first['mean_with']:.2f} [{first['low_with']:.2f}, {first['high_with']:.2f}]" in shown
    assert "–" in shown  # no repeats, no disagreement


def test_nothing_leaves_the_page_or_overlaps(judged: list[dict[str, Any]]) -> None:
    for runs in (judged, judged[:1], judged[2:]):
        fig = judged_figure(runs)
        assert inside(fig)
        for axes in panels(fig):
            boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
            assert not [box for box, other in pairwise(boxes) if box.overlaps(other)]
    assert inside(judged_table_figure(judged_table(judged)))


def test_bars_whiskers_and_stars_show_the_summary(judged: list[dict[str, Any]]) -> None:
    fig = judged_figure(judged)
    gap = judged[0]["judge"]["disagreement"]["mean_difference"]
    below = fig._supxlabel.get_text()  # type: ignore[attr-defined]
    assert f"r1_qwen_7b, judge: gpt-4o-2024-05-13, 3 judgements of each response, {gap:.2f} apart" in below
    assert below.count("judge: ") == 2  # the same judge without repeats is named once
    axes, other, poems = panels(fig)
    records = [judged[0]["areas"][area] for area in ORDER]
    sides = [(record, side) for record in records for side in ("with", "without")]
    assert {bar.get_y() for bar in bars(axes)} == {1}  # from the lowest score there is
    assert [1 + bar.get_height() for bar in bars(axes)] == pytest.approx([at[f"mean_{side}"] for at, side in sides])
    expected = [[at[f"low_{side}"], at[f"high_{side}"]] for at, side in sides]
    assert whiskers(axes) == [pytest.approx(pair) for pair in expected]
    assert notes(axes)[2::3] == [stars(record["p"]) for record in records]
    assert {"n.s.", "***"} <= set(notes(axes))
    labels = [label.get_text().replace("\n", " ").replace("  ", " ") for label in axes.get_xticklabels()]
    assert labels == [f"{area} n = {record['n']}" for area, record in zip(ORDER, records, strict=True)]
    published = [line.get_ydata()[0] for line in lines_at(axes, "published")]
    assert published == [6.1, 6.1, 6.7, 6.1, 6.2, 5.9, 6.7, 6.6, 6.5, 6.2]
    assert not lines_at(other, "published")
    assert len(bars(poems)) == 4  # areas without items keep their place
    few = judged_run("tiny_qwen2", n=1, areas={"creative tasks": 0.5}).summary
    assert whiskers(panels(judged_figure([few]))[0]) == []  # one item has no interval
    shown = [text.get_text() for text in judged_table_figure(judged_table([few])).texts]
    assert f"{few['areas']['overall']['mean_with']:.2f}" in shown
    counts = [label.get_text().split("\n")[-1] for label in poems.get_xticklabels()]
    assert counts == ["n = 0", "n = 11", "n = 0", "n = 0", "n = 11"]


def test_files_come_only_with_judged_answers(judged: list[dict[str, Any]], tmp_path: Path) -> None:
    names = {"judge-scores.png", "judge-scores.pdf", "table-judge-scores.csv", "table-judge-scores.parquet"}
    assert names <= {path.name for path in draw_evaluation(judged, tmp_path / "a")}
    assert pl.read_csv(tmp_path / "a" / "table-judge-scores.csv").height == 12
    assert accuracy_table(judged).height == 0  # scores are no accuracies
    assert accuracy_figure(judged).texts[0].get_text() == "no graded answers valid in all settings"
    graded = [{name: value for name, value in run.items() if name not in ("areas", "judge")} for run in judged]
    assert not names & {path.name for path in draw_evaluation(graded, tmp_path / "c")}
