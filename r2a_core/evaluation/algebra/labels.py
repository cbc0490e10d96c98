"""The left side of an equation that is an answer: x = 5 is 5, 1 = 3 is nothing, xy = 1 is open."""

from mpmath import mp

from r2a_core.evaluation.algebra.equality import DIGITS, Equal, same_value
from r2a_core.evaluation.algebra.nodes import ONE, Node, holds, letters
from r2a_core.evaluation.algebra.numeric import Point, evaluate, real
from r2a_core.evaluation.algebra.quantities import quantity
from r2a_core.evaluation.algebra.regions import is_region
from r2a_core.evaluation.algebra.tokens import Unreadable


def unlabelled(ours: Node, theirs: Node) -> tuple[Node, Node, Equal]:
    """Takes a label off (x = 5 is 5) where the other side has none, or both have the same.

    The verdict on the label: True where it only names the value, None where xy = 1 may also be an equation.
    """
    ours, theirs = (node[2][1] if is_membership(node) else node for node in (ours, theirs))
    own, other = is_equation(ours), is_equation(theirs)
    if own:
        ours = checked(ours)
    if other:
        theirs = checked(theirs)
    if own and other:
        heads = ours[2][0], theirs[2][0]
        if same_label(*heads) and len(ours[2]) == len(theirs[2]) == 2:
            return ours[2][-1], theirs[2][-1], True
        return ours, theirs, True
    if own and theirs[0] not in ("rel", "list"):
        label = is_label(ours)
        return (ours, theirs, False) if label is False else (ours[2][-1], theirs, label)
    if other and ours[0] != "rel":
        theirs = theirs[2][-1] if is_name(theirs[2][0]) or not letters(theirs) else theirs
    if own and is_region(theirs) and theirs[0] == "rel" and is_region(ours[2][-1]):
        ours = ours[2][-1]
    return ours, theirs, True


def is_membership(node: Node) -> bool:
    r"""Tells whether a node is x \in \{1, 2\}."""
    return node[0] == "rel" and node[1] == ("in",) and node[2][1][0] == "set"


def same_label(ours: Node, theirs: Node) -> bool:
    """Tells whether two left sides name one thing: x and x, x_1 and x, f(x) and y."""
    if not (is_name(ours) and is_name(theirs)):
        return False
    if ours == theirs or {ours[0], theirs[0]} == {"call", "sym"}:
        return True
    if ours[0] == theirs[0] == "sym":
        a, b = ours[1].partition("_"), theirs[1].partition("_")
        return a[0] == b[0] and not (a[1] and b[1])
    return False


def is_equation(node: Node) -> bool:
    """Tells whether it is a chain of equals signs, perhaps with a rounded value behind it."""
    return node[0] == "rel" and set(node[1]) <= {"=", "~"}


def checked(node: Node) -> Node:
    """The equation without repeated and rounded values. Raises Unreadable where two constant sides differ: 1 = 3."""
    signs, sides = node[1], node[2]
    kept, links = [sides[0]], []
    for sign, side in zip(signs, sides[1:], strict=True):
        if sign == "~" and not letters(kept[-1]):
            with mp.workdps(DIGITS[0]):
                exactly, about = (real(evaluate(quantity(each)[0], Point())) for each in (kept[-1], side))
                if abs(exactly - about) > abs(exactly) / 100:
                    raise Unreadable("a rounded value that is none")
            continue
        kept.append(side)
        links.append("=")
    constant = [side for side in kept if scalar(side) and not letters(side)]
    if any(not same_value(quantity(side)[0], quantity(constant[0])[0]) for side in constant[1:]):
        raise Unreadable("two sides that differ")
    if len(constant) == len(kept):
        return ("rel", ("=",), (kept[-1], kept[-1]))
    if len(kept) == 2 and not letters(kept[0]) and is_name(kept[1]):
        kept.reverse()
    if constant and len(kept) > 2:
        kept = [kept[0], kept[-1]]
    return ("rel", ("=",) * (len(kept) - 1), tuple(kept))


STRUCTURES = ("list", "tuple", "set", "rel", "cup", "cap", "minus", "builder", "field", "empty") + (
    "ratio", "inf", "mod", "based", "pm", "mp", "matrix",
)  # fmt: skip


def scalar(node: Node) -> bool:
    """Tells whether a node has a single value."""
    return not holds(node, *STRUCTURES)


def is_name(node: Node) -> bool:
    """Tells whether the left side of an equation only names what is found: x, AB, f(x), P(A), (x, y)."""
    kind = node[0]
    if kind in ("sym", "call"):
        return True
    if kind == "*":
        return all(map(is_name, node[1:])) and not any(part[0] == "sym" and part[1].islower() for part in node[1:2])
    if kind == "abs":
        return is_name(node[1]) and (node[1][0] != "sym" or node[1][1].isupper())
    if kind in ("cup", "cap", "minus", "/", "deg"):
        return all(is_name(part) for part in node[1:])
    if kind == "fn":
        return is_name(node[2])
    if kind == "^":
        return is_name(node[1]) and node[1][0] == "sym" and node[2] == ("neg", ONE)
    return kind == "tuple" and all(map(is_name, node[3]))


def is_label(equation: Node) -> Equal:
    """Tells whether an answer's left side only names the value: not where it is to be solved (2x = 10, x + y = 0)."""
    left, right = equation[2][0], equation[2][-1]
    if not letters(left) or is_name(left):
        return True
    return None if len(letters(left)) > 1 and right[:2] != ("num", 0) else False
