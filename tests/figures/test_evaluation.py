"""Figure 1a and Tables 2 and 3: what is drawn and written equals the summaries, and again byte for byte."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from r2a_core.figures.evaluation import accuracy_figure, draw_evaluation
from r2a_core.figures.style import save_figure
from r2a_core.figures.tables import accuracy_table, accuracy_table_figure, funnel_table, funnel_table_figure

STEPS = ("all", "finished", "think_format", "answer_format", "common")


def paired_record(n: int, with_: float | None, without: float | None, p: float | None) -> dict[str, Any]:
    """A comparison whose intervals reach two points below and one above the accuracy."""
    record: dict[str, Any] = {"n": n, "t": None if p is None else 3.5, "p": p, "mcnemar_p": p, "reason": None}
    for side, mean in (("with", with_), ("without", without)):
        record[f"accuracy_{side}"] = mean
        record[f"low_{side}"] = None if mean is None else mean - 0.02
        record[f"high_{side}"] = None if mean is None else mean + 0.01
    gap = None if with_ is None or without is None else with_ - without
    return record | {"difference": gap, "win": 5, "tie": n - 6, "loss": 1}


def summary(
    model: str,
    dataset: str,
    with_: float | None = 0.93,
    without: float | None = 0.80,
    p: float | None = 1e-9,
    **more: Any,
) -> dict[str, Any]:
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
    paired = {"paired": paired_record(420, with_, without, p), "paired_once": paired_record(355, with_, without, p)}
    return base | paired | more


def panels(fig: Figure) -> dict[str, Axes]:
    """Axes by the dataset in their title."""
    return {axes.get_title().split(" (")[0]: axes for axes in fig.axes if axes.get_title()}


def bar_heights(axes: Axes) -> list[float]:
    return [round(bar.get_height(), 6) for bar in axes.patches if (bar.get_gid() or "").startswith("bar-")]  # type: ignore[attr-defined]


def notes(axes: Axes) -> list[str]:
    return [child.get_text() for child in axes.get_children() if isinstance(child, Annotation)]


def test_bars_whiskers_and_stars_show_the_summary() -> None:
    fig = accuracy_figure([summary("tiny_a", "sums"), summary("tiny_b", "sums", 0.5, 0.49, 0.6)])
    axes = panels(fig)["sums"]
    assert bar_heights(axes) == [93, 80, 50, 49]
    ends = [tuple(path.vertices[:, 1].round(6)) for lines in axes.collections for path in lines.get_paths()]  # type: ignore[attr-defined]
    assert ends == [(91, 94), (78, 81), (48, 51), (47, 50)]
    assert notes(axes) == ["93.0", "80.0", "***", "50.0", "49.0", "n.s."]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["tiny_a\nn = 420", "tiny_b\nn = 420"]


def test_no_test_is_said_not_starred() -> None:
    axes = panels(accuracy_figure([summary("tiny_a", "sums", 1.0, 1.0, None)]))["sums"]
    assert "no test" in notes(axes)


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
    marks = [line.get_ydata()[0] for line in panels(fig)[dataset].lines if line.get_gid() == "published"]  # type: ignore[index]
    assert marks == published
    assert ("published value" in [text.get_text() for text in fig.legends[0].get_texts()]) is bool(published)


def test_ungraded_runs_have_no_bars() -> None:
    fig = accuracy_figure([summary("m", "chat", None, None, None), summary("m", "sums")])
    assert list(panels(fig)) == ["sums"]
    assert accuracy_figure([]).texts[0].get_text() == "no graded answers valid in both settings"


def test_many_panels_go_in_rows_that_fit_a_page() -> None:
    fig = accuracy_figure([summary(f"m{m}", f"d{d}") for d in range(4) for m in range(4)])
    assert len(panels(fig)) == 4
    assert fig.get_figwidth() < 13
    assert len({round(axes.get_position().y0, 3) for axes in panels(fig).values()}) == 2


def inside(fig: Figure) -> bool:
    """Whether every text lies within the page."""
    fig.draw_without_rendering()
    page = fig.bbox.padded(1)
    texts = [artist for artist in fig.findobj(Text) if isinstance(artist, Text) and artist.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    return all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)


def overlapping(fig: Figure) -> list[tuple[str, str]]:
    """Pairs of the sheet's texts that lie on one another."""
    fig.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in fig.texts if text.get_text()]
    return [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[i + 1 :] if box.overlaps(other)]


