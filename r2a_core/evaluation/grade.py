"""Grades one boxed answer against the reference answer: (extracted, gold) -> `Verdict`. The algebra is math-verify's.

Numbers, expressions, equations, sets, tuples and matrices are compared by value. Only math-verify's LaTeX reader is
used, which has a grammar of its own: its reader of plain expressions would hand the text to sympy's, which runs it as
Python. `grade` runs in the calling process without a time limit; stages call r2a_core.evaluation.sandbox.grade_many.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

from r2a_core.evaluation.normalise import (
    ELLIPSIS,
    Quantity,
    is_words,
    quantity,
    refusal,
    tidy,
    units_disagree,
    word_key,
)

Outcome = Literal["correct", "wrong", "timeout"]


@dataclass(frozen=True)
class Verdict:
    """How one answer was graded, and why in a few words."""

    outcome: Outcome
    reason: str

    @property
    def score(self) -> int:
        """1 for a correct answer, else 0."""
        return int(self.outcome == "correct")


def grade(extracted: str, gold: str) -> Verdict:
    """Compares a boxed answer with the reference answer: the whole of it, in any equivalent form.

    Right: unreduced fractions, a set in another order, a unit left out. Wrong: a part of a set, another unit, a tuple
    or an interval in another order. Words compare as text, letter case aside. Nothing in either text is run as code.
    """
    for name, text in (("answer", extracted), ("reference", gold)):
        if why := refusal(text):
            return Verdict("wrong", f"the {name} is refused: {why}")
    ours, theirs = tidy(extracted), tidy(gold)
    if _without_spaces(ours) == _without_spaces(theirs):
        return Verdict("correct", "the same text")
    if is_words(theirs):
        same = word_key(ours) == word_key(theirs)
        return Verdict("correct", "the same words") if same else Verdict("wrong", "other words")
    if ELLIPSIS.search(ours):
        return Verdict("wrong", "the answer leaves terms out")
    if re.search(r"(?:^|[^_^\d])\d+\s+\d", ours):
        return Verdict("wrong", "numbers side by side with nothing between them")
    return _grade_quantities(quantity(ours), quantity(theirs))


def _without_spaces(text: str) -> str:
    """Drops all spaces but those between two digits."""
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", text)


def _grade_quantities(ours: Quantity, theirs: Quantity) -> Verdict:
    """Compares values without the notation around them: another unit is wrong, a missing one is not."""
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
    """Compares a number in a base with one in another base or none: by value, or by digits where one has no base."""
    if theirs.base is None and ours.latex == theirs.latex:
        return Verdict("correct", "the same digits")
    try:
        equal = int(ours.latex, ours.base or 10) == int(theirs.latex, theirs.base or 10)
    except ValueError:
        return Verdict("wrong", "not a whole number of its base")
    return Verdict("correct", "the same number") if equal else Verdict("wrong", "another number")


def _readings(ours: Quantity, theirs: Quantity) -> list[tuple[str, str]]:
    """Lists pairs of LaTeX values, one of which must be equal: 25 or 0.25 may mean 25%, but 0.5 is not 0.5%."""
    plain = (ours.latex, theirs.latex)
    if ours.percent == theirs.percent:
        return [plain]
    if theirs.percent:
        return [plain, (ours.latex, rf"\frac{{{theirs.latex}}}{{100}}")]
    return [(rf"\frac{{{ours.latex}}}{{100}}", theirs.latex)] + ([] if is_fraction(theirs.latex) else [plain])


# math-verify's own unit removal is off: it takes the t of 3t for a unit.
READER_NOTATION = {"basic_latex": True, "units": False, "malformed_operators": True, "nits": True, "boxed": "last"}

BRACKETS = {"(": ")", "[": "]", "{": "}"}


def equal_values(ours: str, theirs: str) -> bool:
    """Tells whether the answer `ours` equals the reference `theirs`; False where either cannot be read.

    A tuple or an interval has an order, a list without brackets too when it is compared with one; braces make a set.
    """
    from math_verify import verify

    shapes = collection_kind(ours), collection_kind(theirs)
    if set(shapes) == {"set", "tuple"}:
        return False
    if set(shapes) == {"list", "tuple"}:
        ours, theirs = (
            f"({text})" if kind == "list" else text for text, kind in zip((ours, theirs), shapes, strict=True)
        )
    a, b = parse_latex(ours), parse_latex(theirs)
    if a is None or b is None:
        return False
    return verify(b, a, timeout_seconds=None, allow_set_relation_comp=True)


def parse_latex(latex: str) -> Any | None:
    """Reads a LaTeX value as a sympy expression, not evaluated; None where the grammar does not know it."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse
    from sympy import I
    from sympy.core.relational import Relational

    notation = NormalizationConfig(**READER_NOTATION)
    reader = LatexExtractionConfig(boxed_match_priority=0, normalization_config=notation)
    read = parse(rf"\boxed{{{latex}}}", [reader], fallback_mode="no_fallback", parsing_timeout=None)  # type: ignore[arg-type]
    if not read:
        return None
    value: Any = read[0]
    if isinstance(value, Relational):
        return value
    return value.subs({symbol: I for symbol in value.free_symbols if symbol.name == "i"})


def is_fraction(latex: str) -> bool:
    """Tells whether the value is a number between -1 and 1, as a probability is."""
    value = parse_latex(latex)
    return bool(value is not None and getattr(value, "is_real", False) and value.is_number and abs(value.evalf()) < 1)


def collection_kind(latex: str) -> str:
    r"""Names how a value is put together: "tuple" for (a, b), "set" for \{a, b\}, "list" for bare a, b, else "one"."""
    text = latex.replace(r"\{", "{").replace(r"\}", "}").strip()
    commas = [depth for mark, depth in _depths(text) if mark in ",;"]
    if 0 in commas:
        return "list"
    whole = text[:1] in BRACKETS and all(depth > 0 for _, depth in _depths(text[:-1]))
    if not whole or 1 not in commas:
        return "one"
    return "set" if latex.strip().startswith(r"\{") else "tuple"


def _depths(text: str) -> list[tuple[str, int]]:
    """Pairs each character with the number of brackets open around it; an opening bracket counts as inside itself."""
    depth, depths = 0, []
    for mark in re.sub(r"\\[a-zA-Z]+", "x", text):
        depth += (mark in BRACKETS) - (mark in BRACKETS.values())
        depths.append((mark, depth))
    return depths
