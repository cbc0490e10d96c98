"""Rankings of heads by hand and on the published masses."""

import polars as pl
import pytest

from r2a_core import paper
from r2a_core.attention.heads import HEAD_SCHEMA, rank_heads
from r2a_core.attention.tables import ATTENTION_SCHEMA
from r2a_core.config import HeadsParams, parse
from r2a_core.infra.errors import R2AError
from r2a_core.results import KINDS, head_sets
from tests.study import PARAMS

HEADS = parse(HeadsParams, PARAMS["heads"], "heads")

STEPS = 65535  # of the published masses


def zero_scores(attention: pl.DataFrame) -> pl.DataFrame:
    heads = attention.select("layer", "head").unique(maintain_order=True)
    return heads.with_columns(induction=0.0, induction_match=0.0, retrieval=0.0)


@pytest.mark.parametrize("model", ["r1_llama_8b", "r1_qwen_7b"])
def test_the_published_masses_give_the_papers_heads(published, model):
    masses = published("head_masses").filter(pl.col("model") == model).explode("reasoning")
    trace, mass = pl.int_range(pl.len()).over("layer", "head").cast(pl.String), pl.col("reasoning") / STEPS
    attention = with_nulls(masses.with_columns(item_id=trace, source=pl.lit("answer"), reasoning=mass))
    heads = rank_heads({"math500": attention}, zero_scores(attention), HEADS.model_copy(update={"rule": "paper"}))
    assert set(heads["n_traces"]) == {100}
    assert head_sets(heads).rfh == paper.REASONING_FOCUS_HEADS[model]
    assert heads["answer_to_reasoning"].max() == pytest.approx(paper.FIRST_HEAD_MASS[model], abs=5e-4)
    assert heads["top10_count"].sum() == 1000


def first(top: int) -> HeadsParams:
    return HEADS.model_copy(update={"top": top})


def with_nulls(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in ATTENTION_SCHEMA; columns they lack are null."""
    absent = [pl.lit(None, kind).alias(name) for name, kind in ATTENTION_SCHEMA.items() if name not in rows.columns]
    return rows.with_columns(absent).select(list(ATTENTION_SCHEMA)).cast(ATTENTION_SCHEMA)  # type: ignore[arg-type]


def attention_rows(values: dict[str, list[float]]) -> pl.DataFrame:
    """Answer rows of 1 layer and as many heads as there are values of a trace."""
    rows = [
        {"item_id": item, "layer": 0, "head": head, "source": "answer", "reasoning": mass, "uniform_share": 0.25}
        for item, masses in values.items()
        for head, mass in enumerate(masses)
    ]
    return with_nulls(pl.DataFrame(rows))


def test_rankings_by_hand():
    attention = attention_rows({"a": [0.9, 0.5, 0.1], "b": [0.0, 0.25, 0.125], "c": [0.0, 0.25, 0.125]})
    scores = zero_scores(attention).with_columns(induction=pl.Series([0.0, 0.2, 0.4]))
    heads = rank_heads({"d": attention}, scores, first(1))
    assert dict(heads.schema) == HEAD_SCHEMA
    assert heads["answer_to_reasoning"].to_list() == pytest.approx([0.3, 1 / 3, 0.35 / 3])
    assert heads["rank"].to_list() == [2, 1, 3]
    assert heads["top10_count"].to_list() == [1, 2, 0]
    assert heads["count_rank"].to_list() == [2, 1, 3]
    assert heads["above_uniform"].to_list() == pytest.approx([0.05, 1 / 3 - 0.25, 0.35 / 3 - 0.25])
    equal = attention_rows({"a": [0.5, 0.5, 0.5]})
    heads = rank_heads({"d": equal, "e": equal}, zero_scores(equal), first(2))
    assert heads["rank"].to_list() == [1, 2, 3] * 2
    assert heads["top10_count"].to_list() == [1, 1, 0] * 2
    assert heads["dataset"].to_list() == ["d"] * 3 + ["e"] * 3
    with pytest.raises(R2AError, match=r"L0\.H1 has no induction or retrieval score"):
        rank_heads({"d": attention}, zero_scores(attention_rows({"a": [0.5]})), HEADS)


def test_heads_are_of_a_kind_by_score_and_not_by_rank_alone():
    """Forty heads, of which the first 5% are two; by falling mass, and the second is below its baseline."""
    mass = [1 - head / 100 for head in range(40)]
    attention = attention_rows({"a": mass}).with_columns(focus=pl.Series([0.5, -0.1, *[0.5] * 38], dtype=pl.Float32))
    scores = zero_scores(attention).with_columns(
        induction=pl.Series([0.3, 0.19, *[0.01] * 37, 0.2]), retrieval=pl.Series([*[0.0] * 38, 0.1, 0.4])
    )
    heads = rank_heads({"d": attention}, scores, HEADS)
    assert [heads.filter(kind)["head"].to_list() for kind in KINDS] == [[0], [0, 39], [38, 39]]
    assert head_sets(heads).induction == ((0, 0), (0, 39))
    published = rank_heads({"d": attention}, scores, HEADS.model_copy(update={"rule": "paper", "top": 3}))
    assert published.filter("reasoning_focus")["head"].to_list() == [0, 1, 2]
    few = rank_heads({"d": attention}, scores, HEADS.model_copy(update={"share": 0.1, "top": 1}))
    assert [few.filter(kind)["head"].to_list() for kind in KINDS] == [[0], [0], [39]]
    more = rank_heads({"d": attention}, scores, HEADS.model_copy(update={"share": 0.1}))
    assert more.filter("reasoning_focus")["head"].to_list() == [0, 2, 3]


def test_the_null_of_a_mean_over_traces_and_answers_in_other_words_by_hand():
    values = {"copied": [0.9, 0.49, 0.1], "walk_correlation_weighted": [0.8, 0.2, None], "reasoning": [0.9, 0.3, 0.5]}
    null = {"walk_null_mean": [0.1, 0.3, None], "walk_null_sd": [0.3, 0.4, None], "effective_rows": [9.0, 6.0, 0.0]}
    rows = {"item_id": ["a", "b", "c"], "layer": [0] * 3, "head": [0] * 3, "source": ["answer"] * 3, **values, **null}
    attention = with_nulls(pl.DataFrame(rows))
    (head,) = rank_heads({"d": attention}, zero_scores(attention), HEADS).iter_rows(named=True)
    mean, sd = 0.2, (0.3**2 + 0.4**2) ** 0.5 / 2
    assert head["walk_correlation_weighted"] == pytest.approx(0.5)
    assert head["walk_null_95"] == pytest.approx(mean + 1.644854 * sd)
    assert head["walk_p"] == pytest.approx(0.115070, abs=1e-6)  # of a normal variable beyond (0.5 - mean) / sd = 1.2
    assert head["effective_rows"] == pytest.approx(5)
    assert head["n_reworded"] == 2
    assert head["answer_to_reasoning_reworded"] == pytest.approx(0.4)
    assert head["walk_correlation_weighted_reworded"] == pytest.approx(0.2)
    unknown = attention.with_columns(pl.lit(None, pl.Float32).alias(name) for name in null)
    (head,) = rank_heads({"d": unknown}, zero_scores(attention), HEADS).iter_rows(named=True)
    assert (head["walk_null_95"], head["walk_p"]) == (None, None)
