"""The reductions that metrics, figures and the page share: by hand, and the same number wherever one is shown."""

from typing import Any

import polars as pl
import pytest

from r2a_core import paper, results
from r2a_core.attention.head_scores import SCORE_SCHEMA
from r2a_core.attention.heads import HEAD_SCHEMA, summary
from r2a_core.config import HeadsParams, WalkThresholds, parse
from r2a_core.figures.segment_masses import segment_mass_figure
from r2a_core.infra.files import write_frame
from r2a_core.paths import StudyPaths
from r2a_core.report.findings import attention_answer
from r2a_core.report.inputs import ReportInputs
from r2a_core.report.sections import heads_section, masses_record
from r2a_core.results import SET_COLUMNS, HeadSets, head_sets, rank_by_walk, segment_boxes, trace_means, walking_heads
from r2a_core.trace import SEGMENTS
from tests.study import PARAMS

WALK = WalkThresholds(mass=0.6, correlation=0.7)
# One head a layer of eight layers; the middle half is layers 2 to 5.
MASS = [0.9, 0.9, 0.8, 0.7, 0.59, 0.95, 0.9, 0.9]
CORRELATION = [0.99, 0.9, 0.8, None, 0.99, 0.84, 0.9, 0.9]
NULL_95 = [0, 0, 0, None, 0, 0.8, 0, 0]  # what the correlation reaches by chance


def scored_heads() -> pl.DataFrame:
    """Heads of one dataset in HEAD_SCHEMA, of which layers 0, 1, 6 and 7 pass the thresholds in vain."""
    walk = {"walk_correlation_weighted": CORRELATION, "walk_null_95": NULL_95}
    frame = pl.DataFrame({"layer": range(8), "answer_to_reasoning": MASS, **walk}, strict=False)
    rest = {name: pl.lit(0).alias(name) for name in HEAD_SCHEMA if name not in (*frame.columns, "dataset", "rank")}
    rank = pl.col("answer_to_reasoning").rank("ordinal", descending=True).alias("rank")
    return frame.select(pl.all(), *rest.values(), rank, dataset=pl.lit("d")).select(list(HEAD_SCHEMA)).cast(HEAD_SCHEMA)  # type: ignore[arg-type]


def test_page_and_metrics_count_the_walking_heads_of_the_middle_layers_that_reach_both_thresholds(tmp_path):
    heads = scored_heads()
    assert walking_heads(heads, WALK) == ((2, 0), (5, 0))
    margins = rank_by_walk(heads, WALK)
    assert margins["layer"].to_list() == [2, 5, 4]  # layer 3 has no correlation
    assert margins["margin"].to_list() == pytest.approx([0.8 / 0.7, 0.84 / 0.8, 0.59 / 0.6])
    by_chance = heads.with_columns(walk_null_95=pl.lit(0.81))
    assert walking_heads(by_chance, WALK) == ((5, 0),)
    assert walking_heads(heads.clear(), WALK) == ()
    params = parse(HeadsParams, PARAMS["heads"], "heads").model_copy(update={"walk": WALK})
    metrics = summary(heads, pl.DataFrame(schema=SCORE_SCHEMA), params)["datasets"]["d"]
    paths = StudyPaths(tmp_path)
    unused: Any = None
    write_frame(paths.heads("m"), heads)
    inputs = ReportInputs(
        paths, ["m"], {}, ["d"], ["with_reasoning"], {}, *[unused] * 6, walk=WALK, walks=unused, without_mode="empty"
    )
    page = attention_answer(heads_section(inputs, gaps=[]), WALK)
    assert metrics["walking_heads"] == 2
    assert [f"{metrics['walking_heads']} walking heads" in each for each in page.details] == [True]


def attention(masses: dict[tuple[str, str], float]) -> pl.DataFrame:
    """Two heads of one layer whose mass on the reasoning is that of (item, source), less and plus a tenth."""
    rows = [(*key, head, mass + (head - 0.5) / 5) for key, mass in masses.items() for head in (0, 1)]
    rest = {name: pl.lit(0.0) for name in SEGMENTS if name != "reasoning"}
    frame = pl.DataFrame(rows, schema=["item_id", "source", "head", "reasoning"], orient="row")
    return frame.with_columns(layer=pl.lit(0), uniform_share=pl.lit(0.4), **rest)


