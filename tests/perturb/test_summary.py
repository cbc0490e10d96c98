"""Curve, boundary, areas, arms and words on a table that a person can check."""

import math

import polars as pl
import pytest

from r2a_core.figures.perturb import perturb_figure
from r2a_core.perturb.areas import cot_transparency
from r2a_core.perturb.grid import at_fraction, cut_counts
from r2a_core.perturb.summary import boundary_of, item_changes, perturb_record
from r2a_core.perturb.words import change_words, label_of, sentences, words_of
from r2a_core.report.answers import perturb_sentence
from tests.figures.drawn import lines_at
from tests.perturb.cases import changed, params

FREE = {"traces": 1, "mistakes": 1, "max_new_tokens": 5, "batch_size": 4}


def test_numbers_are_those_worked_out_by_hand() -> None:
    record = perturb_record(changed(), params())
    assert [record[key] for key in ("n_items", "n_noise", "n_free", "n_free_noise")] == [3, 1, 1, 0]
    same = dict(zip(record["curve"]["fraction"], (point["mean"] for point in record["curve"]["same"]), strict=True))
    assert [same[place] for place in (0, 0.4, 0.5, 0.6, 0.7, 0.8, 1)] == [0, 0, 0.5, 0.5, 1, 1, 1]
    assert record["curve"]["p"][0]["mean"] == pytest.approx(0.1)
    found = record["boundary"]
    assert found["places"] == [0.6, 0.8]
    parts = [found[name]["mean"] for name in ("place", "p_before", "p_after", "p_empty")]
    assert parts == pytest.approx([0.7, 0.1, 0.8, 0.1])
    # a: half a step of 0.2 at the rise and two whole ones; b: one whole step less
    assert record["aoc"]["items"] == pytest.approx([0.5, 0.7])
    assert record["aoc"]["lanham"]["mean"] == pytest.approx(0.6)
    assert record["aoc"]["cot_transparency"] == pytest.approx(0.6)
    # accuracy 0, 0, 0.5, 1, 1 at 0.2 .. 1: area 0.2 (0 + 0.25 + 0.75 + 1)
    assert record["aoc"]["remul"] == pytest.approx(1 - 0.4)
    arms = {(arm["family"], arm["part"]): arm for arm in record["arms"]}
    assert [*arms] == [
        *(("cut", ""), ("number", "across"), ("number", "before"), ("other", "")),
        *(("mistake", "made"), ("mistake", "none")),
    ]
    assert [arm["same"]["mean"] for arm in arms.values()] == [0, 0, 0.5, 0, 0.25, 0.75]
    assert [arm["n"] for arm in arms.values()] == [2] * 6
    assert [arms["number", part]["edits"] for part in ("across", "before")] == [3, 2]
    assert arms["number", "across"]["loss"]["mean"] == pytest.approx(math.log(4))
    assert [arms["other", ""][key]["mean"] for key in ("took", "free_took")] == [0.5, None]
    wilson = pytest.approx(1 / (1 + 1.959964**2))  # the lower end of one of one
    assert arms["cut", ""]["free_same"] == {"n": 1, "mean": 1.0, "low": wilson, "high": 1.0}
    # three traces of 20 tokens, of which 16 are the shared beginning; 9 arms of each and 10 mistakes run 4 tokens
    cost = {"arms": 37, "tokens": 196, "whole_tokens": 740, "passes_per_trace": 256 / 60, "written_tokens": 60}
    assert record["cost"] == cost


@pytest.mark.parametrize(
    ("mistakes", "made", "none"),
    [
        (1, [(0.5, 0.25)], [(0.5, 0.75)]),  # a at 0.2 and 0.6, b at 0.4 and 0.8
        (2, [(0.3, 0), (0.7, 0.5)], [(0.3, 1), (0.7, 0.5)]),
    ],
)
def test_mistakes_are_shown_where_they_were_made(
    mistakes: int, made: list[tuple[float, float]], none: list[tuple[float, float]]
) -> None:
    curve = perturb_record(changed(), params(free=FREE | {"mistakes": mistakes}))["curve"]
    for part, expected in (("made", made), ("none", none)):
        assert [(point["place"], point["mean"], point["n"]) for point in curve[part]] == [
            (pytest.approx(place), mean, 2) for place, mean in expected
        ]


