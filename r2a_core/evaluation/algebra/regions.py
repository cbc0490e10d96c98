"""Sets of real numbers: intervals, unions, inequalities and set-builder, compared by what they contain.

Two such nodes are the same set when they agree at every border of either, between the borders and beyond them. Borders
are found for relations between polynomials of the letter (up to degree 4) and absolute values of such.
"""

from fractions import Fraction
from itertools import pairwise
from typing import Any

from mpmath import mp

from r2a_core.evaluation.algebra.equality import DIGITS
from r2a_core.evaluation.algebra.nodes import Node, holds, letters
from r2a_core.evaluation.algebra.numeric import Point, evaluate, real
from r2a_core.evaluation.algebra.tokens import Unreadable

ORDERS = ("<", ">", "<=", ">=", "!=")

DEGREE = 4


def is_region(node: Node) -> bool:
    """Tells whether the node can only be a set of reals or a condition on one: no lone pair, which may be a point."""
    if node[0] in ("cup", "cap", "minus", "builder", "field", "empty"):
        return True
    if node[0] == "rel":
        return node[1] == ("in",) or all(sign in ORDERS for sign in node[1])
    if node[0] == "list":
        return all(is_region(item) or item[0] == "rel" for item in node[2]) and any(is_region(item) for item in node[2])
    if node[0] == "tuple":
        return (node[1:3] != ("(", ")") and node[1:3] != ("[", "]")) or holds(node[3], "inf")
    return False


def same_region(a: Node, b: Node) -> bool:
    """Tells whether both are the same set of reals. Raises Unreadable where one is none that can be read."""
    if holds((a, b), "call") or any(node[0] == "rel" and not letters(node) for node in (a, b)):
        raise Unreadable("a condition on no letter")
    a, b = resolved(a), resolved(b)
    variables = variable_of(a) | variable_of(b)
    if len(variables) > 1 and (variable_of(a) != variable_of(b)):
        raise Unreadable("conditions on different letters")
    if len(variables) > 1:
        raise Unreadable("a condition on several letters")
    variable = next(iter(variables), "x")
    with mp.workdps(DIGITS[0]):
        borders = sorted(borders_of(a, variable) + borders_of(b, variable))
        kept: list[Any] = []
        for border in borders:
            if not kept or not near(border, kept[-1]):
                kept.append(border)
        return all(contains(a, probe, variable) == contains(b, probe, variable) for probe in probes_at(kept))


def probes_at(borders: list[Any]) -> list[Any]:
    """The borders, a number between every two, and one beyond each end."""
    between = [(low + high) / 2 for low, high in pairwise(borders)]
    return [*borders, *between, *([borders[0] - 1, borders[-1] + 1] if borders else [mp.mpf(1) / 3])]


def resolved(node: Node) -> Node:
    """Reads commas between conditions that exclude each other (x < 2, x > 3) as "or"."""
    if node[0] != "list" or set(node[1]) != {","} or len(letters(node)) != 1:
        return node
    variable = next(iter(letters(node)))
    with mp.workdps(DIGITS[0]):
        probes = probes_at(sorted(borders_of(node, variable)))
        return node if any(contains(node, x, variable) for x in probes) else ("list", ("or",), node[2])


def variable_of(node: Node) -> set[str]:
    """The letters that a condition is about; those of a set-builder are bound."""
    if node[0] == "builder":
        return {node[1]}
    if node[0] == "rel" and node[1] == ("in",):
        return letters(node[2][0])
    if node[0] in ("cup", "cap", "minus"):
        return variable_of(node[1]) | variable_of(node[2])
    return letters(node)


def near(a: Any, b: Any) -> bool:
    """Tells whether two borders are one, apart from rounding."""
    if not (mp.isfinite(a) and mp.isfinite(b)):
        return bool(a == b)
    return bool(abs(a - b) <= mp.mpf(10) ** (12 - DIGITS[0]) * max(abs(a), abs(b), 1))


def number_of(node: Node) -> Any:
    """A constant end of an interval; raises Unreadable for anything else."""
    if holds(node, "inf"):
        if node in (("inf",), ("neg", ("inf",))):
            return mp.inf if node == ("inf",) else -mp.inf
        raise Unreadable("arithmetic with infinity")
    if letters(node):
        raise Unreadable("an end with letters")
    value = mp.mpc(real(evaluate(node, Point())))
    if abs(value.imag) > mp.mpf(10) ** (12 - DIGITS[0]):
        raise Unreadable("an end that is not real")
    return value.real


