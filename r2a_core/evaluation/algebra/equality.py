"""Whether two expressions are equal by value: exactly for rational numbers, to 90 digits for others.

Expressions in letters are compared at several points, letters being positive (negative too where an absolute value
occurs). A decimal stands for the number that it rounds only where `rounded` says so.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mpmath import mp

from r2a_core.evaluation.algebra.nodes import Node, holds, letters
from r2a_core.evaluation.algebra.numeric import Grid, Point, Value, evaluate, exact, real
from r2a_core.evaluation.algebra.tokens import Unreadable

Equal = bool | None  # None where two readings are open

DIGITS = (50, 110)  # of the two passes: what differs in the first and vanishes with more digits is rounding

POINTS = 3

ROUNDED = 7  # significant digits from which a decimal stands for the irrational number that it rounds

OPEN_ROUNDED = 3  # from here on a decimal reference may be meant as a rounded value


def points(nodes: tuple[Node, ...], vectors: bool, log_base: int | None) -> Iterator[Point]:
    """Where expressions are compared: once if they have no letters."""
    if not set().union(*(letters(node) for node in nodes)) - ({"i"} if not vectors else set()) and not vectors:
        yield Point(log_base=log_base)
        return
    for number in range(POINTS):
        yield Point(number, vectors=vectors, log_base=log_base)
    if holds(nodes, "abs"):
        for number in range(POINTS, 3 * POINTS):
            yield Point(number, negative=True, vectors=vectors, log_base=log_base)


def close(a: Node, b: Node, point: Point) -> bool:
    """Tells whether two nodes have one value at a point."""
    differences = []
    for digits in DIGITS:
        with mp.workdps(digits):
            x, y = evaluate(a, point), evaluate(b, point)
            if isinstance(x, Grid) or isinstance(y, Grid):
                return _same_grids(x, y)
            if exact(x) and exact(y):
                return x == y
            x, y = real(x), real(y)
            if not (mp.isfinite(x) and mp.isfinite(y)):
                raise Unreadable("no finite value")
            differences.append(abs(x - y))
            size = max(abs(x), abs(y))
    few, many = differences
    if many <= size * mp.mpf(10) ** (20 - DIGITS[1]):
        return True
    return bool(many < few * mp.mpf(10) ** (DIGITS[0] - DIGITS[1] + 20) and few < mp.mpf(10) ** (20 - DIGITS[0]))


def _same_grids(a: Value, b: Value) -> bool:
    if not (isinstance(a, Grid) and isinstance(b, Grid)):
        return False
    if [len(row) for row in a.rows] != [len(row) for row in b.rows]:
        return False
    pairs = [pair for rows in zip(a.rows, b.rows, strict=True) for pair in zip(*rows, strict=True)]
    return all(
        x == y if exact(x) and exact(y) else mp.almosteq(real(x), real(y), rel_eps=mp.mpf(10) ** -40) for x, y in pairs
    )


def same_value(a: Node, b: Node, vectors: bool = False, log_base: int | None = None) -> bool:
    """Tells whether two nodes are equal wherever they are compared. Raises Unreadable where one has no value."""
    return all(close(a, b, point) for point in points((a, b), vectors, log_base))


def open_log(node: Any) -> bool:
    """Tells whether a logarithm without a base occurs."""
    return isinstance(node, tuple) and bool(node) and (node[:2] == ("log", None) or any(map(open_log, node)))


def signed_infinity(node: Node) -> int:
    """1 or -1 for an infinity, else 0."""
    return 1 if node == ("inf",) else -1 if node == ("neg", ("inf",)) else 0


def is_fraction(node: Node) -> bool:
    """Tells whether the value is a number between -1 and 1, as a probability is."""
    return not letters(node) and bool(abs(real(evaluate(node, Point()))) < 1)


def rounded(ours: Node, theirs: Node) -> Equal:
    """Tells whether one is a decimal that rounds the other; only a reference may round a fraction."""
    digits = decimals(ours), decimals(theirs)
    if digits == (None, None) or letters((ours, theirs)):
        return False
    with mp.workdps(DIGITS[0]):
        values = [evaluate(node, Point()) for node in (ours, theirs)]
        short = 1 if digits[0] is None or (digits[1] is not None and digits[1] < digits[0]) else 0
        count = digits[short] or 0
        decimal, other = (real(values[short]), real(values[1 - short]))
        if mp.im(other) != 0 or decimal == 0 or other == 0:
            return False
        last = mp.mpf(10) ** (mp.floor(mp.log10(abs(decimal))) - count + 1)
        if abs(decimal - other) > last / 2 * (1 + mp.mpf(10) ** -20):
            return False
    irrational = not exact(values[1 - short]) or digits[1 - short] is not None
    if count >= ROUNDED and (irrational or short == 1):
        return True
    return None if short == 1 and count >= OPEN_ROUNDED else False


def decimals(node: Node) -> int | None:
    """The significant digits of a decimal, also one in scientific notation; None for anything else."""
    if node[0] == "num":
        return node[2]
    if node[0] == "neg":
        return decimals(node[1])
    if node[0] == "*" and node[2][0] == "^" and node[2][1] == ("num", Fraction(10), None):
        return decimals(node[1])
    return None