def test_nothing_overlaps_or_leaves_the_page() -> None:
    names = ["tiny_qwen2", "a_reasoning_model_with_a_rather_long_name", "r1_qwen_1b5"]
    runs = [summary(name, dataset) for dataset in ("math500", "object_comparison_long") for name in names]
    funnel, accuracy = funnel_table_figure(funnel_table(runs)), accuracy_table_figure(accuracy_table(runs))
    assert inside(accuracy_figure(runs))
    for sheet in (funnel, accuracy):
        assert inside(sheet)
        assert overlapping(sheet) == []


def test_table_2_holds_each_count_once_and_twice() -> None:
    frame = funnel_table([summary("r1_llama_8b", "math500")])
    assert frame["setting"].to_list() == ["with_reasoning", "without_reasoning"]
    assert frame.row(0, named=True)["think_format_once"] == 379
    assert frame.row(0, named=True)["think_format_twice"] == 433
    assert frame.row(1, named=True)["answer_format_twice"] == 490
    shown = [text.get_text() for text in funnel_table_figure(frame).texts]
    assert "379 / 433" in shown
    assert "465 / 490" in shown


def test_table_2_without_a_retry_shows_one_count() -> None:
    shown = [text.get_text() for text in funnel_table_figure(funnel_table([summary("m", "sums", retried=0)])).texts]
    assert "379" in shown
    assert not any("/" in text for text in shown)


def test_table_3_holds_both_comparisons_by_decoding() -> None:
    runs = [summary("m", "b"), summary("m", "a"), summary("m", "b", decoding="greedy")]
    frame = accuracy_table(runs)
    assert frame["dataset"].to_list() == ["b", "b", "a"]  # in order of first appearance
    assert frame["decoding"].to_list() == ["temperature 0.6", "greedy", "temperature 0.6"]
    assert frame.select("n", "once_n", "accuracy_with", "win").row(0) == (420, 355, 0.93, 5)
    shown = [text.get_text() for text in accuracy_table_figure(frame).texts]
    assert "93.0 [91.0, 94.0]" in shown
    assert "1e-09" in shown


def test_tables_keep_their_types_when_nothing_was_graded() -> None:
    frame = accuracy_table([summary("m", "chat", None, None, None)])
    assert frame.schema["accuracy_with"] == pl.Float64
    assert "–" in [text.get_text() for text in accuracy_table_figure(frame).texts]
    assert funnel_table([]).height == 0


def test_all_files_are_the_same_bytes_when_drawn_again(tmp_path: Path) -> None:
    runs = [summary("r1_llama_8b", "math500"), summary("tiny_qwen2", "sums", 1.0, 0.02)]
    first, second = draw_evaluation(runs, tmp_path / "a"), draw_evaluation(runs, tmp_path / "b")
    names = {
        f"{stem}.{kind}" for stem in ("table-2-funnel", "table-3-accuracy") for kind in ("png", "pdf", "parquet", "csv")
    }
    assert {path.name for path in first} == names | {"accuracy.png", "accuracy.pdf"}
    assert set(tmp_path.glob("a/*")) == set(first)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_saved_figures_carry_no_date_and_no_version(tmp_path: Path) -> None:
    png, pdf = save_figure(accuracy_figure([summary("m", "sums")]), tmp_path / "v1.5" / "a.b")
    assert (png.name, pdf.name) == ("a.b.png", "a.b.pdf")
    for mark in (b"Date", b"Matplotlib", b"matplotlib"):
        assert mark not in pdf.read_bytes()
        assert mark not in png.read_bytes()