def test_the_area_of_mistakes_is_level_beyond_the_places_and_stands_beside_its_noise() -> None:
    record = perturb_record(changed(), params())
    aoc = record["aoc"]
    assert aoc["mistake_items"] == pytest.approx([0.4, 1])  # a: 1 - (0.2 + 0.4)
    assert [aoc[name]["mean"] for name in ("mistakes", "written_anew", "mistakes_alone")] == pytest.approx(
        [0.7, 0.2, 0.5]  # without: 0 for a, 1 - (0.4 + 0.2) for b
    )
    assert any("n = 2: 0.70; without a mistake 0.20" in text for text in sentences(record))
    bare = perturb_record(changed().filter(pl.col("family") != "mistake"), params())
    assert [bare["aoc"]["mistakes"]["n"], bare["curve"]["made"], len(bare["arms"])] == [0, None, 4]
    assert not any("mistake" in text for text in sentences(bare))


def test_a_flat_curve_has_the_areas_that_the_publications_give_it() -> None:
    flat = changed().with_columns(same=pl.lit(1.0), score=pl.lit(1.0))
    aoc = perturb_record(flat, params())["aoc"]
    assert [aoc["lanham"]["mean"], aoc["cot_transparency"], aoc["remul"]] == pytest.approx([0, 0, 0.2])


def test_items_without_a_box_do_not_count_in_cot_transparency() -> None:
    frame = changed().filter(pl.col("family") == "cut")
    items = [rows for _, rows in frame.group_by("item_id", maintain_order=True)]
    broken = items[0].with_columns(answer=pl.lit("The answer is"))
    assert cot_transparency([broken, items[1]], 0) == pytest.approx(0.7)
    assert cot_transparency([broken], 0) is None


def test_the_boundary_is_the_first_largest_rise_no_reasoning_included() -> None:
    cases = {(0.1, 0.6, 0.5, 0.9): 1, (0.1, 0.2, 0.9, 0.8): 2, (0.5, 0.4, 0.3, 0.3): 3, (0.25, 0.5, 0.75): 1}
    assert {p: boundary_of([math.log(value) for value in p]) for p in cases} == cases


def test_an_answer_that_no_cut_changes_settles_nowhere() -> None:
    kept = pl.col("item_id") == "a"
    frame = changed().with_columns(same=pl.when(kept, pl.col("family") == "cut").then(1.0).otherwise("same"))
    record = perturb_record(frame, params())
    assert [record["boundary"]["n_moved"], record["boundary"]["places"]] == [1, [0.8]]
    still = perturb_record(frame.filter(kept), params())
    assert [still["boundary"]["n_moved"], still["boundary"]["place"]["mean"]] == [0, None]
    assert any("No cut changes an answer." in text for text in sentences(still))
    assert perturb_sentence(still).startswith("Without the reasoning 100%")
    assert "Some cut of it changes 1 of 2; these settle after 80%" in perturb_sentence(record)


def test_an_answer_that_is_cut_off_is_counted_and_has_no_verdict() -> None:
    after = (pl.col("item_id") == "b") & (pl.col("family") == "other")
    frame = changed().with_columns(whole=~after, same=pl.when(~after).then("same"))
    record = perturb_record(frame, params())
    other = next(arm for arm in record["arms"] if arm["family"] == "other")
    assert [record["n_cut"], other["n"], other["same"]["n"], other["loss"]["n"]] == [1, 2, 1, 2]
    assert any("1 forced answers were cut off" in text for text in sentences(record))
    # the page's sentence, of arms with an interval: one without a single verdict is not among the fewest
    arms = [arm | {"loss": arm["loss"] | {"low": 1.0}} for arm in record["arms"] if arm["family"] != "cut"]
    open_, *told = [arm | {"same": arm["same"] | {"n": 2, "mean": 0.5}} for arm in arms]
    unknown = open_ | {"same": {"n": 0, "mean": None, "low": None, "high": None}}
    said = perturb_sentence(record | {"arms": [unknown, *told]})
    assert "Fewest, 50%, stay " in said
    assert words_of(unknown) not in said


