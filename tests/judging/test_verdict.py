"""Replies of a judge that are a verdict, and those that are none."""

import json
from pathlib import Path

import pytest

from r2a_core.evaluation.judge_reply import JudgeVerdict, ReplyFault, read_verdict

CASES = json.loads((Path(__file__).parent / "verdicts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_a_reply_is_a_verdict_or_says_why_not(case: dict) -> None:
    found = read_verdict(case["reply"])
    if "score" in case:
        assert isinstance(found, JudgeVerdict)
        assert found.score == case["score"]
    else:
        assert isinstance(found, ReplyFault)
        assert case["fault"] in found.reason


def test_texts_are_kept_as_given() -> None:
    found = read_verdict('{"strengths": ["eins", "zwei"], "weaknesses": "a \\ud800 b\\n\\u00e4", "score": 6}')
    assert found == JudgeVerdict(6, "eins\nzwei", "a ? b\nä")


@pytest.mark.parametrize("reply", ["[" * 100_000, '{"a":' * 100_000, '{"score": ' + "9" * 10_000 + "}"])
def test_replies_made_to_break_a_reader_are_faults(reply: str) -> None:
    assert isinstance(read_verdict(reply), ReplyFault)
