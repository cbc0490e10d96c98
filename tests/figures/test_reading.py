"""Heads beyond the length of the trace: dots, medians and odds that are drawn, against the numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from r2a_core.figures.reading import draw_reading, reading_figure, rows_figure
from r2a_core.results import by_view
from r2a_core.walks.summary import best_walks, broken_record
from tests.figures.drawn import inside, lines_at
from tests.walks.cases import params, viewed, walked


def dots_of(axes: Axes) -> dict[Any, list[list[float]]]:
    return {each.get_gid(): np.asarray(each.get_offsets()).round(5).tolist() for each in axes.collections}


def test_views_of_the_reasoning_have_a_picture_where_there_are_any(tmp_path: Path) -> None:
    views = {"stories": {"question": by_view(viewed(20))["question"]}, "few": {}}
    seen, unseen = rows_figure(views, "toy_model", 0.9).axes
    assert dots_of(seen) == {"kept": [[0.7, 0.3095]], "dropped": [[0.1, -0.1], [0.4, 0.1]]}
    assert not unseen.get_visible()
    assert {path.stem for path in draw_reading({"few": walked()}, "m", params(), tmp_path)} == {"walks-m"}
    both = draw_reading({"few": viewed()}, "m", params(), tmp_path)
    assert {path.stem for path in both} == {"walks-m", "reasoning-rows-m"}


def test_heads_medians_and_odds_are_those_of_the_table() -> None:
    frames = {"stories": walked(20), "few": walked(4)}
    figure = reading_figure(frames, "toy_model", params())
    excess, lengths, odds = figure.axes[:3]
    assert dots_of(excess) == {"kept": [[0.6, 0.3], [0.4, 0.35]], "dropped": [[0.7095, 0.4]]}
    assert next(line.get_xdata()[0] for line in lines_at(lengths, "median")) == pytest.approx(1)  # of mass
    own = broken_record([best_walks(frames["stories"], 1)], "walk")
    pooled = broken_record([best_walks(frame, 1) for frame in frames.values()], "walk")
    drawn = [line.get_xdata()[0] for line in lines_at(odds, "odds")]
    assert drawn[:2] == pytest.approx([own["odds_ratio"], pooled["odds_ratio"]])
    assert len(lines_at(figure.axes[5], "odds")) == 1  # of the few traces there is none of their own
    assert inside(figure)
