"""Whether two equations or inequalities in the same letters say the same, given the differences of their sides."""

from fractions import Fraction

from mpmath import mp

from r2a_core.evaluation.algebra.equality import DIGITS, points
from r2a_core.evaluation.algebra.nodes import Node, holds, letters
from r2a_core.evaluation.algebra.numeric import Point, evaluate, real


def same_solutions(first: Node, second: Node, sign: str, vectors: bool) -> bool:
    """Tells whether first = 0 and second = 0 (or < 0, <= 0, not 0) hold for the same values of their letters."""
    names = letters(first)
    if names != letters(second) or not names:
        return False
    if proportional(first, second, sign, vectors):
        return True
    return sign == "=" and not holds((first, second), "abs") and one_graph(first, second, names)


def proportional(first: Node, second: Node, sign: str, vectors: bool) -> bool:
    """Tells whether two expressions differ by a constant factor; a positive one between inequalities."""
    with mp.workdps(DIGITS[0]):
        ratios = []
        for point in points((first, second), vectors, None):
            values = [real(evaluate(node, point)) for node in (first, second)]
            if 0 in values:
                return False
            ratios.append(values[0] / values[1])
        small = mp.mpf(10) ** (15 - DIGITS[0]) * abs(ratios[0])
        positive = mp.im(ratios[0]) == 0 and mp.re(ratios[0]) > 0
        return all(abs(ratio - ratios[0]) < small for ratio in ratios) and (sign in ("=", "!=") or bool(positive))


def one_graph(first: Node, second: Node, names: set[str]) -> bool:
    """Tells whether both equations are solved by the same value of a letter in which both are linear."""
    return any(all(same_root(first, second, name, number) for number in range(2)) for name in sorted(names))


def same_root(first: Node, second: Node, name: str, number: int) -> bool:
    """Tells whether both are linear in the letter and vanish at one value of it, the others being fixed."""
    with mp.workdps(DIGITS[0]):
        small, roots = mp.mpf(10) ** (20 - DIGITS[0]), []
        for node in (first, second):
            others = {other: Point(number)[other] for other in letters(node) - {name}}
            at = [real(evaluate(node, Point(fixed=others | {name: Fraction(x)}))) for x in (1, 2, 3)]
            slope = at[1] - at[0]
            if slope == 0 or abs(at[2] - at[1] - slope) > small * abs(slope):
                return False
            roots.append(1 - at[0] / slope)
        return bool(abs(roots[0] - roots[1]) <= small * max(1, abs(roots[0])))
