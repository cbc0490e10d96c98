"""What training added to the heads: dots, marks and names that are drawn, against scores by hand."""

import numpy as np
import polars as pl
import pytest

from r2a_core.config import WalkThresholds
from r2a_core.figures.readers import reader_figure
from r2a_core.results import head_changes
from tests.figures.drawn import inside, lines_at

HEADS = ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0))  # of four layers; those of layers 1 and 2 may walk
MASS = {"base": (0.1, 0.2, 0.3, 0.4, 0.5), "tuned": (0.8, 0.7, 0.3, 0.6, 0.95)}
WALK = {"base": (0.1, 0.9, None, 0.3, 0.4), "tuned": (0.9, 0.95, 0.2, 0.1, 0.9)}
RANKS = {"base": (5, 4, 3, 2, 1), "tuned": (2, 3, 5, 4, 1)}


def rows(model: str) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "model": model,
            "layer": [layer for layer, _ in HEADS],
            "head": [head for _, head in HEADS],
            "n_traces": 7,
            "rank": RANKS[model],
            "reasoning_focus": [rank <= 2 for rank in RANKS[model]],
            "walk_null_95": 0.3,
            "answer_to_reasoning": MASS[model],
            "walk_correlation_weighted": WALK[model],
            "walk_correlation": WALK[model],
        }
    )


def test_heads_stand_at_before_and_after_and_the_marked_ones_are_named() -> None:
    both = pl.concat([rows("base"), rows("tuned")])
    changes = head_changes(both, "base", "tuned", WalkThresholds(mass=0.6, correlation=0.7))
    assert (changes.rfh, changes.walking_before, changes.walking_after) == (((3, 0), (1, 0)), (), ((1, 0), (1, 1)))
    # ranks by mass 1..5 before and 4, 3, 1, 2, 5 after: 1 - 6 * (9 + 1 + 4 + 4 + 0) / (5 * 24)
    assert changes.spearman("answer_to_reasoning") == pytest.approx(0.1)
    assert changes.changed_most("answer_to_reasoning", 2) == [((1, 0), 0.1, 0.8), ((1, 1), 0.2, 0.7)]
    figure = reader_figure(changes, "base", "tuned", "stories")
    panels = {axes.get_title().splitlines()[0]: axes for axes in figure.axes}
    cases = {
        "attention mass answer \u2192 reasoning": (MASS, "0.10"),
        "walk correlation, weighted by mass": (WALK, "0.63"),  # 3 / sqrt(5 * 4.5)
    }
    for title, (values, rho) in cases.items():
        axes = panels[title]
        known = [pair for pair in zip(values["base"], values["tuned"], strict=True) if None not in pair]
        places = {each.get_gid(): np.asarray(each.get_offsets()).tolist() for each in axes.collections[:2]}
        drawn = {gid: [tuple(place) for place in found] for gid, found in places.items()}
        assert sorted(drawn[None]) == sorted(known)
        assert sorted(drawn["walking"]) == sorted(zip(values["base"][:2], values["tuned"][:2], strict=True))
        assert sorted(text.get_text() for text in axes.texts) == ["1", "2"]
        assert axes.get_title().splitlines()[1] == f"{len(known)} heads, Spearman \u03c1 = {rho}"
        (diagonal,) = lines_at(axes, "diagonal")
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    named = figure.get_supxlabel()
    assert named.splitlines() == [
        "RFH by rank:   1 L3.H0   2 L1.H0",
        "walking after (green):   L1.H0   L1.H1",
        "walking before:   none",
    ]
    assert inside(figure)


def test_scores_that_all_tie_have_no_rank_correlation() -> None:
    same = pl.concat([rows("base"), rows("tuned")]).with_columns(answer_to_reasoning=0.5)
    changes = head_changes(same, "base", "tuned", WalkThresholds(mass=0.6, correlation=0.7))
    assert changes.spearman("answer_to_reasoning") is None
    figure = reader_figure(changes, "base", "tuned", "stories")
    assert figure.axes[0].get_title().endswith("\n5 heads")
