"""The value of a node at given values of its letters: exact fractions where possible, else numbers of many digits."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mpmath import mp

from r2a_core.evaluation.algebra.nodes import Node
from r2a_core.evaluation.algebra.tokens import Unreadable

Value = Any  # a Fraction, an mpf or an mpc, or a Grid of them

MOST_BITS = 40_000  # of an exact fraction

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": mp.sin, "cos": mp.cos, "tan": mp.tan, "cot": mp.cot, "sec": mp.sec, "csc": mp.csc,
    "arcsin": mp.asin, "arccos": mp.acos, "arctan": mp.atan, "arccot": mp.acot,
    "sinh": mp.sinh, "cosh": mp.cosh, "tanh": mp.tanh, "ln": mp.log, "exp": mp.exp,
}  # fmt: skip

OF_INTEGERS = {"gcd", "lcm", "min", "max"}


@dataclass(frozen=True)
class Point:
    """Values of the letters, and what is left open by the notation."""

    number: int = 0
    negative: bool = False
    vectors: bool = False  # i is a unit vector
    log_base: int | None = None  # of a logarithm without a base; None for e
    fixed: Mapping[str, Fraction] | None = None

    def __getitem__(self, name: str) -> Fraction:
        if self.fixed and name in self.fixed:
            return self.fixed[name]
        seed = zlib.crc32(f"{name} {self.number}".encode())
        value = Fraction(seed % 9973 + 2311, (seed >> 16) % 3967 + 4021)
        return -value if self.negative and seed % 3 else value


@dataclass(frozen=True)
class Grid:
    """A matrix or a vector of values."""

    rows: tuple[tuple[Value, ...], ...]


def evaluate(node: Node, point: Point) -> Value:
    """The value of a node. Raises Unreadable where it has none: a relation, a division by zero, a number too large."""
    try:
        return _value(node, point)
    except (ZeroDivisionError, ValueError, OverflowError, TypeError, ArithmeticError) as error:
        raise Unreadable(f"no value: {error}") from error


def _value(node: Node, point: Point) -> Value:
    kind, parts = node[0], node[1:]
    if kind == "num":
        return parts[0]
    if kind == "sym":
        return symbol(parts[0], point)
    if kind == "unit" and not (parts[1].dims or parts[1].percent or parts[1].base):
        return times(_value(parts[0], point), parts[1].scale)
    if kind in OPERATIONS:
        return OPERATIONS[kind](*(_value(part, point) for part in parts))
    if kind == "fn":
        return function(parts[0], parts[1], point)
    if kind == "log":
        base = parts[0] or (("num", Fraction(point.log_base), None) if point.log_base else None)
        above = mp.log(real(_value(parts[1], point)))
        return above if base is None else above / mp.log(real(_value(base, point)))
    if kind == "matrix":
        return Grid(tuple(tuple(_value(cell, point) for cell in row) for row in parts[0]))
    if kind == "det":
        rows = [[real(_value(cell, point)) for cell in row] for row in parts[0]]
        if len(rows) > 6:
            raise Unreadable("a large determinant")
        return mp.det(mp.matrix(rows))
    if kind == "call":
        inside = parts[1][2] if parts[1][0] == "list" else (parts[1],)
        values = [mp.nstr(real(_value(each, point)), 20) for each in inside]
        return point[f"{parts[0]}({values})"]
    raise Unreadable(f"{kind} has no value")


def real(value: Value) -> Any:
    """The value as a number of many digits."""
    if isinstance(value, Fraction):
        return mp.mpf(value.numerator) / value.denominator
    if isinstance(value, Grid):
        raise Unreadable("a matrix where a number should be")
    return value


def symbol(name: str, point: Point) -> Value:
    """A constant or a variable."""
    if name == "pi":
        return +mp.pi
    if name == "e":
        return +mp.e
    if name == "i" and not point.vectors:
        return mp.mpc(0, 1)
    return point[name]


def exact(value: Value) -> bool:
    """Tells whether the value is a fraction of bearable size."""
    return isinstance(value, Fraction)


def bounded(value: Value) -> Value:
    """A fraction as it is, unless it has grown too long to go on with."""
    if exact(value) and value.numerator.bit_length() + value.denominator.bit_length() > MOST_BITS:
        return real(value)
    return value


def plus(a: Value, b: Value) -> Value:
    if isinstance(a, Grid) and isinstance(b, Grid):
        return Grid(tuple(tuple(map(plus, *rows)) for rows in zip(a.rows, b.rows, strict=True)))
    if exact(a) and exact(b):
        return bounded(a + b)
    a, b = real(a), real(b)
    if min(mp.mag(a), mp.mag(b)) > 10 * mp.prec and a + b != 0:
        raise Unreadable("a sum of numbers too large to compare")
    return a + b


def negative(a: Value) -> Value:
    return times(a, Fraction(-1))


def times(a: Value, b: Value) -> Value:
    if isinstance(a, Grid) and isinstance(b, Grid):
        columns = tuple(zip(*b.rows, strict=True))
        if len(a.rows[0]) != len(b.rows):
            raise Unreadable("matrices that do not multiply")
        return Grid(tuple(tuple(_dot(row, column) for column in columns) for row in a.rows))
    if isinstance(a, Grid) or isinstance(b, Grid):
        grid, number = (a, b) if isinstance(a, Grid) else (b, a)
        return Grid(tuple(tuple(times(cell, number) for cell in row) for row in grid.rows))
    return bounded(a * b) if exact(a) and exact(b) else real(a) * real(b)


def _dot(row: tuple[Value, ...], column: tuple[Value, ...]) -> Value:
    total: Value = Fraction(0)
    for a, b in zip(row, column, strict=True):
        total = plus(total, times(a, b))
    return total


def over(a: Value, b: Value) -> Value:
    if isinstance(b, Grid):
        raise Unreadable("a division by a matrix")
    if b == 0:
        raise Unreadable("a division by zero")
    return times(a, 1 / b if exact(b) else 1 / real(b))


def power(a: Value, b: Value) -> Value:
    """A power; an odd root of a negative number is real, as in school."""
    if exact(b) and b.denominator == 1 and exact(a):
        size = (a.numerator.bit_length() + a.denominator.bit_length()) * abs(b.numerator)
        if size < MOST_BITS:
            if a == 0 and b < 0:
                raise Unreadable("a division by zero")
            return Fraction(a) ** b.numerator
    if exact(b) and exact(a) and a < 0 and b.denominator % 2 and b.denominator > 1:
        return (-1) ** b.numerator * mp.power(real(-a), real(b))
    if exact(b) and exact(a) and a >= 0 and b.denominator > 1 and b.denominator < 64:
        rooted = exact_root(a, b.denominator)
        if rooted is not None:
            return power(rooted, Fraction(b.numerator))
    if a == 0:
        return Fraction(0) if real(b).real > 0 else over(Fraction(1), Fraction(0))
    if mp.mag(real(b)) > 60:
        raise Unreadable("a power too large")
    return mp.power(real(a), real(b))


def exact_root(a: Fraction, degree: int) -> Fraction | None:
    """The root of a non-negative fraction where it is a fraction."""
    if a.numerator.bit_length() + a.denominator.bit_length() > MOST_BITS // 8:
        return None
    with mp.workprec(a.numerator.bit_length() + a.denominator.bit_length() + 20):
        above, below = (int(mp.nint(mp.root(number, degree))) for number in (a.numerator, a.denominator))
    return Fraction(above, below) if Fraction(above, below) ** degree == a else None


def root(degree: Value, a: Value) -> Value:
    return power(a, over(Fraction(1), degree))


def factorial(a: Value) -> Value:
    if exact(a) and a.denominator == 1:
        if a < 0:
            raise Unreadable("a factorial of a negative number")
        if a <= 2500:
            return Fraction(math.factorial(a.numerator))
    if mp.mag(real(a)) > 60:
        raise Unreadable("a factorial too large")
    return mp.factorial(real(a))


def binomial(n: Value, k: Value) -> Value:
    whole = exact(n) and exact(k) and n.denominator == k.denominator == 1
    if whole and 0 <= k <= n <= 2500:
        return Fraction(math.factorial(n.numerator)) / (math.factorial(k.numerator) * math.factorial((n - k).numerator))
    return mp.binomial(real(n), real(k))


def floor(a: Value) -> Value:
    return Fraction(a.numerator // a.denominator) if exact(a) else mp.floor(real(a))


OPERATIONS: dict[str, Callable[..., Value]] = {
    "+": plus,
    "*": times,
    "/": over,
    "neg": negative,
    "^": power,
    "root": root,
    "abs": lambda a: abs(a) if exact(a) else abs(real(a)),
    "floor": floor,
    "ceil": lambda a: negative(floor(negative(a))),
    "!": factorial,
    "binom": binomial,
    "deg": lambda a: real(a) * mp.pi / 180,
}


def function(name: str, inside: Node, point: Point) -> Value:
    """A named function at its argument."""
    if name in OF_INTEGERS:
        values = [_value(each, point) for each in (inside[2] if inside[0] == "list" else (inside,))]
        if name in ("min", "max"):
            return (min if name == "min" else max)(values)
        if not all(exact(value) and value.denominator == 1 for value in values):
            raise Unreadable("a divisor of a fraction")
        return Fraction((math.gcd if name == "gcd" else math.lcm)(*(value.numerator for value in values)))
    return FUNCTIONS[name](real(_value(inside, point)))
