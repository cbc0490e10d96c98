"""The notation of an answer: what is taken off, and that no text makes the reading of it fail."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r2a_core.evaluation.normalise import Quantity, is_words, quantity, refusal, tidy, units_disagree, word_key

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", Quantity("5")),
        (r"5\%", Quantity("5", percent=True)),
        (r"864 \mbox{ inches}^2", Quantity("864", unit="inch", power=2)),
        (r"15\text{ square centimeters}", Quantity("15", unit="cm", power=2)),
        ("3.50 dollars", Quantity("3.50", unit="dollar")),
        ("\\$3.50", Quantity("3.50", unit="dollar")),
        (r"90^\circ", Quantity("90", unit="degree")),
        ("1010_2", Quantity("1010", base=2)),
        (r"0.1\overline{6}", Quantity(r"\frac{15}{90}")),
        (r"\sin 30^\circ", Quantity(r"\sin (\frac{30\pi}{180})")),
    ],
)
def test_value_and_notation_come_apart(text: str, expected: Quantity) -> None:
    assert quantity(tidy(text)) == expected


@settings(derandomize=True, deadline=None, max_examples=500)
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
