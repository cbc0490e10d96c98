"""Heads beyond the length of the trace: dots, medians and odds that are drawn, against the numbers."""

import numpy as np
import pytest

from r2a_core.figures.reading import reading_figure
from r2a_core.walks.summary import best_walks, broken_record
from tests.figures.drawn import inside, lines_at
from tests.walks.cases import params, walked


def test_heads_medians_and_odds_are_those_of_the_table() -> None:
    frames = {"stories": walked(20), "few": walked(4)}
    figure = reading_figure(frames, "toy_model", params())
    excess, lengths, odds = figure.axes[:3]
    dots = {each.get_gid(): np.asarray(each.get_offsets()).round(5).tolist() for each in excess.collections}
    assert dots == {"kept": [[0.6, 0.3], [0.4, 0.35]], "dropped": [[0.7095, 0.4]]}
    assert next(line.get_xdata()[0] for line in lines_at(lengths, "median")) == pytest.approx(1)  # of mass
    own = broken_record([best_walks(frames["stories"], 1)], "walk")
    pooled = broken_record([best_walks(frame, 1) for frame in frames.values()], "walk")
    drawn = [line.get_xdata()[0] for line in lines_at(odds, "odds")]
    assert drawn[:2] == pytest.approx([own["odds_ratio"], pooled["odds_ratio"]])
    assert len(lines_at(figure.axes[5], "odds")) == 1  # of the few traces there is none of their own
    assert inside(figure)
