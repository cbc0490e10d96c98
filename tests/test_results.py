"""The reductions that metrics, figures and the page share: by hand, and the same number wherever one is shown."""

import polars as pl
import pytest

from r2a_core.attention.heads import HEAD_SCHEMA, SCORE_SCHEMA, summary
from r2a_core.config import HeadsParams, InductionParams, NeedleParams, Needles, WalkThresholds
from r2a_core.infra.files import write_frame
from r2a_core.report.overview import attention_answer
from r2a_core.report.sections import heads_section
from r2a_core.report.sources import MissingParts, study_sources
from r2a_core.results import rank_by_walk, walking_heads

WALK = WalkThresholds(mass=0.6, correlation=0.7)
# One head a layer of eight layers; the middle half is layers 2 to 5.
MASS = [0.9, 0.9, 0.8, 0.7, 0.59, 0.95, 0.9, 0.9]
CORRELATION = [0.99, 0.9, 0.8, None, 0.99, 0.84, 0.9, 0.9]


def scored_heads() -> pl.DataFrame:
    """Heads of one dataset in HEAD_SCHEMA, of which layers 0, 1, 6 and 7 pass the thresholds in vain."""
    frame = pl.DataFrame({"layer": range(8), "answer_to_reasoning": MASS, "walk_correlation": CORRELATION})
    rest = {name: pl.lit(0).alias(name) for name in HEAD_SCHEMA if name not in (*frame.columns, "dataset", "rank")}
    rank = pl.col("answer_to_reasoning").rank("ordinal", descending=True).alias("rank")
    return frame.select(pl.all(), *rest.values(), rank, dataset=pl.lit("d")).select(list(HEAD_SCHEMA)).cast(HEAD_SCHEMA)  # type: ignore[arg-type]


def test_heads_that_walk_are_those_of_the_middle_layers_that_reach_both_thresholds():
    heads = scored_heads()
    assert walking_heads(heads, WALK) == ((5, 0), (2, 0))
    margins = rank_by_walk(heads, WALK)
    assert margins["layer"].to_list() == [5, 2, 4]  # layer 3 has no correlation
    assert margins["margin"].to_list() == pytest.approx([0.84 / 0.7, 0.8 / 0.7, 0.59 / 0.6])
    assert walking_heads(heads.clear(), WALK) == ()


def test_page_and_metrics_count_the_same_walking_heads(tmp_path):
    heads = scored_heads()
    needles = NeedleParams(needle="question", tests=1, context=8, needle_tokens=8, seed=0)
    induction = InductionParams(sequences=1, period=4, seed=0)
    params = HeadsParams(top=10, walk=WALK, induction=induction, retrieval=Needles(default=needles))
    metrics = summary(heads, pl.DataFrame(schema=SCORE_SCHEMA), params)["datasets"]["d"]
    sources = study_sources(tmp_path, ["m"], ["d"], ["with_reasoning"])
    sources.heads["m"].parent.mkdir()
    write_frame(sources.heads["m"], heads)
    records = heads_section(sources, 10, MissingParts())
    boxes = {"answer": {"segments": {"reasoning": {"median": 0.5}}}}
    attention = [{"model": "m", "dataset": "d", "setting": "with_reasoning", "boxes": boxes}]
    page = attention_answer(attention, records, WALK)
    assert metrics["walking_heads"] == 2
    assert page.details == (f"m on d: median mass 0.5000, {metrics['walking_heads']} walking heads",)