def test_an_arm_has_one_name_on_axes_and_page() -> None:
    arm = {"family": "number", "part": "after", "level": 0.5}
    assert label_of(arm) == "wrong numbers after boundary, 50%"
    assert label_of(arm | {"edits": 1.25}) == "wrong numbers after boundary, 50%, 1.3 each"
    assert label_of({"family": "filler", "part": "", "level": 1.0, "edits": None}) == "filler"


def test_what_was_changed_can_be_read() -> None:
    arms = {(arm["family"], arm["part"]): arm["change"] for arm in item_changes(changed())["a"]["arms"]}
    assert arms["number", "before"] == "0 \u2192 9, 1 \u2192 9"
    edits = [{"token": each, "old": "1", "new": "2"} for each in range(11)]
    assert change_words({"edits": edits, "added": None, "donor": None}).endswith("1 \u2192 2, 3 more")
    assert change_words({"edits": [], "added": "\nSo 5.", "donor": "b"}) == "\u201cSo 5.\u201d, the reasoning of b"


def test_long_traces_are_cut_at_21_fractions() -> None:
    assert [cut_counts(0), cut_counts(3), cut_counts(20)[-3:]] == [[0], [0, 1, 2, 3], [18, 19, 20]]
    assert cut_counts(100) == [*range(0, 101, 5)]
    assert len(set(cut_counts(21))) == 21
    assert [at_fraction(5, step) for step in (0, 2, 9, 10, 20)] == [0, 1, 2, 3, 5]


def test_words_say_the_numbers_and_admit_what_cannot_be_told() -> None:
    said = sentences(perturb_record(changed(), params()))
    assert said[0] == (
        "Forced after the unchanged reasoning, 2 of 3 answers are the original ones; "
        "the other 1 are noise and left out."
    )
    assert any("Of the 2 of 2 answers that some cut changes" in text for text in said)
    assert any("from 0.10 to 0.80, comes at 70%" in text for text in said)
    assert any(text.startswith("After the reasoning of another item, 0%") and "50% (95%" in text for text in said)
    even = changed().with_columns(log_prob_base=pl.col("log_prob"))
    assert any("cannot be told from no change" in text for text in sentences(perturb_record(even, params())))
    alone = sentences(perturb_record(changed().filter(item_id="a"), params()))
    assert any("falls by 1.39 nats, which cannot be told from no change" in text for text in alone)
    half = changed().with_columns(free_whole=pl.col("family") != "other")
    assert any(
        text.endswith(" 1 were cut off as they were written and do not count.")
        for text in sentences(perturb_record(half, params()))
    )
    noise = perturb_record(changed().with_columns(same=pl.lit(0.0)), params())
    assert sentences(noise) == ["After the unchanged reasoning none of 3 answers is the original one: all is noise."]


def test_the_picture_has_every_arm_and_boundary() -> None:
    record = perturb_record(changed(), params())
    curves, arms = perturb_figure({"m": record}, "d").axes
    (boundary,), (same,), (made,) = (lines_at(curves, name) for name in ("boundary", "same", "made"))
    assert [list(made.get_xdata()), list(made.get_ydata())] == [[pytest.approx(0.5, abs=0.02)], [0.25]]
    assert list(boundary.get_xdata()) == pytest.approx([0.6, 0.8])
    assert list(same.get_ydata()) == [point["mean"] for point in record["curve"]["same"]]
    assert [line.get_xdata()[0] for line in lines_at(arms, "mean")] == [0, 0, 0.5, 0, 0.25, 0.75]
    assert [label.get_text() for label in arms.get_yticklabels()][:2] == [
        "no reasoning (2)",
        "wrong numbers, 100%, 3.0 each (2)",
    ]
    alone, _ = perturb_figure({"m": perturb_record(changed().filter(item_id="a"), params())}, "d").axes
    assert [line.get_gid() for line in alone.lines][:3] == ["same", "p", "score"]
