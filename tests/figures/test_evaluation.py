"""Figure 1a and Tables 2 and 3: what is drawn and written equals the summaries, and again byte for byte."""

from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.evaluation.answers import KINDS
from r2a_core.figures.answers import COUNTS, answers_figure, answers_table
from r2a_core.figures.evaluation import accuracy_figure, draw_evaluation
from r2a_core.figures.tables import accuracy_table, accuracy_table_figure, funnel_table, funnel_table_figure
from r2a_core.trace import SETTINGS
from tests.figures.drawn import bars, inside, lines_at, notes, whiskers

FOUR = ("png", "pdf", "parquet", "csv")
STEPS = ("all", "finished", "think_format", "answer_format", "common")


def paired_record(n: int, with_: float | None, without: float | None, p: float | None) -> dict[str, Any]:
    """A comparison whose intervals reach two points below and one above the accuracy."""
    record: dict[str, Any] = {"n": n, "t": None if p is None else 3.5, "p": p, "mcnemar_p": p, "reason": None}
    for side, mean in (("with", with_), ("without", without)):
        for name, shift in (("accuracy", 0), ("low", -0.02), ("high", 0.01)):
            record[f"{name}_{side}"] = None if mean is None else mean + shift
    gap = None if with_ is None or without is None else with_ - without
    ends = {f"{name}_difference": gap and gap + shift for name, shift in (("low", -0.05), ("high", 0.04))}
    return record | ends | {"difference": gap, "win": 5, "tie": n - 6, "loss": 1}


def answers(**counts: int) -> dict[str, int]:
    """Counts of 500 answers; what is not given is wrong."""
    rest = 500 - sum(number for name, number in counts.items() if name in KINDS)
    return dict.fromkeys(COUNTS, 0) | {"n": 500, "wrong": rest} | counts


def summary(model: str, dataset: str, with_: Any = 0.93, without: Any = 0.80, p: Any = 1e-9, **more: Any) -> Any:
    """A summary of the evaluate stage with counts one can recognise."""
    counts = {
        "with_reasoning": {"once": (500, 412, 379, 373, 355), "twice": (500, 448, 433, 429, 420)},
        "without_reasoning": {"once": (500, 490, 489, 465, 355), "twice": (500, 498, 498, 490, 420)},
    }
    funnel = {
        setting: {time: dict(zip(STEPS, row, strict=True)) for time, row in times.items()}
        for setting, times in counts.items()
    }
    base = {"model": model, "dataset": dataset, "decoding": "temperature 0.6", "retried": 98, "funnel": funnel}
    base |= {"chance": None, "answers": {setting: answers(right=373) for setting in SETTINGS}}
    paired = {"paired": paired_record(420, with_, without, p), "paired_once": paired_record(355, with_, without, p)}
    return base | paired | more


def panels(fig: Figure) -> dict[str, Axes]:
    return {axes.get_title().split(" (")[0]: axes for axes in fig.axes if axes.get_title()}


@pytest.mark.parametrize(
    ("model", "dataset", "decoding", "published"),
    [
        ("r1_llama_8b", "math500", "temperature 0.6", [93.5, 79.7]),
        ("r1_qwen_1b5", "math500", "greedy", [95.6, 86.8]),
        ("r1_full", "math500", "greedy", []),
        ("r1_llama_8b", "sums", "greedy", []),
        ("tiny_qwen2", "math500", "greedy", []),
    ],
)
def test_the_published_value_is_marked_where_there_is_one(
    model: str, dataset: str, decoding: str, published: list[float]
) -> None:
    fig = accuracy_figure([summary(model, dataset, decoding=decoding)])
    assert [line.get_ydata()[0] for line in lines_at(panels(fig)[dataset], "published")] == published
    assert ("published value" in [text.get_text() for text in fig.legends[0].get_texts()]) is bool(published)


def test_bars_whiskers_and_stars_show_the_summary() -> None:
    runs = [summary("tiny_a", "sums"), summary("tiny_b", "sums", 0.5, 0.49, 0.6), summary("tiny_c", "sums", 1, 1, None)]
    fig = accuracy_figure([summary("m", "chat", None, None, None), *runs])
    assert list(panels(fig)) == ["sums"]  # answers without a grade have no bars
    axes = panels(fig)["sums"]
    assert [round(bar.get_height(), 6) for bar in bars(axes)] == [93, 80, 50, 49, 100, 100]
    assert whiskers(axes)[:4] == [[91, 94], [78, 81], [48, 51], [47, 50]]
    assert notes(axes)[:6] == ["93.0", "80.0", "***", "50.0", "49.0", "n.s."]
    assert notes(axes)[-1] == "no test"
    assert axes.get_xticklabels()[0].get_text() == "tiny_a\nn = 420\n+13.0 [8.0, 17.0]"
    assert not lines_at(axes, "chance")


