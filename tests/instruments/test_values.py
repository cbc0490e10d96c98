"""What each instrument makes of the other stages' tables, by hand."""

import math

import polars as pl
import pytest

from r2a_core.attention.heads import HEAD_SCHEMA
from r2a_core.config import WalkThresholds
from r2a_core.instruments.catalogue import INSTRUMENTS
from r2a_core.instruments.values import (
    ATTENTION_COLUMNS,
    attention_values,
    knockout_values,
    patching_values,
    perturb_values,
    sentence_values,
    value_frame,
    walk_values,
)
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA
from tests.knockout import cases as cuts
from tests.perturb import cases as changes
from tests.sentences import cases as hidden_cases
from tests.walks import cases as walks

WALK = WalkThresholds(mass=0.4, correlation=0.7)


def by_item(parts: list[pl.DataFrame], column: str = "value") -> dict[str, dict[str, float]]:
    """Instrument -> item -> value."""
    found: dict[str, dict[str, float]] = {}
    for name, item, value in pl.concat(parts).select("instrument", "item_id", column).iter_rows():
        found.setdefault(name, {})[item] = value
    return found


def test_attention_is_that_of_the_heads_that_are_first_over_all_traces() -> None:
    heads = pl.DataFrame(
        [
            dict.fromkeys(HEAD_SCHEMA) | {"layer": 1, "head": head, "rank": rank, "count_rank": rank, "focus": focus}
            for head, rank, focus in ((0, 1, -1.0), (1, 2, 0.5), (2, 3, 2.0))
        ],
        schema=HEAD_SCHEMA,
    ).with_columns(
        reasoning_focus=pl.lit(value=False), induction_head=pl.lit(value=False), retrieval_head=pl.lit(value=False)
    )
    rows = [
        ("x", 1, head, source, mass, focus)
        for source in ("answer", "reasoning")
        for head, mass, focus in ((0, 0.9, -2.0), (1, 0.5, 1.0), (2, 0.1, 3.0))
    ]
    types = [pl.String, pl.Int16, pl.Int16, pl.String, pl.Float32, pl.Float32]
    attention = pl.DataFrame(rows, schema=dict(zip(ATTENTION_COLUMNS, types, strict=True)), orient="row")
    found = by_item(
        attention_values(attention.filter((pl.col("source") == "answer") | (pl.col("head") == 0)), heads, 2, WALK)
    )
    assert found["mass"] == {"x": pytest.approx(0.7)}
    assert found["focus"] == {"x": pytest.approx(2.0)}
    assert attention_values(attention, heads.head(0), 2, WALK) == []


def test_walks_are_those_of_the_best_heads_and_excess_of_heads_that_read() -> None:
    found = by_item(walk_values(walks.walked(2), 1, 1, 0.9))
    assert found["excess"] == pytest.approx({"t00": 0.35, "t01": 0.35})  # of head 2: head 1 reads evenly
    assert found["walk"] == pytest.approx({"t00": 0.9, "t01": 0.8})


def test_hidden_sentences_count_by_their_mean() -> None:
    parts = sentence_values(hidden_cases.hidden())
    assert by_item(parts) == {
        "hidden": {"a": pytest.approx(0.25), "b": pytest.approx(0.25)},
        "hidden_result": {"a": pytest.approx(1.25), "b": pytest.approx(1.25)},  # (4 + 1) / 2 nats, 2 tokens
    }
    behind = (25 + 20 + 15 + 10) / 30  # rows behind sentences that end at 5, 10, 15 and 20 of 30 tokens
    assert by_item(parts, "passes")["hidden"] == {"a": pytest.approx(1 + behind), "b": pytest.approx(1 + behind)}


