"""The notation of an answer: what is taken off, and that no text makes the reading of it fail."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r2a_core.evaluation.algebra.cursor import Reading
from r2a_core.evaluation.algebra.expression import read
from r2a_core.evaluation.algebra.quantities import quantity
from r2a_core.evaluation.algebra.tokens import Unreadable
from r2a_core.evaluation.choices import choice
from r2a_core.evaluation.normalise import is_words, refusal, tidy, word_key

NOTATION = json.loads((Path(__file__).parent / "notation.json").read_text(encoding="utf-8"))
answers = st.lists(st.sampled_from(NOTATION["marks"]) | st.text(max_size=3), max_size=14).map("".join)


@pytest.mark.parametrize(("text", "expected"), NOTATION["tidied"])
def test_one_thing_is_written_in_one_way(text: str, expected: str) -> None:
    assert tidy(text) == expected


@pytest.mark.parametrize(("text", "expected"), NOTATION["units"])
def test_units_have_dimensions_and_what_they_are_worth(text: str, expected: dict[str, Any]) -> None:
    _, unit = quantity(read(tidy(text), Reading())[0])
    assert {"dims": unit.dims, "factor": str(unit.factor), "scale": str(unit.scale)} == {"scale": "1"} | expected


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
        assert choice(tidied) is None or choice(tidied).letter in "ABCDEFGHIJ"  # type: ignore[union-attr]
        try:
            read(tidied, Reading())
        except Unreadable:
            return
