"""Finding the boxed answer of a text: the last complete box counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2a_core.trace import boxed_answers, has_boxed

CASES = [
    (r"so \boxed{5}.", ["5"]),
    (r"\boxed{3} then \boxed{5}", ["3", "5"]),
    (r"\fbox{7}", ["7"]),
    (r"\boxed {7}", ["7"]),
    (r"\boxed{\frac{1}{2}}", [r"\frac{1}{2}"]),
    (r"\boxed{\left\{1, 2\right\}}", [r"\left\{1, 2\right\}"]),
    (r"\boxed{\left\{ x \right.}", [r"\left\{ x \right."]),  # an escaped brace need not be closed
    (r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}", [r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"]),
    (r"\boxed{a \\}", [r"a \\"]),
    (r"\boxed{\boxed{5}}", [r"\boxed{5}", "5"]),
    (r"\boxed{3} and \boxed{5", ["3"]),
    (r"\boxed{ {5 }", []),
    (r"{ \boxed{5}", ["5"]),
    (r"} \boxed{5} }", ["5"]),
    (r"\boxed{}, \boxed{ }", []),
    (r"put it in \boxed{}: \boxed{4}", ["4"]),
    (r"\boxed 5", []),
    (r"\boxedx{5}", []),
    ("boxed{5}", []),
    ("", []),
    ("\\boxed{\n 12 \n}", ["12"]),
]


@pytest.mark.parametrize(("text", "boxes"), CASES)
def test_boxes_balance_and_come_in_the_order_of_their_start(text: str, boxes: list[str]) -> None:
    assert boxed_answers(text) == boxes
    assert has_boxed(text) is bool(boxes)


@given(st.lists(st.text(alphabet="ab12 +", min_size=1).filter(str.strip), min_size=1), st.text(alphabet="xy ,."))
def test_every_box_is_found_wherever_it_stands(contents: list[str], between: str) -> None:
    text = between.join(f"\\boxed{{{content}}}" for content in contents)
    assert boxed_answers(text) == [content.strip() for content in contents]


def test_a_text_of_boxes_that_never_close_takes_one_pass() -> None:
    assert boxed_answers("\\boxed{" * 200_000) == []  # a scan from each box to the end would take hours