def borders_of(node: Node, variable: str) -> list[Any]:
    """The finite numbers where membership can change."""
    kind = node[0]
    if kind in ("cup", "cap", "minus"):
        return borders_of(node[1], variable) + borders_of(node[2], variable)
    if kind in ("list", "set"):
        return [border for item in node[-1] for border in borders_of(item, variable)]
    if kind == "tuple" and len(node[3]) == 2:
        return [end for end in map(number_of, node[3]) if mp.isfinite(end)]
    if kind == "builder":
        return borders_of(node[3], node[1])
    if kind == "rel" and node[1] == ("in",):
        return borders_of(node[2][1], variable)
    if kind == "rel":
        return [border for a, b in zip(node[2], node[2][1:], strict=False) for border in solutions(a, b, variable)]
    if kind in ("field", "empty"):
        return []
    return [number_of(node)]


def solutions(a: Node, b: Node, variable: str) -> list[Any]:
    """The real numbers where two sides are equal, perhaps with some more; infinite sides have none."""
    if holds((a, b), "inf"):
        return []
    if "abs" in (a[0], b[0]):
        a, b = (("^", side, ("num", Fraction(2), None)) for side in (a, b))

    def difference(x: int) -> Any:
        point = Point(fixed={variable: Fraction(x)})
        value = mp.mpc(real(evaluate(a, point)) - real(evaluate(b, point)))
        return value.real if value.imag == 0 else mp.nan

    rows = [[difference(x) for x in range(2 * DEGREE + 1)]]
    while len(rows) <= DEGREE + 1:
        rows.append([high - low for low, high in zip(rows[-1], rows[-1][1:], strict=False)])
    small = mp.mpf(10) ** (20 - DIGITS[0]) * max(map(abs, rows[0]))
    if not all(abs(value) <= small for value in rows[DEGREE + 1]):
        raise Unreadable("a condition that is no polynomial")
    coefficients, newton = [mp.mpf(0)] * (DEGREE + 1), [mp.mpf(1)]
    for order in range(DEGREE + 1):
        for place, part in enumerate(newton):
            coefficients[place] += part * rows[order][0] / mp.factorial(order)
        newton = [low - order * high for low, high in zip([0, *newton], [*newton, 0], strict=True)]
    while coefficients and abs(coefficients[-1]) <= small:
        coefficients.pop()
    if len(coefficients) < 2:
        return []
    roots = mp.polyroots(coefficients[::-1], maxsteps=200, extraprec=400)
    return [mp.re(root) for root in roots if abs(mp.im(root)) <= mp.mpf(10) ** (-DIGITS[0] // 3)]


def contains(node: Node, x: Any, variable: str) -> bool:
    """Tells whether a number is in the set, or fulfils the condition."""
    kind = node[0]
    if kind == "cup":
        return contains(node[1], x, variable) or contains(node[2], x, variable)
    if kind == "cap":
        return contains(node[1], x, variable) and contains(node[2], x, variable)
    if kind == "minus":
        return contains(node[1], x, variable) and not contains(node[2], x, variable)
    if kind == "builder":
        return contains(node[2], x, variable) and contains(node[3], x, node[1])
    if kind == "list":
        inside = [contains(item, x, variable) for item in node[2]]
        return any(inside) if "or" in node[1] else all(inside)
    if kind == "set":
        return any(near(number_of(item), x) for item in node[1])
    if kind == "tuple" and len(node[3]) == 2:
        low, high = map(number_of, node[3])
        return (
            (low < x or (node[1] == "[" and near(low, x)))
            and not near_open(node[1], low, x)
            and ((x < high or (node[2] == "]" and near(high, x))) and not near_open(node[2], high, x))
        )
    if kind == "rel" and node[1] == ("in",):
        return contains(node[2][1], x, variable)
    if kind == "rel":
        point = Point(fixed={variable: x})
        sides = [number_of(side) if holds(side, "inf") else mp.re(real(evaluate(side, point))) for side in node[2]]
        return all(ordered(a, b, sign) for sign, (a, b) in zip(node[1], pairwise(sides), strict=True))
    if kind in ("field", "empty"):
        if node not in (("field", "R"), ("empty",)):
            raise Unreadable("another set of numbers than the reals")
        return kind == "field"
    return near(number_of(node), x)


def near_open(bracket: str, end: Any, x: Any) -> bool:
    """Tells whether a number is the end that a round bracket leaves out."""
    return bracket in "()" and near(end, x)


def ordered(a: Any, b: Any, sign: str) -> bool:
    """Tells whether a relation holds between two numbers."""
    if sign == "=":
        return near(a, b)
    if sign == "!=":
        return not near(a, b)
    if near(a, b):
        return sign in ("<=", ">=")
    return bool(a < b) if sign in ("<", "<=") else bool(a > b)
