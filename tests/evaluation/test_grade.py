"""Grading by value: a case table judged by hand, agreement with the published traces; no text is ever run as code."""

import json
import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.evaluation.grade import grade
from r2a_core.evaluation.normalise import MAX_LENGTH, refusal
from r2a_core.trace import boxed_answers

HERE = Path(__file__).parent
ANSWERS = json.loads((HERE / "answers.json").read_text(encoding="utf-8"))
# The published grader is stricter than a person: it rejects a missing unit and another order of solutions.
DISAGREEMENTS = json.loads((HERE / "disagreements.json").read_text(encoding="utf-8"))
LISTED = [{"boxed": case["extracted"], "gold": case["gold"], "correct": True} for case in DISAGREEMENTS]


@pytest.mark.parametrize("case", ANSWERS + LISTED, ids=lambda case: f"{case['gold']} | {case['boxed']}")
def test_an_answer_is_graded_as_a_person_would(case: dict[str, Any]) -> None:
    verdict = grade(case["boxed"], case["gold"])
    assert (verdict.outcome == "correct") is case["correct"], verdict.reason


GROUPS = tomllib.loads((HERE / "grading_cases.toml").read_text(encoding="utf-8"))["group"]
VERDICTS = {"right": "correct", "wrong": "wrong", "undecided": "undecided"}


def judged() -> dict[tuple[str, str], tuple[str, str]]:
    """The table: (answer, reference) -> kind and verdict, both ways round where the group does not say one_way."""
    cases: dict[tuple[str, str], tuple[str, str]] = {}
    for group in GROUPS:
        for verdict in VERDICTS:
            for text in group.get(verdict, []):
                pairs = [(text, group["gold"])] + [(group["gold"], text)] * (not group.get("one_way", False))
                for pair in pairs:
                    assert cases.setdefault(pair, (group["kind"], verdict))[1] == verdict, pair
    return cases


@pytest.mark.parametrize("kind", sorted({group["kind"] for group in GROUPS}))
def test_verdicts_on_the_table_are_those_argued_by_hand(kind: str) -> None:
    cases = {pair: verdict for pair, (of, verdict) in judged().items() if of == kind}
    given = {pair: grade(*pair).outcome for pair in cases}
    assert given == {pair: VERDICTS[verdict] for pair, verdict in cases.items()}


TOWERS = [(text, "tower") for text in ("2^{2^{2^{2}}}", "9^9^9", "9!!!")]
LONG = [("1" * (MAX_LENGTH + 1), "characters"), ("(" * 40 + "5" + ")" * 40, "brackets"), ("5}", "braces")]


@pytest.mark.parametrize(("text", "why"), TOWERS + LONG)
def test_absurd_input_is_refused_before_any_algebra(text: str, why: str) -> None:
    assert why in (refusal(text) or "")
    verdict = grade(text, "5")
    assert verdict.outcome == "wrong"
    assert "refused" in verdict.reason
    for ordinary in ("2^{2^3}", "x^2y^3z^4", r"\left[0, 2\right)", r"\left\{ x \right.", "5!"):
        assert refusal(ordinary) is None


HOSTILE = json.loads((HERE / "hostile_answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", [text.format(canary="r2a_was_here") for text in HOSTILE["code"]])
def test_python_in_an_answer_is_never_run(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that grades hands any text to Python."""
    monkeypatch.chdir(tmp_path)
    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(f"builtins.{name}", lambda *given, name=name, **_: pytest.fail(f"{name} of {given}"))
    assert grade(text, "5").outcome == "wrong"
    assert grade(text, "x + 5").outcome == "wrong"
    assert not list(tmp_path.iterdir())


def test_answers_and_grades_agree_with_the_published_ones_but_for_the_listed_cases(reference: Path) -> None:
    frame = pl.read_parquet(reference / "math500_greedy_traces.parquet").sort("model", "setting", "unique_id")
    answers = [boxed_answers(text.rpartition("</think>")[2])[-1].content for text in frame["response"]]
    verdicts = [grade(*pair).outcome == "correct" for pair in zip(answers, frame["answer"], strict=True)]
    published = frame.with_columns(ours=pl.Series(verdicts), found=pl.Series(answers))
    assert published.height == 276
    assert published["found"].to_list() == published["extracted_answer"].to_list()
    differing = published.filter(pl.col("ours") != pl.col("is_correct"))
    assert 1 - differing.height / published.height >= 0.95
    found = differing.select("unique_id", "model", "setting", gold="answer", extracted="extracted_answer", ours="ours")
    listed = [{name: case[name] for name in found.columns} for case in DISAGREEMENTS]
    key = ("model", "setting", "unique_id")
    assert sorted(found.to_dicts(), key=lambda row: [row[name] for name in key]) == listed
