"""Values that a text names: numbers and options, and whether two of them are the same.

text -> matches of NUMBER, WHOLE_NUMBER or words_pattern; two answers -> agree.
"""

import re
from collections.abc import Iterable

from r2a_core.evaluation.normalise import phrase, tidy

DIGITS = r"[-\u2212]?\d+(?:,\d{3})*(?:\.\d+)?"

NUMBER = re.compile(rf"(?<![\w.]){DIGITS}")  # with or without a unit behind it

WHOLE_NUMBER = re.compile(rf"(?<![\w.\\])(?>{DIGITS})(?!\w)")  # that another number can replace


def words_pattern(words: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """Match any of the words, whole, the longest first; nothing where there are none."""
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{listed})(?!\w)" if listed else r"(?!)", flags)


def agree(one: str, other: str) -> bool:
    """Tell whether two answers are the same text, notation and letter case aside."""
    ours, theirs = (phrase(tidy(text)).lower().replace(" ", "") for text in (one, other))
    return ours == theirs
