"""Numbers and words about hidden sentences and receiver heads, from tables that a person can check."""

import polars as pl
import pytest

from r2a_core.figures.sentences import sentences_figure
from r2a_core.sentences.summary import (
    points,
    pooled,
    receiver_records,
    sentences_summary,
    suppression_record,
    words,
)
from tests.figures.drawn import lines_at
from tests.sentences.cases import heads, hidden, params


def test_costs_are_means_over_traces_and_attention_is_ranked_within_each() -> None:
    record = suppression_record(hidden(), params())
    assert record is not None
    assert (record["n_traces"], record["n_sentences"]) == (2, 8)
    assert record["answer_kl"]["mean"] == pytest.approx(0.25)
    assert record["result_loss"]["mean"] == pytest.approx(2.5 / 2)
    assert record["rounding"] == pytest.approx({"answer_kl": 0.001, "later_kl": 0.5, "result_loss": 0})
    assert (record["top_share"], record["even_share"]) == pytest.approx((0.4, 0.25))
    assert record["attended"]["n_traces"] == 2
    assert record["attended"]["mean"] == pytest.approx((1 + 0.8) / 2)
    assert 1 / 401 <= record["attended"]["p"] < 0.05  # 8 of 24 * 24 pairs of orders are as far from 0
    assert record["place"]["mean"] == pytest.approx(0.9)
    unknown = suppression_record(hidden().with_columns(mass=pl.lit(None, pl.Float64)), params())
    assert unknown is not None
    assert unknown["attended"] == {"n_traces": 0, "mean": None, "low": None, "high": None, "p": None}
    assert suppression_record(hidden().clear(), params()) is None
    both = suppression_record(pooled({"x": hidden(), "y": hidden()}), params())
    assert both is not None
    assert both["n_traces"] == 4


def test_receivers_stand_beside_length_halves_and_chance() -> None:
    (record,) = receiver_records(heads(), params())
    assert (record["n_traces"], record["n_left_out"], record["n_heads"]) == (9, 1, 3)
    assert record["kurtosis"]["length"] == pytest.approx(1)
    assert record["ranked"]["length"] == pytest.approx(0, abs=1e-9)  # high, low, high, low, high
    assert record["matched"]["length"] is None
    assert (record["kurtosis"]["reliability"], record["matched"]["reliability"]) == (pytest.approx(1), None)
    assert record["over_chance"]["mean"] == pytest.approx(1 + 0.5 / 9 - 0.5)
    (few,) = receiver_records(heads().filter(pl.col("item_id") < "t8"), params())
    assert (few["n_traces"], few["kurtosis"]["length"]) == (7, None)


def test_words_say_what_was_found_and_what_was_not() -> None:
    cost, attended, receivers = words(sentences_summary(hidden(), heads(), params()))
    assert "the answer's distributions by 0.250" in cost
    assert "nats a token (n = 2 traces, 8 sentences; by rounding: 0.001)" in cost
    assert "has 40% of a trace's sum, where equal shares would have 25%" in cost
    assert "do not measurably cost it more when hidden: rank correlation within traces 0.90, p = 0.025" in attended
    assert "(9 traces, 1 without enough sentences or their stored rows): kurtosis r = 1.00 with length" in receivers
    assert "Kurtosis of ranks: more than that of shuffled ones" in receivers
    noise = hidden().with_columns(mass=pl.Series([None, 1, 2, 2, 1] * 2))
    assert "do not measurably cost it more" in words(sentences_summary(noise, heads().clear(), params()))[1]


def test_where_no_sentence_costs_anything_none_has_a_share() -> None:
    free = hidden().with_columns(answer_kl=pl.when(pl.col("item_id") == "a").then(pl.col("answer_kl")).otherwise(0.0))
    one = suppression_record(free, params())
    assert one is not None
    assert (one["top_share"], one["even_share"]) == pytest.approx((0.4, 0.25))  # of the other trace
    none = suppression_record(hidden().with_columns(answer_kl=-1e-9), params())
    assert none is not None
    assert (none["top_share"], none["even_share"]) == (None, None)
    assert "matters most" not in words({"hidden": none, "receivers": []})[0]
    unknown = none | {"result_loss": {"mean": 0.5, "low": None, "high": None}}
    assert "loses 0.500 nats, which cannot be told from no change" in words({"hidden": unknown, "receivers": []})[0]


def test_the_figure_shows_every_sentence_and_each_kind_of_kurtosis() -> None:
    figure = sentences_figure({"tiny": (points(hidden()), sentences_summary(hidden(), heads(), params()))}, "stories")
    left, right = figure.axes
    first, second = lines_at(left, "trace")
    assert list(first.get_xdata()) == pytest.approx([0.5, 1, 1.5, 2])
    assert list(second.get_ydata()) == pytest.approx([0.1, 0.2, 0.4, 0.3])
    assert [line.get_ydata()[0] for line in lines_at(left, "rounding")] == [0.001]
    (length,) = lines_at(right, "length")
    assert list(length.get_xdata()) == pytest.approx([1, 0], abs=1e-9)