def test_stars_are_of_mcnemar_s_test_where_items_have_no_variance_and_guessing_is_a_line() -> None:
    run = summary("tiny_a", "sums", 1, 0, None, chance=0.5)
    run["paired"] |= {"mcnemar_p": 2 / 2**10, "reason": "every item differs by the same amount"}
    fig = accuracy_figure([run])
    axes = panels(fig)["sums"]
    assert notes(axes)[-1] == "**"
    assert [list(line.get_ydata()) for line in lines_at(axes, "chance")] == [[50, 50]]
    assert "exact McNemar test: ***" in fig.get_supxlabel()
    shown = {text.get_text() for text in accuracy_table_figure(accuracy_table([run])).texts}
    assert {"50.0", "+100.0 [95.0, 104.0]", "0.002"} <= shown


def test_kinds_of_answers_are_stacked_to_all_responses() -> None:
    two = answers(right=170, first=100, second=20, third=200, nothing=10, named_first=220, named_second=70)
    runs = [
        summary(
            "tiny_a", "pairs", chance=0.5, answers={"with_reasoning": answers(right=500), "without_reasoning": two}
        ),
        summary("tiny_a", "sums", answers={"with_reasoning": answers(right=480)}),
        summary("tiny_a", "chat", answers={}),
    ]
    table = answers_table(runs)
    assert table.select("dataset", "setting", "n", "right", "third").rows() == [
        ("pairs", "with_reasoning", 500, 500, 0),
        ("pairs", "without_reasoning", 500, 170, 200),
        ("sums", "with_reasoning", 500, 480, 0),
    ]
    fig = answers_figure(table)
    pairs, sums = fig.axes
    without = [
        (bar.get_x(), bar.get_width()) for bar in bars(pairs) if round(bar.get_y() + 0.4) == 1 and bar.get_width()
    ]
    assert [tuple(round(each, 6) for each in bar) for bar in without] == [(0, 34), (34, 20), (54, 4), (58, 40), (98, 2)]
    assert [text.get_text() for text in pairs.texts][-1] == "first of two: 220 of 290"
    assert len(lines_at(pairs, "chance")) == 1
    assert not lines_at(sums, "chance")
    named = [text.get_text() for text in fig.legends[0].get_texts()]
    assert "wrong: none of the options" in named
    assert "wrong: another option" not in named
    assert inside(fig)


def test_table_2_holds_each_count_once_and_twice_and_table_3_both_comparisons_by_decoding() -> None:
    frame = funnel_table([summary("r1_llama_8b", "math500")])
    assert frame["setting"].to_list() == ["with_reasoning", "without_reasoning"]
    assert frame.select("think_format_once", "think_format_twice").rows() == [(379, 433), (489, 498)]
    assert {"379 / 433", "465 / 490"} <= {text.get_text() for text in funnel_table_figure(frame).texts}
    alone = funnel_table_figure(funnel_table([summary("m", "sums", retried=0)]))
    assert not any("/" in text.get_text() for text in alone.texts)
    runs = [summary("m", "b"), summary("m", "a", None, None, None), summary("m", "b", decoding="greedy")]
    frame = accuracy_table(runs)
    assert frame["dataset"].to_list() == ["b", "b", "a"]  # in order of first appearance
    assert frame["decoding"].to_list() == ["temperature 0.6", "greedy", "temperature 0.6"]
    assert frame.select("n", "once_n", "accuracy_with", "win").row(0) == (420, 355, 0.93, 5)
    assert {"93.0 [91.0, 94.0]", "1e-09", "–"} <= {text.get_text() for text in accuracy_table_figure(frame).texts}


def test_no_text_leaves_the_page_and_files_are_the_same_bytes_when_drawn_again_without_a_date(tmp_path: Path) -> None:
    runs = [summary("r1_llama_8b", "math500"), summary("a_model_with_a_rather_long_name", "object_pairs", 1.0, 0.02)]
    sheets = funnel_table_figure(funnel_table(runs)), accuracy_table_figure(accuracy_table(runs))
    assert all(inside(figure) for figure in (accuracy_figure(runs), *sheets))
    first, second = draw_evaluation(runs, tmp_path / "a"), draw_evaluation(runs, tmp_path / "b")
    kinds = (
        dict.fromkeys(("accuracy", "answers"), ("png", "pdf"))
        | {"table-answers": ("parquet", "csv")}
        | dict.fromkeys(("table-2-funnel", "table-3-accuracy"), FOUR)
    )
    assert {path.name for path in first} == {f"{stem}.{kind}" for stem, ends in kinds.items() for kind in ends}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert not any(mark in one.read_bytes() for mark in (b"Date", b"Matplotlib", b"matplotlib")), one.name