def test_boxes_hold_quartiles_and_whiskers_of_the_trace_means():
    frame = attention({(f"t{n}", "answer"): mass for n, mass in enumerate([0.1, 0.2, 0.3, 0.4, 0.9])})
    box = segment_boxes(trace_means(frame), "answer")["reasoning"]
    assert (box.q1, box.median, box.q3) == (pytest.approx(0.2), pytest.approx(0.3), pytest.approx(0.4))
    assert (box.whisker_low, box.whisker_high) == (pytest.approx(0.1), pytest.approx(0.4))  # 0.9 lies beyond 0.7
    assert box.values == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.9])
    later = segment_boxes(trace_means(attention({("a", "reasoning"): 0.5})), "reasoning")
    assert list(later) == ["bos", "query", "think_open", "reasoning"]  # no later segment is seen


def test_metrics_page_and_figure_show_the_same_medians():
    frame = attention({("b", "answer"): 0.25, ("a", "answer"): 0.5, ("c", "answer"): 0.3, ("a", "reasoning"): 0.7})
    metrics = results.segment_medians(frame)
    assert metrics["answer"]["n_traces"] == 3
    assert metrics["reasoning"]["n_traces"] == 1
    page = masses_record(frame)["boxes"]
    means = trace_means(frame).with_columns(model=pl.lit("m"), setting=pl.lit("with_reasoning"))
    (axes,) = segment_mass_figure(means, "d").axes
    drawn = [line.get_xdata()[0] for line in axes.lines if line.get_gid() == "median"]  # type: ignore[index]
    for place, segment in enumerate(SEGMENTS):
        assert metrics["answer"][segment] == page["answer"]["segments"][segment]["median"] == drawn[place]
    assert metrics["answer"]["reasoning"] == pytest.approx(0.3)


def test_published_traces_have_the_papers_medians(published):
    for model, expected in paper.SEGMENT_MEDIANS.items():
        traces = published("trace_masses").filter(pl.col("model") == model)
        if traces.height:
            one_head = traces.rename({"trace": "item_id"}).with_columns(layer=0, head=0)
            found = results.segment_medians(one_head)["answer"]
            assert found["n_traces"] == 100
            assert tuple(round(found[segment], 4) for segment in SEGMENTS) == expected


def test_sets_of_heads_are_ordered_by_score_and_ties_broken_by_layer_and_head():
    flags = [(True, True, False), (True, False, False), (True, True, True), (False, True, False)]
    rows = [(0, 0, 2, 1, 0.5, 0.0), (0, 1, 1, 2, 0.0, 0.0), (1, 0, 3, 3, 0.5, 0.1), (1, 1, 4, 4, 0.9, 0.0)]
    table = [(*row, *kinds) for row, kinds in zip(rows, flags, strict=True)]
    sets = head_sets(pl.DataFrame(table, schema=SET_COLUMNS, orient="row"))
    assert sets.rfh == ((0, 1), (0, 0), (1, 0))
    assert sets.rfh_by_count == ((0, 0), (0, 1), (1, 0))
    assert sets.induction == ((1, 1), (0, 0), (1, 0))
    assert sets.retrieval == ((1, 0),)
    ours, by_count = {"rfh_and_rfh_by_count": 3, "rfh_and_induction": 2, "rfh_and_retrieval": 1}, "rfh_by_count_and"
    others = {f"{by_count}_induction": 2, f"{by_count}_retrieval": 1, "induction_and_retrieval": 1}
    overlaps = sets.overlaps(4)
    assert {name: found["shared"] for name, found in overlaps.items()} == ours | others


def test_an_overlap_stands_beside_its_chance_by_hand():
    """Two of five heads and three of five share two: 3 of the 10 ways to draw two of five; at least one: 9 of 10."""
    three = ((0, 0), (0, 1), (0, 2))
    overlaps = HeadSets(three[:2], (), three, ((0, 1), (0, 4))).overlaps(5)
    assert overlaps["rfh_and_induction"] == {"shared": 2, "expected": pytest.approx(1.2), "p": pytest.approx(0.3)}
    assert overlaps["induction_and_retrieval"] == {"shared": 1, "expected": pytest.approx(1.2), "p": pytest.approx(0.9)}
    assert overlaps["rfh_and_rfh_by_count"] == {"shared": 0, "expected": 0, "p": 1}