def test_a_cut_is_what_a_token_loses_beyond_random_sets_and_costs_its_arms() -> None:
    rows = [cuts.row("a", "mass", 2, 0.4), cuts.row("a", "mass", 3, 9.0), cuts.row("a", "all", 8, 0.8)]
    rows += [cuts.row("a", "mass", 2, loss, draw) for draw, loss in enumerate((0.2, 0.6, 0.1))]
    rows += [cuts.row("a", "mass", 2, 0.7, kind="zero_head"), cuts.row("a", "all", 8, 5.0, kind="zero_head")]
    parts = knockout_values(pl.DataFrame(rows, schema=KNOCKOUT_SCHEMA), 2)
    found, passes = by_item(parts), by_item(parts, "passes")
    assert found == {
        "cut_mass": {"a": pytest.approx(0.4)},
        "cut_mass_result": {"a": pytest.approx(0.8)},  # 4 tokens of answer, 2 of result
        "cut_mass_more": {"a": pytest.approx(0.4 - 0.3)},
        "cut_all": {"a": pytest.approx(0.8)},
        "cut_all_result": {"a": pytest.approx(1.6)},
        "zero_head": {"a": pytest.approx(0.7)},
    }
    arm = 4 * (4 - 2) / (10 * 4)  # token-layers of an arm over those of the trace of 12 tokens
    assert passes["cut_mass"]["a"] == pytest.approx(1 + arm)
    assert passes["cut_mass_more"]["a"] == pytest.approx(1 + 4 * arm)


def test_changed_reasoning_is_what_the_answer_loses_and_noise_has_no_value() -> None:
    parts = perturb_values(changes.changed())
    found, passes = by_item(parts), by_item(parts, "passes")
    assert all(set(own) == {"a", "b"} for own in found.values())
    assert found["area"] == pytest.approx({"a": 0.5, "b": 0.7})  # 1 - trapezoid of 0 0 0 1 1 1, and of 0 0 0 0 1 1
    assert found["boundary"] == pytest.approx({"a": 0.6, "b": 0.8})
    assert found["empty"]["a"] == pytest.approx(math.log(8))
    assert found["wrong"]["a"] == pytest.approx(math.log(4))
    assert found["other"]["a"] == pytest.approx(math.log(2))
    assert found["swap"] == {"a": 1, "b": 1}
    assert passes["swap"]["a"] == pytest.approx(1 + 4 / 20)
    assert passes["area"]["a"] == pytest.approx(1 + 6 * 4 / 20)
    assert found["mistakes"] == pytest.approx({"a": 1 - 0.6, "b": 1})  # 0 to 0.2, up to 0.6, then 1
    assert found["mistakes_alone"] == pytest.approx({"a": 0.4, "b": 1 - 0.4})  # b anew: 1 to 0.4, down to 0.8, then 0
    assert passes["mistakes_alone"]["a"] == pytest.approx(1 + 4 * (4 + 6) / 20)  # two places, with and without
    assert "filler" not in found


def test_a_pair_has_the_flip_of_its_early_layers() -> None:
    cell = {"pair_id": "p", "component": "resid_pre", "head": None}
    rows = [
        cell | {"probe": probe, "layer": layer, "position": position, "role": role, "nld": nld}
        for probe, shift in (("plain", 0.0), ("boxed", 0.2))
        for layer, early in enumerate((0.8, 0.6, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0))
        for position, role, nld in ((5, "flip", early + shift), (7, "think_close", 0.3), (9, "answer_end", 0.5))
    ]
    (found,) = patching_values(pl.DataFrame(rows))
    assert found.row(0, named=True) == {
        "item_id": "p",
        "instrument": "flip",
        "value": pytest.approx((0.8 + 0.6) / 2 + 0.1),
        "passes": 2 * 2 + 2 * 2,
    }


def test_what_was_not_measured_has_a_row_without_a_value() -> None:
    found = value_frame({("m", "d"): perturb_values(changes.changed()), ("m", "none"): []})
    assert found.height == 2 * len(INSTRUMENTS)
    assert found.filter(instrument="filler")["value"].to_list() == [None, None]
    assert found["dataset"].unique().to_list() == ["d"]
