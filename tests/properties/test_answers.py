"""Any text as an answer: finding its box and reading its notation never raises, and boxes hold what stands in them."""

import json
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from r2a_core.evaluation.judge_reply import JudgeVerdict, read_verdict
from r2a_core.evaluation.normalise import is_words, quantity, refusal, tidy, units_disagree, word_key
from r2a_core.trace import boxed_answers, has_boxed

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=500)
MARKS = (
    *(
        "\\boxed{",
        "\\fbox {",
        "{",
        "}",
        "\\{",
        "\\}",
        "\\",
        "$",
        "^",
        "_",
        "\\circ",
        "\\frac",
        "\\overline{",
        "%",
        "\\%",
    ),
    *(
        "\\text{",
        "cm",
        "square ",
        "\\mathrm{",
        "0.",
        "1",
        "12",
        "٣",
        "²",
        ",",
        "\\dots",
        "!",
        "(",
        ")",
        "[",
        "]",
        " and ",
    ),
)
answers = st.lists(st.sampled_from(MARKS) | st.text(max_size=3), max_size=14).map("".join)


@REPEATABLE
@given(answers)
@example("\\boxed{" * 500)
@example("0.\\overline{" + "9" * 900 + "}")
@example("1" * 999 + "_{99999999999999999999}")
def test_notation_never_raises(text: str) -> None:
    why = refusal(text)
    assert why is None or why
    if why is None:
        tidied = tidy(text)
        assert isinstance(is_words(tidied), bool)
        assert isinstance(word_key(tidied), str)
        found = quantity(tidied)
        assert isinstance(found.latex, str)
        assert not units_disagree(found, found)


@REPEATABLE
@given(answers)
def test_boxes_are_what_stands_in_them(text: str) -> None:
    boxes = boxed_answers(text)
    assert has_boxed(text) == bool(boxes)
    for box in boxes:
        assert box.content == box.content.strip() != ""
        assert text[box.inside.start : box.inside.stop] == box.content
        assert re.match(r"\\(?:boxed|fbox)\s*\{\s*" + re.escape(box.content) + r"\s*\}", text[box.start :])


@REPEATABLE
@given(answers.map(lambda text: re.sub(r"[{}\\\\]", "", text)).filter(str.strip), st.text("ab \n", max_size=5))
def test_an_answer_is_found_in_its_box(answer: str, around: str) -> None:
    assert [box.content for box in boxed_answers(f"{around}\\boxed{{{answer}}}{around}")] == [answer.strip()]
    last = boxed_answers(f"\\boxed{{1}}{around}\\boxed{{\\frac{{{answer}}}{{2}}}}")[-1]
    assert last.content == f"\\frac{{{answer}}}{{2}}"


replies = st.one_of(
    answers,
    st.dictionaries(
        st.sampled_from(["score", "strengths", "weaknesses", "x"]),
        st.integers(-1, 12) | st.floats() | st.none() | st.booleans() | st.text(max_size=5) | st.just("\ud800"),
        max_size=4,
    ).map(json.dumps),
)


@REPEATABLE
@given(replies, st.sampled_from(["{}", "```json\n{}\n```", " {}\n", "My grade: {}", "{}{}"]))
@example('{"score": 7, "strengths": "\\ud800", "weaknesses": "none"}', "{}")
@example('{"score": ' + "9" * 5000 + ', "strengths": "a", "weaknesses": "b"}', "{}")
@example("[" * 100_000, "{}")
def test_a_judges_reply_is_a_verdict_or_a_fault(reply: str, around: str) -> None:
    found = read_verdict(around.replace("{}", reply))
    if isinstance(found, JudgeVerdict):
        assert 1 <= found.score <= 10
        for text in (found.strengths, found.weaknesses):
            assert text.encode("utf-8").decode("utf-8") == text
    else:
        assert found.reason
