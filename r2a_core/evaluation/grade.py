"""Grades one boxed answer against the reference answer: (extracted, gold) -> `Verdict`.

A text is tidied (normalise), compared as a choice or as words where it is that, else read (tokens, expression) and
compared by value (compare). docs/grading.md says what counts as equal. Nothing in a text is run as code: the grammar is
this project's own, and numbers are made of digits alone. `grade` runs in the calling process without a time limit;
stages call r2a_core.evaluation.sandbox.grade_many.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from r2a_core.evaluation.algebra.compare import Comparison
from r2a_core.evaluation.algebra.cursor import Cursor, Reading
from r2a_core.evaluation.algebra.equality import Equal
from r2a_core.evaluation.algebra.expression import read
from r2a_core.evaluation.algebra.qualifiers import without_qualifiers
from r2a_core.evaluation.algebra.tokens import Unreadable
from r2a_core.evaluation.algebra.units import number_in_words
from r2a_core.evaluation.choices import choice
from r2a_core.evaluation.normalise import ELLIPSIS, is_words, phrase, refusal, tidy, word_key

Outcome = Literal["correct", "wrong", "undecided", "timeout"]

SCORES = {"correct": 1, "undecided": None}


@dataclass(frozen=True)
class Verdict:
    """How one answer was graded, and why in a few words."""

    outcome: Outcome
    reason: str

    @property
    def score(self) -> int | None:
        """1 for a correct answer, None where that is open, else 0."""
        return SCORES.get(self.outcome, 0)


def grade(extracted: str, gold: str) -> Verdict:
    """Compares a boxed answer with the reference answer: the whole of it, in any equivalent form.

    Right: unreduced fractions, a set in another order, a unit left out. Wrong: a part of a set, another unit, a tuple
    or an interval in another order. Undecided: right in one reading of the notation and wrong in another. Words compare
    as text, letter case aside. Nothing in either text is run as code.
    """
    for name, text in (("answer", extracted), ("reference", gold)):
        if why := refusal(text):
            return Verdict("wrong", f"the {name} is refused: {why}")
    ours, theirs = phrase(tidy(extracted)), phrase(tidy(gold))
    if _without_spaces(ours) == _without_spaces(theirs):
        return Verdict("correct", "the same text")
    if (as_choice := _grade_choice(ours, theirs)) is not None:
        return as_choice
    if is_words(theirs):
        count = number_in_words(word_key(theirs))
        if count is None or is_words(ours):
            same = word_key(ours) == word_key(theirs)
            return Verdict("correct", "the same words") if same else Verdict("wrong", "other words")
        theirs = str(count)
    if is_words(ours) and (count := number_in_words(word_key(ours))) is not None:
        ours = str(count)
    for name, text in (("answer", ours), ("reference", theirs)):
        if ELLIPSIS.search(text):
            return Verdict("wrong", f"the {name} leaves terms out")
    try:
        return _grade_values(ours, theirs)
    except Unreadable as error:
        return Verdict("wrong", f"another value, or one that cannot be read: {error}")


def _without_spaces(text: str) -> str:
    """Drops all spaces but those between two digits."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _grade_choice(ours: str, theirs: str) -> Verdict | None:
    """Compares the letters of options; None where the reference is none, or the answer gives its text alone."""
    right, given = choice(theirs), choice(ours)
    if right is None:
        return grade(given.text, theirs) if given is not None and given.text and not is_words(theirs) else None
    if given is None:
        lone = re.fullmatch(r"\(?([a-j])\)?", re.sub(r"\\text\s*\{(.*)\}", r"\1", ours))
        if lone and r"\text" in theirs + ours:
            given_letter = lone[1].upper()
        else:
            return grade(ours, right.text) if right.text else None
    else:
        given_letter = given.letter
    if given_letter == right.letter:
        return Verdict("correct", "the same choice")
    return Verdict("wrong", "another choice")


def _grade_values(ours: str, theirs: str) -> Verdict:
    """Compares what both texts mean, in each reading of their notation."""
    verdict, met = _compared(ours, theirs, Reading())
    if verdict is not True and any(text.letter_units for text in met):
        with suppress(Unreadable):  # then it has one reading alone
            verdict = _compared(ours, theirs, Reading(upright_units=False))[0] or verdict
    if any(text.open_slash for text in met) and _compared(ours, theirs, Reading(tight_slash=True))[0] is not verdict:
        verdict = None
    if verdict is False and _decimal_comma(ours, theirs):
        verdict = None
    if verdict is None:
        return Verdict("undecided", "right in one reading, wrong in another")
    return Verdict("correct", "the same value") if verdict else Verdict("wrong", "another value")


def _compared(ours: str, theirs: str, reading: Reading) -> tuple[Equal, tuple[Cursor, Cursor]]:
    """The verdict in one reading, and what was met in both texts."""
    (a, met), (b, met_theirs) = read(ours, reading), read(theirs, reading)
    nodes = without_qualifiers((a, met), (b, met_theirs))
    if nodes is None:
        return False, (met, met_theirs)
    return Comparison(met.vectors or met_theirs.vectors).equal(*nodes), (met, met_theirs)


def _decimal_comma(ours: str, theirs: str) -> bool:
    """Tells whether a comma between digits, read as a decimal comma, would make them equal."""
    for text, other in ((ours, theirs), (theirs, ours)):
        if re.fullmatch(r"-?\d+,\d+", text) and _compared(text.replace(",", "."), other, Reading())[0]:
            return True
    return False
