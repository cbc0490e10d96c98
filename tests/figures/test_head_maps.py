"""Figures 3 and 10: grids and marks that are drawn, against known means and the published heads."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.patches import Rectangle

from r2a_core import paper
from r2a_core.attention.heads import with_rank
from r2a_core.figures.head_maps import head_map_figure
from r2a_core.results import KINDS, SEGMENT_LABELS, HeadSets, head_means, head_sets
from r2a_core.trace import SEGMENTS

COLUMNS = ["item_id", "layer", "head", "source", *SEGMENTS]
NO_MARKS = HeadSets((), (), (), ())


def boxed_heads(axes: Any) -> list[tuple[int, int]]:
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(round(box.get_center()[1]), round(box.get_center()[0])) for box in boxes]


def marked_heads(axes: Any, marker: str) -> list[tuple[int, int]]:
    return [(y, x) for line in axes.lines if line.get_marker() == marker for x, y in zip(*line.get_data(), strict=True)]


def test_the_published_heads_are_boxed_in_order(published) -> None:
    masses = published("head_masses").with_columns(reasoning=pl.col("reasoning").list.mean() / 65535)
    means, sets = {}, {}
    for model in ("r1_llama_8b", "r1_qwen_7b"):
        heads = masses.filter(pl.col("model") == model).with_columns(bos=0.0, query=0.0, answer=0.0)
        zeros = dict.fromkeys(("induction", "retrieval", "count_rank"), pl.lit(0))
        kinds = dict.fromkeys(KINDS, pl.lit(value=False)) | {"reasoning_focus": pl.col("rank") <= 10}
        ranked = with_rank(heads, "rank", ["reasoning"]).with_columns(**zeros, **kinds)
        means[model], sets[model] = heads, head_sets(ranked)
    fig = head_map_figure(means, sets)
    for model in means:
        (axes,) = [axes for axes in fig.axes if axes.get_title() == f"{model}: answer \u2192 reasoning"]
        assert tuple(boxed_heads(axes)) == paper.REASONING_FOCUS_HEADS[model]
        drawn = axes.images[0].get_array()
        assert drawn is not None
        first = paper.REASONING_FOCUS_HEADS[model][0]
        assert drawn[first] == drawn.max() == pytest.approx(paper.FIRST_HEAD_MASS[model], abs=5e-4)


@pytest.mark.parametrize(("layers", "heads"), [(8, 4), (28, 12), (3, 5)])
def test_a_cell_is_the_trace_mean_of_its_head_and_blank_without_a_capture(layers: int, heads: int) -> None:
    masses = np.random.default_rng(7).dirichlet(np.ones(6), size=(3, layers, heads))
    masses[:, 1] = np.nan
    rows = [(f"t{p[0]}", *p[1:], "answer", *masses[p]) for p in np.ndindex(3, layers, heads) if p[1] != 1]
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    means = head_means(frame.sample(fraction=1, shuffle=True, seed=1))
    fig = head_map_figure({"toy": means}, {"toy": NO_MARKS})
    for segment in ("bos", "query", "reasoning", "answer"):
        (axes,) = [axes for axes in fig.axes if axes.get_title() == f"toy: answer \u2192 {SEGMENT_LABELS[segment]}"]
        expected = masses[..., SEGMENTS.index(segment)].mean(axis=0)
        np.testing.assert_allclose(axes.images[0].get_array().filled(np.nan), expected, atol=1e-12)  # type: ignore[union-attr]


def test_marks_stand_on_their_heads_and_in_the_legend() -> None:
    rows = [("a", layer, head, "answer", *[1 / 6] * 6) for layer in (0, 1) for head in (0, 1)]
    means = head_means(pl.DataFrame(rows, schema=COLUMNS, orient="row"))
    marks = HeadSets(rfh=((0, 1), (1, 0)), rfh_by_count=(), induction=((1, 1), (0, 1)), retrieval=((0, 0),))
    fig = head_map_figure({"toy": means}, {"toy": marks})
    assert boxed_heads(fig.axes[0]) == [(0, 1), (1, 0)]
    assert marked_heads(fig.axes[0], "^") == [(1, 1), (0, 1)]
    assert marked_heads(fig.axes[0], "o") == [(0, 0)]
    kinds = [text.get_text().split()[0] for text in fig.legends[0].get_texts()]
    assert kinds == ["Reasoning-Focus", "induction", "retrieval"]
    (text,) = head_map_figure({"toy": means}, {"toy": NO_MARKS}).legends[0].get_texts()
    assert text.get_text().startswith("Reasoning-Focus Head (")
