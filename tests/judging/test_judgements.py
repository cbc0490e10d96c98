"""Repeated judgements, with their disagreement counted by hand."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.evaluation.judge_reply import (
    JUDGEMENT_SCHEMA,
    Disagreement,
    disagreement,
    judge_summary,
    mean_scores,
    read_judgements,
)
from r2a_core.infra.errors import R2AError


def judged(rows: list[tuple[str, int, int | None]], setting: str = "with_reasoning") -> pl.DataFrame:
    """Judgements of (item, repeat, score or None)."""
    full = [
        {
            "item_id": item,
            "setting": setting,
            "run": 0,
            "repeat": repeat,
            "status": "bad_reply" if score is None else "ok",
            "score": score,
            "judge_model": "j",
            "attempts": 1,
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "reply": "",
        }
        for item, repeat, score in rows
    ]
    return pl.DataFrame(full, schema=JUDGEMENT_SCHEMA)


THREE = judged([("a", 0, 5), ("a", 1, 7), ("a", 2, 6), ("b", 0, 4), ("b", 1, 4), ("b", 2, None), ("c", 0, 9)])


def test_disagreement_is_over_pairs_of_the_same_response() -> None:
    # a: |5-7|, |5-6|, |7-6| = 2, 1, 1; b: 0; c has one score only
    found = disagreement(THREE)
    assert (found.responses, found.mean_difference, found.exact) == (2, 1.0, 0.25)
    assert found.sd == pytest.approx(math.sqrt((1 + 1 + 0 + 0 + 0) / (2 + 1)))


def test_one_judgement_each_has_no_disagreement() -> None:
    assert disagreement(judged([("a", 0, 5), ("b", 0, 9)])) == Disagreement(0, None, None, None)


def test_the_same_item_in_both_settings_is_two_responses() -> None:
    both = pl.concat([judged([("a", 0, 2)]), judged([("a", 0, 9)], "without_reasoning")])
    assert disagreement(both).responses == 0
    assert mean_scores(both)["judged"].to_list() == [2.0, 9.0]


def test_a_score_is_the_mean_of_the_repeats_that_gave_one() -> None:
    assert dict(mean_scores(THREE).select("item_id", "judged").rows()) == {"a": 6.0, "b": 4.0, "c": 9.0}
    assert mean_scores(judged([("a", 0, None), ("a", 1, None)]))["judged"].to_list() == [None]


def test_the_summary_counts_outcomes_and_tokens() -> None:
    found = judge_summary(THREE)
    assert found["replies"] == {"ok": 6, "bad_reply": 1, "refused": 0}
    assert found["tokens"] == {"prompt": 700, "completion": 70}
    assert (found["model"], found["repeats"]) == ("j", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 11}, "the score 11"),
        ({"score": None}, "the score None"),
        ({"status": "bad_reply"}, "the status bad_reply and the score"),
        ({"status": "fine"}, "the status fine"),
        ({"item_id": "a", "repeat": 0}, "'a' is judged twice"),
    ],
)
def test_impossible_rows_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    frame = judged([("a", 0, 5), ("b", 1, 6)])
    second = pl.arange(pl.len()) == 1
    changed = [pl.when(second).then(pl.lit(value)).otherwise(name).alias(name) for name, value in change.items()]
    frame.with_columns(changed).cast(JUDGEMENT_SCHEMA).write_parquet(tmp_path / "j.parquet")  # type: ignore[arg-type]
    with pytest.raises(R2AError, match=message):
        read_judgements(tmp_path / "j.parquet")


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / "j.parquet")
    with pytest.raises(R2AError, match=r"j.parquet has no column setting"):
        read_judgements(tmp_path / "j.parquet")
    with pytest.raises(R2AError, match=r"none.parquet"):
        read_judgements(tmp_path / "none.parquet")
