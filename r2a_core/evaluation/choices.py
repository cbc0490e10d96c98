"""The letter that a tidied answer to a multiple-choice question names, and what it says behind it."""

import re
from dataclasses import dataclass

from r2a_core.evaluation.normalise import TEXT


@dataclass(frozen=True)
class Choice:
    """An option of a multiple-choice question: its letter, and what is written behind it."""

    letter: str
    text: str


CHOICE = re.compile(
    r"\s*(?:(?:option|choice|answer)\s*:?\s*)?(?:\(\s*(?P<round>[A-J])\s*\)\s*[:.]?|(?P<marked>[A-J])\s*[.):](?![A-Za-z]\s*$)|"
    r"(?P<alone>[A-J])\s*$)\s*(?P<text>.*)",
    re.DOTALL,
)

NAMED_CHOICE = re.compile(r"\s*(?:option|choice|answer)\s*:?\s*\(?([A-Ja-j])\)?\s*\.?\s*$", re.IGNORECASE)


def choice(text: str) -> Choice | None:
    """Reads "(E) 12", "E: twelve", "Option E" or "E" alone; None where the text is no option."""
    plain = re.sub(r"\s+", " ", re.sub(TEXT, r"\1 ", text)).strip()
    if named := NAMED_CHOICE.match(plain):
        return Choice(named[1].upper(), "")
    found = CHOICE.match(plain)
    if found is None or re.match(r"\s*(?:[,;&]|and\b|or\b)", found["text"]):
        return None
    return Choice(found["round"] or found["marked"] or found["alone"], found["text"].strip())
