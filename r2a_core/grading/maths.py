"""Grading one boxed answer against the reference answer: (extracted, gold) -> `Verdict`. The algebra is math-verify's.

`grade` runs in the calling process and has no time limit; r2a_core.grading.worker.grade_many is what a stage calls.
"""

import re
from dataclasses import dataclass
from typing import Literal

from r2a_core.grading.algebra import equal_values, is_share
from r2a_core.grading.notation import ELLIPSIS, Quantity, is_words, quantity, refusal, tidy, units_disagree, word_key

Outcome = Literal["correct", "wrong", "timeout"]


@dataclass(frozen=True)
class Verdict:
    """What grading one answer came to, and why in a few words."""

    outcome: Outcome
    reason: str

    @property
    def score(self) -> int:
        """1 for a correct answer, else 0."""
        return int(self.outcome == "correct")


def grade(extracted: str, gold: str) -> Verdict:
    """Whether a boxed answer equals the reference answer: the whole of it, in any equivalent form.

    Right: unreduced fractions, a set in another order, a unit left out. Wrong: a part of a set, another unit, a tuple
    or an interval in another order. Words compare as text, letter case aside. Nothing in either text is run as code.
    """
    for name, text in (("answer", extracted), ("reference", gold)):
        if why := refusal(text):
            return Verdict("wrong", f"the {name} is refused: {why}")
    ours, theirs = tidy(extracted), tidy(gold)
    if _squeezed(ours) == _squeezed(theirs):
        return Verdict("correct", "the same text")
    if is_words(theirs):
        same = word_key(ours) == word_key(theirs)
        return Verdict("correct", "the same words") if same else Verdict("wrong", "other words")
    if ELLIPSIS.search(ours):
        return Verdict("wrong", "the answer leaves terms out")
    if re.search(r"(?:^|[^_^\d])\d+\s+\d", ours):
        return Verdict("wrong", "numbers side by side with nothing between them")
    return _grade_quantities(quantity(ours), quantity(theirs))


def _squeezed(text: str) -> str:
    """Without the spaces that no two digits need between them."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _grade_quantities(ours: Quantity, theirs: Quantity) -> Verdict:
    """Compares values once the notation around them is off: another unit is wrong, a missing one is not."""
    if units_disagree(ours, theirs):
        return Verdict("wrong", "another unit")
    if ours.base != theirs.base and ours.base is not None:
        return _grade_bases(ours, theirs)
    if ours.percent == theirs.percent and all(re.fullmatch(r"[-+]?\d+", each.latex) for each in (ours, theirs)):
        equal = int(ours.latex) == int(theirs.latex)
        return Verdict("correct", "the same number") if equal else Verdict("wrong", "another number")
    if any(equal_values(*pair) for pair in _readings(ours, theirs)):
        return Verdict("correct", "the same value")
    return Verdict("wrong", "another value, or one that cannot be read")


def _grade_bases(ours: Quantity, theirs: Quantity) -> Verdict:
    """A number written in a base against one in another base or none: equal value, or its digits without the base."""
    if theirs.base is None and ours.latex == theirs.latex:
        return Verdict("correct", "the same digits")
    try:
        equal = int(ours.latex, ours.base or 10) == int(theirs.latex, theirs.base or 10)
    except ValueError:
        return Verdict("wrong", "not a whole number of its base")
    return Verdict("correct", "the same number") if equal else Verdict("wrong", "another number")


def _readings(ours: Quantity, theirs: Quantity) -> list[tuple[str, str]]:
    """Pairs of LaTeX values, one of which must be equal: 25 or 0.25 may mean 25 percent, but 0.5 is not 0.5 percent."""
    plain = (ours.latex, theirs.latex)
    if ours.percent == theirs.percent:
        return [plain]
    if theirs.percent:
        return [plain, (ours.latex, rf"\frac{{{theirs.latex}}}{{100}}")]
    return [(rf"\frac{{{ours.latex}}}{{100}}", theirs.latex)] + ([] if is_share(theirs.latex) else [plain])
