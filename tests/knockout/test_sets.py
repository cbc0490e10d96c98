"""Sets of heads from hand-made scores, random sets of the same layers, and the numbers and words about their cost."""

import math
from collections import Counter

import polars as pl
import pytest
from scipy import stats

from r2a_core.config import WalkThresholds
from r2a_core.figures.knockout import knockout_figure
from r2a_core.infra.errors import R2AError
from r2a_core.knockout.sets import Arm, chosen_sets, largest
from r2a_core.knockout.summary import cost_record, knockout_records, knockout_summary, sentences
from tests.figures.drawn import lines_at
from tests.knockout.cases import cut, params

WALK = WalkThresholds(mass=0.5, correlation=0.5)
N_LAYERS, N_HEADS = 4, 3


def heads() -> pl.DataFrame:
    """Twelve heads: mass falls from layer 0 on, focus rises; of layers 1 and 2 two heads walk."""
    number = list(range(N_LAYERS * N_HEADS))
    return pl.DataFrame(
        {
            "layer": [each // N_HEADS for each in number],
            "head": [each % N_HEADS for each in number],
            "rank": [each + 1 for each in number],
            "count_rank": [each + 1 for each in number],
            "focus": [None, *(float(each) for each in number[1:])],
            "answer_to_reasoning": [1 - each / 20 for each in number],
            "walk_correlation_weighted": [0.9 if each in (0, 4, 6) else 0.1 for each in number],
            "walk_null_95": 0.3,
            "induction": [each / 12 for each in number],
            "retrieval": 0.0,
            "reasoning_focus": False,
            "induction_head": [each == 11 for each in number],
            "retrieval_head": False,
        }
    )


def test_sets_hold_the_first_heads_by_their_score_and_a_kind_with_few_is_taken_whole() -> None:
    sets = chosen_sets(heads(), params(k=[1, 3, 30], random={"sets": ["mass"], "k": 10, "draws": 0, "seed": 0}), WALK)
    found = {(each.name, each.k): each.heads for each in sets}
    everything = tuple((layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS))
    assert found == {
        ("none", 0): (),
        ("mass", 1): ((0, 0),),
        ("mass", 3): ((0, 0), (0, 1), (0, 2)),
        ("mass", 12): everything,
        ("focus", 1): ((3, 2),),
        ("focus", 3): ((3, 0), (3, 1), (3, 2)),
        ("focus", 11): everything[1:],
        ("walking", 1): ((1, 1),),
        ("walking", 2): ((1, 1), (2, 0)),
        ("induction", 1): ((3, 2),),
        ("all", 12): everything,
    }
    assert [arm.first_layer for arm in (Arm.of("mask", found["walking", 2]), Arm.of("mask", ()))] == [1, 0]
    assert [(each.name, each.k) for name in ("mass", "all", "retrieval") if (each := largest(sets, name, 10))] == [
        ("mass", 3),
        ("all", 12),
    ]
    assert chosen_sets(heads().clear(), params(), WALK) == []


def test_random_sets_have_the_layers_of_theirs_and_stay_as_they_are_beside_others() -> None:
    asked = {"sets": ["walking", "mass"], "k": 4, "draws": 40, "seed": 5}
    sets = chosen_sets(heads(), params(k=[4], random=asked), WALK)
    drawn = {name: [each for each in sets if each.name == name and each.draw is not None] for name in asked["sets"]}
    assert [each.draw for each in drawn["mass"]] == list(range(40))
    for each in drawn["mass"]:
        assert Counter(layer for layer, _ in each.heads) == {0: 3, 1: 1}
        assert each.k == len(set(each.heads)) == 4
    assert {each.heads[3] for each in drawn["mass"]} == {(1, 0), (1, 1), (1, 2)}  # its own head too
    assert len({each.heads for each in drawn["walking"]}) == 9
    alone = chosen_sets(heads(), params(k=[4], random=asked | {"sets": ["mass"], "draws": 3}), WALK)
    assert [each for each in alone if each.draw is not None] == drawn["mass"][:3]


def test_a_set_is_ranked_only_where_it_is_cut() -> None:
    with pytest.raises(R2AError, match=r"ranks the set 'focus', which knockout\.sets lacks"):
        params(sets=["mass"], random={"sets": ["focus"], "k": 1, "draws": 1, "seed": 0})


def test_costs_ranks_and_words_are_those_of_the_rows() -> None:
    twice = pl.concat([cut(), cut().with_columns(item_id=pl.col("item_id") + "2")])  # two traces have no interval
    half = stats.t.ppf(0.975, 3) * 0.2 / math.sqrt(3) / 2  # of the losses 0.4, 0.6, 0.4, 0.6
    records = knockout_records(twice, params())
    assert [(each["set"], each["k"]) for each in records] == [("none", 0), ("mass", 2), ("all", 8), ("walking", 1)]
    mass = records[1]
    assert [mass["loss"][name] for name in ("mean", "low", "high")] == pytest.approx([0.5, 0.5 - half, 0.5 + half])
    assert mass["result_loss"]["mean"] == pytest.approx(1.0)
    chance = mass["loss"]["random"]
    assert chance["means"] == pytest.approx([0.2, 0.6, 0.1])
    assert (chance["rank"], chance["p"]) == (2, 0.5)  # one of three costs as much
    assert [chance["more"][name] for name in ("mean", "low", "high")] == pytest.approx([0.2, 0.2 - half, 0.2 + half])
    assert mass["anew"] | {"difference": None} == {
        "n_traces": 4,
        "changed": 0.5,
        "changed_random": [],
        "n_graded": 4,
        "accuracy": 0.5,
        "accuracy_base": 1.0,
        "difference": None,
    }
    first, second = sentences(records)
    assert first == (
        "Cutting the answer's view of the reasoning in the 2 heads with most attention on the reasoning costs 0.500 "
        "nats per token of the answer (95% 0.316 to 0.684, n = 4); all heads together: 0.800. Of random sets of the "
        "same layers, 1 of 3 cost as much (p = 0.5). Written anew, 50% of 4 answers change (0% by rounding alone); "
        "accuracy 100% becomes 50%."
    )
    assert "in the head with the best walk cannot be told from no change" in second
    assert [records[0]["loss"][name] for name in ("low", "high")] == [0, 0]  # losses are no shares, even if all are 0
    alone = sentences(knockout_records(cut().filter(item_id="a"), params()))[0]
    assert "cannot be told from no change: it costs 0.400 nats per token of the answer (n = 1); all" in alone
    both = pl.concat(
        [twice, twice.with_columns(view=pl.lit("question"), reasoning_log_prob=-6.0, reasoning_log_prob_base=-3.0)]
    )
    summary = knockout_summary(both, params())
    assert [summary["sets"], summary["cost"]] == [knockout_summary(twice, params())[name] for name in ("sets", "cost")]
    question = summary["views"]["question"]
    assert question["cost"]["token_layers"] == 4 * 40 + 4 * (3 + 1 + 4) * (4 + 7 * 2)
    assert question["sets"]["mask"]["mass_2"]["reasoning_loss"]["mean"] == pytest.approx(1.0)
    assert sentences([*question["sets"]["mask"].values()])[0].startswith(
        "Cutting the reasoning's view of the question in the 2 heads with most attention on the reasoning costs 1.000 "
        "nats per token of the reasoning (95% 1.000 to 1.000, n = 4); all heads together: 1.000."
    )
    assert cost_record(cut()) == {"token_layers": 2 * 40 + 2 * 4 * (4 + 7 * 2), "whole_passes": 2 * 8 * 40}
    assert knockout_records(cut().clear(), params()) == []


def test_the_figure_shows_every_set_and_its_random_ones() -> None:
    figure = knockout_figure({"tiny": knockout_records(cut(), params())}, "stories")
    answer, result = figure.axes
    assert [label.get_text() for label in answer.get_yticklabels()] == ["none 0", "mass 2", "all 8", "walking 1"]
    assert [line.get_xdata()[0] for line in lines_at(answer, "mean")] == pytest.approx([0, 0.5, 0.8, 0])
    assert [list(line.get_xdata()) for line in lines_at(result, "random")] == [
        pytest.approx([0.4, 1.2, 0.2]),
        pytest.approx([0.6]),
    ]
