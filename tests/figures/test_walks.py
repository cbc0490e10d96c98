"""The overview of heads: points, ranks and overlaps that are drawn, against scores by hand."""

from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from r2a_core.config import WalkThresholds
from r2a_core.figures.walks import KINDS, keep_apart, overlap_counts, walk_overview_figure
from r2a_core.results import SET_COLUMNS, HeadSets
from tests.figures.drawn import lines_at


def scores() -> pl.DataFrame:
    """Four heads of two layers; head (1, 1) has no walk correlation."""
    rows = [
        (0, 0, 2, 2, 0.0, 0.9, True, False, True, 0.8, 0.1, 0.95),
        (0, 1, 3, 3, 0.8, 0.0, False, True, False, 0.3, 0.2, 0.6),
        (1, 0, 1, 1, 0.7, 0.2, True, True, True, 0.9, 0.9, 0.2),
        (1, 1, 4, 4, 0.0, 0.0, False, False, False, 0.1, None, 0.3),
    ]
    columns = [*SET_COLUMNS, "answer_to_reasoning", "walk_correlation_weighted", "uniformity"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def panel(fig: Figure, label: str) -> Any:
    (axes,) = [axes for axes in fig.axes if label in axes.get_ylabel()]
    return axes


def points(axes: Any, number: int) -> list[tuple[float, float]]:
    return [tuple(place) for place in axes.collections[number].get_offsets().tolist()]


def test_heads_stand_at_their_scores_and_the_rfhs_carry_their_rank() -> None:
    thresholds = WalkThresholds(mass=0.6, correlation=0.7)
    fig = walk_overview_figure({"toy_model": scores()}, "toy", thresholds)
    walk, uniformity = panel(fig, "walk correlation"), panel(fig, "uniformity")
    assert sorted(points(walk, 0)) == [(0.3, 0.2), (0.8, 0.1), (0.9, 0.9)]
    assert points(walk, 1) == [(0.9, 0.9), (0.8, 0.1)]
    assert [text.get_text() for text in walk.texts] == ["1", "2"]
    thresholds_drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in lines_at(walk, "threshold")]
    assert thresholds_drawn == [(0.6, 0), (0, 0.7)]
    assert sorted(points(uniformity, 0)) == [(0, 0.6), (0, 0.95), (1, 0.2), (1, 0.3)]
    # head (1, 0) is in all three, (0, 0) RFH and retrieval, (0, 1) induction alone
    assert [bar.get_height() for bar in panel(fig, "heads").patches] == [1, 0, 1, 0, 0, 1, 0]
    # two RFHs and two of each other kind among four heads share 1 on average, and 1 or more in 5 of 6 draws
    chance = "1, by chance 1.0 (p = 0.83)", "2, by chance 1.0 (p = 0.17)"
    expected = "\n".join(f"RFH and {kind}: {found}" for kind, found in zip(KINDS[1:], chance, strict=True))
    assert panel(fig, "heads").get_title() == expected


def test_labels_of_heads_that_coincide_are_kept_apart_and_near() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.0], [0.01, 0.0], [5.0, 5.0]])
    moved = keep_apart(places, 0.2, low=np.array([-1.0, -0.1]), high=np.array([6.0, 6.0]))
    distances = np.linalg.norm(moved[:, None] - moved[None], axis=-1)[np.triu_indices(4, 1)]
    assert distances.min() > 0.19
    assert np.linalg.norm(moved[:, None] - places[None], axis=-1).min() > 0.14
    assert np.linalg.norm(moved - places, axis=1).max() < 0.5
    assert moved[:, 1].min() >= 0  # half a gap inside the panel


def test_a_head_counts_in_exactly_one_combination() -> None:
    rfh, induction, retrieval = ((0, 0), (0, 1), (0, 2)), ((0, 1), (0, 2), (3, 3)), ((0, 2), (4, 4), (5, 5))
    counts = overlap_counts(HeadSets(rfh, (), induction, retrieval))
    assert {kinds: count for kinds, count in counts.items() if count} == {
        (True, True, True): 1,
        (True, True, False): 1,
        (True, False, False): 1,
        (False, True, False): 1,
        (False, False, True): 2,
    }
