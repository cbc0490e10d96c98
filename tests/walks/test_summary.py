"""Rankings, ends and the question of wrong answers by hand, on planted cases and on the published masses."""

import numpy as np
import polars as pl
import pytest

from r2a_core.attention.masses import even_reading
from r2a_core.paper import REASONING_FOCUS_HEADS
from r2a_core.trace import TraceSegments
from r2a_core.walks.summary import (
    WALK_SCHEMA,
    broken_record,
    distance,
    head_table,
    pooled_record,
    walk_record,
    with_ranks,
)
from r2a_core.walks.words import sentences
from tests.walks.cases import params, row, viewed, walked


@pytest.mark.parametrize(("model", "early", "kept"), [("r1_llama_8b", (0, 22), 2), ("r1_qwen_7b", (1, 1), 3)])
def test_early_heads_of_the_published_data_fall(published, model, early, kept):
    """Of the paper's ten heads two and three read the reasoning beyond even reading, BOS apart; early ones do not."""
    segments = published("trace_segments").filter(model=model).sort("trace")
    share = []
    for _, _, opened, closed, n_tokens in segments.iter_rows():
        trace = TraceSegments(opened, closed, n_tokens)
        even = even_reading(trace, trace.answer, None)
        share.append(float(even[trace.reasoning.start : trace.reasoning.stop].sum() / even[1:].sum()))
    focus = published("focus_heads").filter(model=model).explode("reasoning", "bos")
    mass, bos = pl.col("reasoning") / 65535, pl.col("bos") / 65535
    by_trace = focus.with_columns(share=pl.Series(share * (focus.height // 100)), mass=mass)
    by_trace = by_trace.with_columns(even_excess=mass - (1 - bos) * pl.col("share"))
    heads = by_trace.group_by("layer", "head").agg(
        pl.col("mass", "even_excess").mean(), follows=pl.corr("mass", "share")
    )
    heads = with_ranks(heads.with_columns(entropy=pl.lit(None, pl.Float64), excess=pl.col("even_excess")), 0.9)
    ranks = {(layer, head): rank for layer, head, rank in heads.select("layer", "head", "rank_by_excess").rows()}
    assert ranks[early] is None
    assert sum(ranks[head] is not None for head in REASONING_FOCUS_HEADS[model]) == kept
    follows = {(layer, head): r for layer, head, r in heads.select("layer", "head", "follows").rows()}
    if model == "r1_llama_8b":  # of the ten, it follows the length of the trace most
        assert max(follows, key=follows.__getitem__) == early
        assert follows[early] == pytest.approx(0.911, abs=0.002)


def test_heads_that_read_evenly_are_dropped_and_length_is_told() -> None:
    heads = head_table(walked(), 0.9)
    assert heads["rank_by_mass"].to_list() == [2, 1, 3]
    assert heads["rank_by_excess"].to_list() == [2, None, 1]
    assert heads["length_mass"].to_list() == [None, pytest.approx(1), None]
    record = walk_record(walked(), params())
    assert record["first_dropped"] == ["L1.H1"]
    assert record["first_by_excess"] == ["L1.H2", "L1.H0"]
    assert record["best"]["heads"] == ["L1.H0"]
    assert record["best"]["walk"] == pytest.approx(0.75)
    assert record["question"]["mean"] == pytest.approx(0.75 - 0.23)


def test_the_reasoning_s_own_rows_have_a_record_of_their_own() -> None:
    record = walk_record(viewed(), params())
    assert {key: record[key] for key in record if key != "views"} | {"views": {}} == walk_record(walked(), params())
    own = record["views"]["question"]
    assert (own["n_traces"], own["n_heads"], own["reading"]) == (4, 3, 1)
    assert own["mass"] == pytest.approx((0.1 + 0.4 + 0.7) / 3)
    assert own["excess"]["mean"] == pytest.approx(0.1 + 0.0015 / 3)
    assert (own["first_by_excess"], own["shared"]) == (["L1.H2"], 1)
    text = sentences(record, pooled_record({"a": viewed()}, params()))[-1]
    assert "0.40 of their attention to the question (mean over heads), which is more than what reading by" in text
    assert text.endswith("beyond distance are L1.H2; the first 1 of these and the answer's have 1 in common.")


def ending(ends: list[int], marks: list[int]) -> pl.DataFrame:
    """Traces of 100 tokens with one path that ends, and one reflection phrase, each."""
    rows = [
        row(f"t{at}", 0, ends=[end], reflection=[mark]) for at, (end, mark) in enumerate(zip(ends, marks, strict=True))
    ]
    return pl.DataFrame(rows, schema=WALK_SCHEMA)


def test_ends_are_nearer_to_their_own_reflections_only_where_they_are() -> None:
    assert distance(np.array([10, 50]), np.array([0, 45])) == 7.5
    spread = list(range(5, 95, 10))
    near = walk_record(ending(spread, [end + 1 for end in spread]), params())["ends"]
    assert (near["n_traces"], near["distance"]) == (9, pytest.approx(0.01))
    assert near["p"] == pytest.approx(1 / 1001)
    late = walk_record(ending([90 + at for at in range(9)], [91 + at * 5 % 9 for at in range(9)]), params())["ends"]
    assert late["distance"] < 0.05  # both lie late, and neither says where the other is
    assert late["p"] > 0.05
    two = walk_record(ending([10, 90], [10, 80]), params())["ends"]
    assert (two["distance"], two["chance"]) == (pytest.approx(0.05), pytest.approx((0 + 0.7 + 0.8 + 0.1) / 4))
    assert two["p"] is None
    assert walk_record(walked().with_columns(reflection=pl.lit([], pl.List(pl.Int32))), params())["ends"] is None


def planted(effect: float, seed: int, n: int = 300) -> pl.DataFrame:
    """Wrong answers are long and, by `effect`, those of broken walks; broken walks are long as well."""
    generator = np.random.default_rng(seed)
    length = generator.integers(100, 400, n)
    walk = -(length - 250) / 100 + generator.normal(size=n)
    odds = effect * -walk + (length - 250) / 60
    score = (generator.random(n) > 1 / (1 + np.exp(-odds))).astype(float)
    rows = [row(str(at), 0, n_reasoning_tokens=int(length[at]), walk=walk[at], score=score[at]) for at in range(n)]
    return pl.DataFrame(rows, schema=WALK_SCHEMA)


def test_a_planted_effect_is_found_and_one_of_length_alone_is_not() -> None:
    found = broken_record([planted(1.0, 0), planted(1.0, 1)], "walk")
    assert found["low"] > 1.5
    assert found["n"] == 600
    null = broken_record([planted(0.0, 2), planted(0.0, 3)], "walk")
    assert null["low"] < 1 < null["high"]


def test_too_few_wrong_answers_are_no_answer() -> None:
    found = broken_record([walked(8)], "walk")
    assert (found["n"], found["n_wrong"], found["odds_ratio"]) == (8, 2, None)
    assert found["reason"] == "fewer than 5 of an outcome"
    right = walked(8).with_columns(score=pl.lit(1.0))
    for unusable in ([pl.DataFrame(schema=WALK_SCHEMA)], [right]):
        found = broken_record(unusable, "walk")
        assert (found["n"], found["odds_ratio"]) == (0, None)
        assert found["reason"] == "no dataset has right and wrong ones"
    assert broken_record([right, walked(20)], "walk")["n"] == 20  # a dataset with one outcome says nothing


def test_sentences_are_made_from_the_numbers() -> None:
    frames = {"a": walked(20), "b": walked(20)}
    record = walk_record(frames["a"], params())
    text = sentences(record, pooled_record(frames, params()))
    assert text[0].startswith(
        "2 of 3 heads read the reasoning more than even reading does, sinks left out, and not evenly; of the 3"
    )
    assert "1 do not (L1.H1)" in text[0]
    assert "walk at r = 0.70, which is more than over the question, 0.23" in text[1]
    assert text[2].startswith("Paths end nearer to a reflection phrase than by chance: 0.006 of")
    assert "cannot be told from no effect" in text[3]
    assert "10 of 40 answers are wrong" in text[3]
    few = sentences(walk_record(walked(), params()), pooled_record({"a": walked()}, params()))
    assert few[2].startswith("Whether paths end near reflection phrases cannot be told: ")
    assert few[-1].endswith("1 of 4 answers are wrong (fewer than 5 of an outcome).")
    still = walk_record(walked().with_columns(walk_rank=pl.lit(None, pl.Int32)), params())
    assert sentences(still, pooled_record({"a": walked()}, params()))[1].startswith("No head walks")


def test_heads_are_counted_as_reading_where_reading_by_distance_is_unknown() -> None:
    record = walk_record(walked().with_columns(excess=pl.lit(None, pl.Float32)), params())
    assert (record["reading"], record["first_dropped"], record["first_by_excess"]) == (2, ["L1.H1"], [])
