"""Figures 2 and 9: the boxes that are drawn, against masses by hand and the published traces."""

from typing import Any

import polars as pl
import pytest
from matplotlib.figure import Figure

from r2a_core import paper
from r2a_core.figures.segment_masses import segment_mass_figure
from r2a_core.results import trace_means
from r2a_core.trace import SEGMENTS
from tests.figures.drawn import lines_at


def panels(fig: Figure, word: str = "") -> list[Any]:
    return [axes for axes in fig.axes if word in axes.get_title()]


def medians(axes: Any) -> list[float]:
    return [float(line.get_xdata()[0]) for line in lines_at(axes, "median")]


def test_boxes_of_the_published_traces_show_the_papers_medians(published) -> None:
    traces = published("trace_masses").with_columns(setting=pl.lit("with_reasoning"))
    fig = segment_mass_figure(traces.rename({"trace": "item_id"}), paper.MATHS)
    for model in ("r1_llama_8b", "r1_qwen_7b"):
        (axes,) = panels(fig, model)
        assert "100 traces of math500" in axes.get_title()
        assert medians(axes) == pytest.approx(paper.SEGMENT_MEDIANS[model], abs=5e-5)
        (diamonds,) = lines_at(axes, "paper")
        assert tuple(diamonds.get_xdata()) == paper.SEGMENT_MEDIANS[model]


def test_a_box_is_drawn_from_the_mean_over_layers_and_heads_of_each_trace() -> None:
    bos = {("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.6, ("b", 1): 0.8, ("c", 0): 0.0, ("c", 1): 0.2}
    rows = [(item, 0, head, "answer", mass, 0.0, 0.0, 1 - mass, 0.0, 0.0) for (item, head), mass in bos.items()]
    rows += [("a", 0, head, "reasoning", 0.25, 0.25, 0.1, 0.4, 0.0, 0.0) for head in (0, 1)]
    schema = ["item_id", "layer", "head", "source", *SEGMENTS]
    frame = pl.DataFrame(rows, schema=schema, orient="row").sample(fraction=1, shuffle=True, seed=3)
    frame = frame.with_columns(uniform_share=pl.when(item_id="b").then(0.4).otherwise(0.7))
    means = trace_means(frame).with_columns(model=pl.lit("toy"), setting=pl.lit("with_reasoning"))
    (answer,) = panels(segment_mass_figure(means, "toy"))
    (reasoning,) = panels(segment_mass_figure(means, "toy", "reasoning"))
    assert medians(answer) == pytest.approx([0.2, 0, 0, 0.8, 0, 0])  # trace means .2, .7, .1
    assert medians(reasoning) == pytest.approx([0.25, 0.25, 0.1, 0.4])  # no later segment is seen
    assert "3 traces" in answer.get_title()
    assert "1 trace " in reasoning.get_title()
    assert not lines_at(answer, "paper")
    assert [line.get_xdata()[0] for line in lines_at(answer, "even")] == pytest.approx([0.6])


def test_settings_are_rows_and_models_columns() -> None:
    runs = [("one", "with_reasoning"), ("two", "with_reasoning"), ("two", "without_reasoning")]
    rows = [(*run, "answer", "a", 0.5, 0.1, 0.1, 0.1, 0.1, 0.1) for run in runs]
    columns = ["model", "setting", "source", "item_id", *SEGMENTS]
    fig = segment_mass_figure(pl.DataFrame(rows, schema=columns, orient="row"), "toy")
    shown = {(axes.get_subplotspec().rowspan.start, axes.get_subplotspec().colspan.start): axes for axes in panels(fig)}
    titles = {(0, 0): "one, with reasoning", (0, 1): "two, with reasoning", (1, 1): "two, without reasoning"}
    assert all(title in shown[place].get_title() for place, title in titles.items())
    assert not shown[1, 0].axison
    assert [shown[place].get_xlabel() != "" for place in titles] == [True, False, True]
