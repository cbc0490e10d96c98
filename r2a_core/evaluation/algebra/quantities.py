"""Values with a unit, a base or a half of the day."""

from fractions import Fraction

from r2a_core.evaluation.algebra.nodes import Node
from r2a_core.evaluation.algebra.numeric import Point, evaluate, exact
from r2a_core.evaluation.algebra.tokens import Unreadable
from r2a_core.evaluation.algebra.units import Unit

NO_UNIT = Unit()


def quantity(node: Node) -> tuple[Node, Unit]:
    """The value and the unit of a node; a minus before it belongs to the value."""
    if node[0] == "unit":
        return (("deg", node[1]), NO_UNIT) if node[2].dims == {"degree": 1} else (node[1], node[2])
    if node[0] == "neg":
        value, unit = quantity(node[1])
        return (("deg", ("neg", value[1])) if value[0] == "deg" else ("neg", value)), unit
    return node, NO_UNIT


def multiplied(node: Node, factor: Fraction) -> Node:
    """The node times a number; itself where that is 1, so that it stays a decimal."""
    return node if factor == 1 else ("*", node, ("num", factor, None))


def clock(node: Node) -> tuple[int, str] | None:
    """Minutes of a time of day and its half, "" where it has none: 3:30 pm, 8 am."""
    half = next((name for name in ("am", "pm") if marked(node) == name), "")
    parts = node[1] if node[0] == "ratio" else (quantity(node)[0],) if half else ()
    values = [quantity(part)[0] for part in parts]
    if not 1 <= len(values) <= 2 or any(value[0] != "num" or value[1].denominator != 1 for value in values):
        return None
    hour, minute = int(values[0][1]), int(values[1][1]) if len(values) == 2 else 0
    return (hour * 60 + minute, half) if hour < 25 and minute < 60 else None


def marked(node: Node) -> str:
    """The half of the day that a node names, "" for none."""
    last = node[1][-1] if node[0] == "ratio" else node
    dims = quantity(last)[1].dims
    return "am" if "am" in dims else "pm" if "pm" in dims else ""


def same_time(ours: tuple[int, str], theirs: tuple[int, str]) -> bool:
    """Tells whether two times agree: by 24 hours where both have a half, else as written or with 12 hours added."""
    whole = [time % 720 + 720 * (half == "pm") if half else time for time, half in (ours, theirs)]
    if ours[1] and theirs[1]:
        return whole[0] == whole[1]
    return ours[0] == theirs[0] or whole[0] == whole[1]


def two_digits(node: Node) -> bool:
    """Tells whether the second term could be minutes."""
    return node[0] == "ratio" and len(node[1]) == 2 and node[1][1][0] == "num" and 10 <= node[1][1][1] < 60


def digits_and_base(node: Node, unit: Unit) -> tuple[str, int | None]:
    """The digits of a number and its base, None where it has none."""
    if node[0] == "based":
        return node[1], int(node[2][1])
    value = evaluate(node, Point())
    if not exact(value):
        raise Unreadable("no number of a base")
    text = str(value.numerator) if value.denominator == 1 else str(float(value))
    return text, unit.base


def same_in_base(ours: tuple[str, int | None], theirs: tuple[str, int | None]) -> bool:
    """Compares a number in a base with one in another or none: by value, or by digits where one has no base."""
    if None in (ours[1], theirs[1]):
        if ours[0].upper() == theirs[0].upper():
            return True
        if theirs[1] is not None:
            return False
    return in_base(*ours) == in_base(*theirs)


def in_base(digits: str, base: int | None) -> Fraction:
    """The value of digits in a base. Raises Unreadable where they are none of it."""
    whole, _, part = digits.partition(".")
    try:
        return Fraction(int(whole + part, base or 10), (base or 10) ** len(part))
    except ValueError as error:
        raise Unreadable("digits that the base does not have") from error
