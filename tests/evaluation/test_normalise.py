"""The notation of an answer: what is taken off, and that no text makes the reading of it fail."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r2a_core.evaluation.normalise import Quantity, is_words, quantity, refusal, tidy, units_disagree, word_key

NOTATION = json.loads((Path(__file__).parent / "notation.json").read_text(encoding="utf-8"))
answers = st.lists(st.sampled_from(NOTATION["marks"]) | st.text(max_size=3), max_size=14).map("".join)


@pytest.mark.parametrize(("text", "expected"), NOTATION["quantities"])
def test_value_and_notation_come_apart(text: str, expected: dict[str, Any]) -> None:
    assert quantity(tidy(text)) == Quantity(**expected)


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
