"""Values that a text names: numbers, and whether two answers are the same.

text -> matches of NUMBER or WHOLE_NUMBER; two answers -> agree.
"""

import re

from r2a_core.evaluation.normalise import phrase, tidy

DIGITS = r"[-\u2212]?\d+(?:,\d{3})*(?:\.\d+)?"

NUMBER = re.compile(rf"(?<![\w.]){DIGITS}")  # with or without a unit behind it

WHOLE_NUMBER = re.compile(rf"(?<![\w.\\])(?>{DIGITS})(?!\w)")  # that another number can replace


def agree(one: str, other: str) -> bool:
    """Tell whether two answers are the same text, notation and letter case aside."""
    ours, theirs = (phrase(tidy(text)).lower().replace(" ", "") for text in (one, other))
    return ours == theirs
