r"""Whether two LaTeX values are equal, by math-verify: numbers, expressions, equations, sets, tuples, matrices.

Only math-verify's LaTeX reader is used: it has a grammar of its own. Its reader of plain expressions would hand
the text to sympy's, which runs it as Python. Time limits are the caller's (r2a_core.grading.worker).
"""

import re
from typing import Any

# math-verify's own unit removal is off: it takes the t of 3t for a unit.
READER_NOTATION = {"basic_latex": True, "units": False, "malformed_operators": True, "nits": True, "boxed": "last"}
BRACKETS = {"(": ")", "[": "]", "{": "}"}


def equal_values(ours: str, theirs: str) -> bool:
    """Whether the answer `ours` equals the reference `theirs`; False where either cannot be read.

    A tuple or an interval has an order, a list without brackets too when it is compared with one; braces make a set.
    """
    from math_verify import verify

    shapes = shape(ours), shape(theirs)
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
    """The sympy expression of a LaTeX value, not evaluated; None where the grammar does not know it."""
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


def is_share(latex: str) -> bool:
    """Whether the value is a number between -1 and 1, as a probability is."""
    value = parse_latex(latex)
    return bool(value is not None and getattr(value, "is_real", False) and value.is_number and abs(value.evalf()) < 1)


def shape(latex: str) -> str:
    r"""How a value holds together: "tuple" for (a, b), "set" for \{a, b\}, "list" for a, b bare, else "one"."""
    text = latex.replace(r"\{", "{").replace(r"\}", "}").strip()
    commas = [depth for mark, depth in _depths(text) if mark in ",;"]
    if 0 in commas:
        return "list"
    whole = text[:1] in BRACKETS and all(depth > 0 for _, depth in _depths(text[:-1]))
    if not whole or 1 not in commas:
        return "one"
    return "set" if latex.strip().startswith(r"\{") else "tuple"


def _depths(text: str) -> list[tuple[str, int]]:
    """Each character but a bracket with the number of brackets open around it; the opening bracket counts as inside."""
    depth, depths = 0, []
    for mark in re.sub(r"\\[a-zA-Z]+", "x", text):
        depth += (mark in BRACKETS) - (mark in BRACKETS.values())
        depths.append((mark, depth))
    return depths
