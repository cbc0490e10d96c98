"""Replies of a judge that are a verdict, and those that are none."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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


replies = st.one_of(
    st.lists(
        st.sampled_from(["{", "}", "[", "score", ":", "7", ",", "```", "\n"]) | st.text(max_size=3), max_size=14
    ).map("".join),
    st.dictionaries(
        st.sampled_from(["score", "strengths", "weaknesses", "x"]),
        st.integers(-1, 12) | st.floats() | st.none() | st.booleans() | st.text(max_size=5) | st.just("\ud800"),
        max_size=4,
    ).map(json.dumps),
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(replies, st.sampled_from(["{}", "```json\n{}\n```", " {}\n", "My grade: {}", "{}{}"]))
@example('{"score": 7, "strengths": "\\ud800", "weaknesses": "none"}', "{}")
@example('{"score": ' + "9" * 5000 + ', "strengths": "a", "weaknesses": "b"}', "{}")
@example("[" * 100_000, "{}")
@example('{"a":' * 100_000, "{}")
def test_a_judges_reply_is_a_verdict_or_a_fault(reply: str, around: str) -> None:
    found = read_verdict(around.replace("{}", reply))
    if isinstance(found, JudgeVerdict):
        assert 1 <= found.score <= 10
        for text in (found.strengths, found.weaknesses):
            assert text.encode("utf-8").decode("utf-8") == text
    else:
        assert found.reason
