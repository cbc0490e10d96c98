"""Figures 4 and 11: what is drawn, against a map with known positions."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from r2a_core.attention_maps import MappedTrace, PooledMap, mapped_traces, pooled_maps
from r2a_core.figures.maps import Walk, map_figure, walks_of
from r2a_core.figures.style import save_figure
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments
from tests.figures.drawn import lines_at

# One trace of 16 tokens: BOS, query [1, 4), <think> 4, reasoning [5, 11), </think> 11, answer [12, 15), EOS 15.
BOUNDS = {"think_open": 4, "think_close": 11, "n_tokens": 16}
TOKENS = pl.DataFrame([{"item_id": "a$_1", "tokens": ["x"] * 16, **BOUNDS, "reflection": [7, 9]}])
FIRST_TOKENS = [0, 2, 4, 6, 8, 10, 12, 14]  # pooled by two
CELLS = np.arange(1.0, 65.0, dtype=np.float32).reshape(8, 8) / 64


def map_frame(**change: Any) -> pl.DataFrame:
    row = {"item_id": "a$_1", "kind": "head", "layer": 1, "head": 2, "row_token": FIRST_TOKENS}
    row |= {"col_token": FIRST_TOKENS, "pattern": CELLS.ravel().tolist()}
    kinds = {"layer": pl.Int16, "head": pl.Int16, "pattern": pl.List(pl.Float32)}
    return pl.DataFrame([row | change], schema_overrides=kinds)


def attention_frame(centroid: list[float]) -> pl.DataFrame:
    """The walk of head (1, 2), and reasoning rows, which have none."""
    walk = {"item_id": "a$_1", "layer": 1, "head": 2, "source": "answer", "walk_correlation_weighted": 0.5}
    walk |= {"row_mass": [0.9, 0.1, 0.09], "centroid": centroid, "spread": [0.1] * len(centroid)}
    return pl.DataFrame([walk | {"source": "reasoning", "centroid": None, "spread": None}, walk])


def drawn(walk: Walk | None = None) -> Any:
    traces = mapped_traces(TOKENS)
    pattern = pooled_maps(map_frame(), traces)["L1.H2", "a$_1"]
    return map_figure("toy", [traces["a$_1"]], [pattern], [walk])


def reflection_lines(axes: Any) -> list[tuple[float, float, float]]:
    return [(s[0, 0], s[0, 1], s[1, 1]) for s in axes.collections[1].get_segments()]


def test_the_whole_map_boxes_answer_to_reasoning_and_draws_reflection_lines() -> None:
    fig = drawn()
    whole = fig.axes[0]
    np.testing.assert_array_equal(whole.collections[0].get_array(), CELLS)
    corners = whole.collections[0].get_coordinates()
    assert corners[0, :, 0].tolist() == corners[:, 0, 1].tolist() == [*FIRST_TOKENS, 15]
    (box,) = whole.patches
    assert box.get_bbox().bounds == (5, 12, 6, 3)  # reasoning [5, 11) x answer [12, 15)
    assert reflection_lines(whole) == [(7, 7, 15), (9, 9, 15)]
    assert whole.get_ylim() == (15, 0)
    labels = [label.get_text() for label in whole.get_xticklabels(minor=True)]
    middles = dict(zip(labels, whole.get_xticks(minor=True), strict=True))
    assert middles == {"query": 2.5, "reasoning": 8, "answer": 13.5}
    assert not fig.axes[1].lines  # no walk
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["answer \u2192 reasoning", "reflection token"]


def test_the_enlarged_part_holds_the_cells_of_the_box_and_the_walk() -> None:
    part = drawn(walks_of(attention_frame([0.0, 0.5, 1.0]), mapped_traces(TOKENS))["L1.H2", "a$_1"]).axes[1]
    np.testing.assert_array_equal(part.collections[0].get_array(), CELLS[6:8, 2:6])  # tokens 12..15 x 4..12
    assert (part.get_xlim(), part.get_ylim()) == ((5, 11), (15, 12))
    (walk,) = lines_at(part, "walk")
    assert walk.get_xdata().tolist() == pytest.approx([5, 8, np.nan], nan_ok=True)
    (elsewhere,) = lines_at(part, "elsewhere")  # a mass of 0.09
    assert (elsewhere.get_xdata().tolist(), elsewhere.get_ydata().tolist()) == ([pytest.approx(11.12)], [14.5])
    assert walk.get_ydata().tolist() == [12.5, 13.5, 14.5]
    assert part.get_title() == "walk, weighted by mass: r = 0.50"
    assert reflection_lines(part) == [(7, 12, 15), (9, 12, 15)]


def test_a_map_fills_its_page_and_each_file_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = Walk(np.ones(3), np.array([0.0, 0.5, 1.0]), np.full(3, 0.1), 1.0)  # no row looks elsewhere
    fig, draw, drawings = drawn(everywhere), Figure.draw, []
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: (drawings.append(1), draw(self, renderer)))
    save_figure(fig, tmp_path / "map")
    assert len(drawings) == 2
    assert fig.axes[0].get_position().height > 0.35  # of the page


@pytest.mark.parametrize("change", [{"pattern": [0.5] * 63}, {"item_id": "other"}])
def test_a_map_that_does_not_fit_its_trace_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(R2AError, match="does not fit the tokens of its trace"):
        pooled_maps(map_frame(**change), mapped_traces(TOKENS))


def test_a_long_trace_shows_even_attention_few_marks_and_its_walk_in_groups() -> None:
    """Answer [12,935, 12,999) of 64 rows, in 32 groups of two; of each the first row alone looks, then neither."""
    trace = MappedTrace("a", TraceSegments(4, 12_934, 13_000), [], [5, 6, 1000])
    mass = np.tile([0.9, 0.0], 32)
    mass[-2] = 0.1  # a mean of 0.05
    walk = Walk(mass, np.tile([0.5, np.nan], 32), np.full(64, 0.1), 0.3)
    even = PooledMap(np.array([0, 12_999]), np.array([0, 12_999]), np.array([[1 / 13_000]]))
    whole, part = map_figure("long", [trace], [even], [walk]).axes[:2]
    assert whole.collections[0].norm.vmin == pytest.approx(0.5 / 13_000)
    assert reflection_lines(whole) == [(5, 5, 12_999), (1000, 1000, 12_999)]
    (drawn_walk,), (elsewhere,) = lines_at(part, "walk"), lines_at(part, "elsewhere")
    assert drawn_walk.get_ydata().tolist() == list(range(12_936, 13_000, 2))
    assert drawn_walk.get_xdata().tolist() == pytest.approx([5 + 12_929 / 2] * 31 + [np.nan], nan_ok=True)
    assert elsewhere.get_ydata().tolist() == [12_998]
