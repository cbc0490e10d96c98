"""What a read answer is made of, and what can be asked of it without evaluating anything.

A node is a tuple whose first entry names it: ("num", value, digits), ("sym", name), ("+", a, b), ("fn", name, part),
("rel", signs, sides), ("list", joints, items), ("tuple", open, close, items), ("set", items), ("unit", node, unit)...
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

from r2a_core.evaluation.algebra.tokens import Unreadable
from r2a_core.evaluation.algebra.units import Unit, number_in_words

Node = tuple[Any, ...]

MOST_POWER = 4000  # of ten, in E notation

ONE: Node = ("num", Fraction(1), None)


def letters(node: Any) -> set[str]:
    """The names of the variables in a node: no constants."""
    if not isinstance(node, tuple):
        return set()
    if node[:1] == ("sym",):
        return set() if node[1] in ("pi", "e", "i") else {node[1]}
    if node[:1] == ("call",):
        return {f"{node[1]}("} | letters(node[2])
    return set().union(*(letters(part) for part in node)) if node else set()


def holds(node: Any, *names: str) -> bool:
    """Tells whether a node of one of these names occurs."""
    return isinstance(node, tuple) and bool(node) and (node[0] in names or any(holds(part, *names) for part in node))


def holds_symbol(node: Any, name: str) -> bool:
    """Tells whether a letter occurs, constants included."""
    return node == ("sym", name) or (isinstance(node, tuple) and any(holds_symbol(part, name) for part in node))


def substituted(node: Any, values: dict[str, Fraction]) -> Any:
    """The node with numbers for letters."""
    if isinstance(node, tuple) and node[:1] == ("sym",) and node[1] in values:
        return ("num", values[node[1]], None)
    return tuple(substituted(part, values) for part in node) if isinstance(node, tuple) else node


def with_unit(node: Node, unit: Unit) -> Node:
    """The node with a unit behind it, and the money sign before it where there is one."""
    if node[0] != "unit":
        return ("unit", node, unit)
    before: Unit = node[2]
    factor, scale = before.factor * unit.factor, before.scale * unit.scale
    dims = before.dims if unit.dims == before.dims else before.dims | unit.dims
    return ("unit", node[1], Unit(dims, factor, scale, unit.percent, unit.base))


def number(text: str) -> Node:
    """A literal with its value and its significant digits, None for a whole number."""
    power = re.search(r"[eE]([-+]?\d+)$", text)
    if power and abs(int(power[1])) > MOST_POWER:
        raise Unreadable("a power of ten too large")
    mantissa = text[: power.start()] if power else text
    digits = len(mantissa.replace(".", "").lstrip("0")) if "." in mantissa else None
    return ("num", Fraction(mantissa) * Fraction(10) ** (int(power[1]) if power else 0), digits)


BASED = re.compile(
    r"\(?(?:\\[a-z]+\s*\{)?([0-9A-Za-z]+(?:\.[0-9A-Za-z]+)?)\}?\)?\s*_\s*\{?\(?(?:\\[a-z]+\s*\{)?\s*(?:base\s*\}?\s*)?(\d+|[a-z]+)\s*\}?\)?\}?"
)


def digits_in_base(text: str) -> Node | None:
    """Reads digits with a base below them, also in words; x_1 is a letter with an index, AB_{16} a number."""
    found = BASED.fullmatch(text)
    if found is None:
        return None
    digits, base = found[1], int(found[2]) if found[2].isdigit() else number_in_words(found[2])
    named = not digits[0].isdigit() and not (base == 16 and re.fullmatch(r"[A-F]{2,}|[a-f]{2,}", digits))
    return None if named or base is None or not 2 <= base <= 36 else ("based", digits, ("num", Fraction(base), None))


def written(node: Node) -> str:
    """A plain spelling of an index."""
    return str(node[1]) if node[0] in ("num", "sym") else repr(node)


def plus_minus(node: Node, apart: bool = False) -> list[Node]:
    """The values of an expression with plus-minus signs, read together or each for itself; itself where it has none."""
    count = repr(node).count("('pm', ") + repr(node).count("('mp', ")
    if not count:
        return [node]
    if count > 4:
        raise Unreadable("many plus-minus signs")
    choices = (
        product((True, False), repeat=count) if apart and count <= 4 else ((upper,) * count for upper in (True, False))
    )
    return [_signed(node, iter(uppers)) for uppers in choices]


def _signed(node: Any, uppers: Iterator[bool]) -> Any:
    if not isinstance(node, tuple):
        return node
    parts = tuple(_signed(part, uppers) for part in node)
    if node and node[0] in ("pm", "mp"):
        return ("+", parts[1], parts[2] if next(uppers) == (node[0] == "pm") else ("neg", parts[2]))
    return parts


def operands(node: Node, kind: str) -> list[Node]:
    """The parts of nested unions."""
    return operands(node[1], kind) + operands(node[2], kind) if node[0] == kind else [node]


def pairs_of(node: Node) -> list[Node]:
    """The single relations of a chain, greater than turned round."""
    turned = {">": "<", ">=": "<="}
    found = []
    for sign, a, b in zip(node[1], node[2], node[2][1:], strict=False):
        found.append((turned[sign], b, a) if sign in turned else (sign, a, b))
    return found
