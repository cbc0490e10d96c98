"""Whether two read answers are equal: True, False, or None where two readings are open.

Numbers and expressions are compared by value (numeric), sets of reals by what they contain (regions); tuples in order,
lists as they repeat, sets without; equations by their solutions; quantities with their units.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from r2a_core.evaluation.algebra.equality import (
    Equal,
    is_fraction,
    open_log,
    rounded,
    same_value,
    signed_infinity,
)
from r2a_core.evaluation.algebra.labels import is_equation, scalar, unlabelled
from r2a_core.evaluation.algebra.nodes import ONE, Node, holds, operands, pairs_of
from r2a_core.evaluation.algebra.numeric import Point, evaluate, exact
from r2a_core.evaluation.algebra.parts import (
    as_column,
    cells_of,
    condition_on,
    groups_of,
    items_of,
    shapes_agree,
    transposed,
)
from r2a_core.evaluation.algebra.quantities import (
    clock,
    digits_and_base,
    marked,
    multiplied,
    quantity,
    same_in_base,
    same_time,
    two_digits,
)
from r2a_core.evaluation.algebra.regions import is_region, same_region
from r2a_core.evaluation.algebra.relations import same_solutions
from r2a_core.evaluation.algebra.tokens import Unreadable
from r2a_core.evaluation.algebra.units import agree


def both(verdicts: Iterable[Equal]) -> Equal:
    """All of several verdicts together: False if one is, else None if one is."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


@dataclass(frozen=True)
class Comparison:
    """Compares answers under one reading; vectors: i, j, k are unit vectors."""

    vectors: bool = False

    def equal(self, ours: Node, theirs: Node) -> Equal:
        """Tells whether the answer `ours` equals the reference `theirs`."""
        ours, theirs, label = unlabelled(ours, theirs)
        if label is not True:
            return False if label is False or self.equal(ours, theirs) is False else None
        a, b = ours[0], theirs[0]
        if holds((ours, theirs), "pm", "mp"):
            found = self.lists(items_of(ours), items_of(theirs))
            if found is False and self.lists(items_of(ours, apart=True), items_of(theirs, apart=True)) is not False:
                return None
            return found
        if a == b == "ratio" or "ratio" in (a, b) or (clock(ours) is not None and clock(theirs) is not None):
            return self.ratios(ours, theirs)
        if "matrix" in (a, b) or (self.vectors and "tuple" in (a, b)):
            return self.grids(ours, theirs)
        if is_region(ours) or is_region(theirs):
            return self.regions(ours, theirs)
        if "list" in (a, b) and "tuple" in (a, b):
            return self.list_and_tuple(ours, theirs)
        if "list" in (a, b) or "set" in (a, b):
            return self.collections(ours, theirs)
        if a == "tuple" or b == "tuple":
            return a == b and ours[1:3] == theirs[1:3] and self.in_order(ours[3], theirs[3])
        if "rel" in (a, b):
            return a == b and self.relations(ours, theirs)
        if "mod" in (a, b):
            return a == b and self.equal(ours[2], theirs[2]) and self.congruent(ours, theirs)
        return self.quantities(ours, theirs)

    def in_order(self, ours: Sequence[Node], theirs: Sequence[Node]) -> Equal:
        """Compares items one by one."""
        if len(ours) != len(theirs):
            return False
        return both(self.equal(*pair) for pair in zip(ours, theirs, strict=True))

    def lists(self, ours: Sequence[Node], theirs: Sequence[Node]) -> Equal:
        """Compares items in any order; as often as they come."""
        if len(ours) != len(theirs):
            return False
        left, verdicts = list(theirs), []
        for item in ours:
            matches = [(place, self.equal(item, other)) for place, other in enumerate(left)]
            best = next((match for wanted in (True, None) for match in matches if match[1] is wanted), None)
            if best is None:
                return False
            verdicts.append(best[1])
            del left[best[0]]
        return both(verdicts)

    def collections(self, ours: Node, theirs: Node) -> Equal:
        """Compares lists and sets; whether a list without braces repeats what a set holds once is open."""
        sets = [node[0] == "set" for node in (ours, theirs)]
        joined = [
            set(node[1]) for node in (ours, theirs) if node[0] == "list" and all(item[0] == "sym" for item in node[2])
        ]
        if {"and"} in joined and {"or"} in joined:
            return False
        own, other = groups_of(items_of(ours)), groups_of(items_of(theirs))
        found = self.lists(own, other)
        if found is False and any(sets) and (all(sets) or "list" in (ours[0], theirs[0])):
            inside = self.lists(self.distinct(own), self.distinct(other))
            return inside if all(sets) else None if inside is not False else False
        return found

    def distinct(self, items: Sequence[Node]) -> list[Node]:
        """The items without repetitions."""
        kept: list[Node] = []
        for item in items:
            if not any(self.equal(item, other) for other in kept):
                kept.append(item)
        return kept

    def list_and_tuple(self, ours: Node, theirs: Node) -> Equal:
        """Compares a list with a tuple in round brackets: in order, or by the names of its equations."""
        bare, bracketed = (ours, theirs) if ours[0] == "list" else (theirs, ours)
        if bracketed[1:3] != ("(", ")"):
            return False
        items = bare[2]
        if all(is_equation(item) and item[2][0][0] == "sym" for item in items):
            items = tuple(item[2][-1] for item in sorted(items, key=lambda item: item[2][0][1]))
        return self.in_order(items, bracketed[3])

    def grids(self, ours: Node, theirs: Node) -> Equal:
        """Compares matrices and vectors; a column is also written as a tuple or with unit vectors."""
        nodes = [as_column(node) if self.vectors or node[0] == "tuple" else node for node in (ours, theirs)]
        if "tuple" in (ours[0], theirs[0]):
            nodes = [transposed(node) if node[0] == "matrix" and len(node[1]) == 1 else node for node in nodes]
        if shapes_agree(*nodes):
            return both(self.equal(*cells) for cells in zip(*map(cells_of, nodes), strict=True))
        return not any(holds(node, "tuple") for node in nodes) and same_value(nodes[0], nodes[1])

    def regions(self, ours: Node, theirs: Node) -> Equal:
        """Compares sets of reals, else part by part."""
        try:
            return same_region(ours, theirs)
        except Unreadable:
            if {ours[0], theirs[0]} == {"rel", "tuple"}:
                pair = condition_on(ours, theirs), condition_on(theirs, ours)
                return None not in pair and self.relations(*pair)  # type: ignore[arg-type]
            if ours[0] != theirs[0]:
                return False
        if ours[0] == "rel":
            return self.relations(ours, theirs)
        if ours[0] == "tuple":
            return ours[1:3] == theirs[1:3] and self.in_order(ours[3], theirs[3])
        if ours[0] in ("cup", "cap"):
            return self.lists(operands(ours, ours[0]), operands(theirs, ours[0]))
        if ours[0] == "list":
            return self.lists(items_of(ours), items_of(theirs))
        if ours[0] == "minus":
            return self.in_order(ours[1:], theirs[1:])
        return ours == theirs

    def relations(self, ours: Node, theirs: Node) -> Equal:
        """Compares equations and inequalities: chains pair by pair, each by the difference of its sides."""
        return self.paired(pairs_of(ours), pairs_of(theirs))

    def paired(self, ours: list[Node], theirs: list[Node]) -> Equal:
        """Compares the pairs of two chains in any order."""
        if len(ours) != len(theirs):
            return False
        left = list(theirs)
        for pair in ours:
            match = next((place for place, other in enumerate(left) if self.same_pair(pair, other)), None)
            if match is None:
                return False
            del left[match]
        return True

    def same_pair(self, ours: Node, theirs: Node) -> bool:
        """Tells whether two single relations are one: a side each alike, or differences in a constant ratio."""
        (sign, *sides), (other_sign, *other_sides) = ours, theirs
        if sign != other_sign:
            return False
        if self.in_order(sides, other_sides) or (sign in ("=", "!=") and self.in_order(sides, other_sides[::-1])):
            return True
        if sign in ("~", "in", "=="):
            return False
        if not all(map(scalar, (*sides, *other_sides))):
            return False
        first, second = (("+", a, ("neg", b)) for a, b in (sides, other_sides))
        return same_solutions(first, second, sign, self.vectors)

    def congruent(self, ours: Node, theirs: Node) -> bool:
        """Tells whether two numbers, or the last sides of two congruences, differ by a multiple of the modulus."""
        ends = [node[1][2][-1] if node[1][0] == "rel" else node[1] for node in (ours, theirs)]
        values = [evaluate(node, Point()) for node in (*ends, ours[2])]
        return all(map(exact, values)) and values[2] != 0 and (values[0] - values[1]) % values[2] == 0

    def ratios(self, ours: Node, theirs: Node) -> Equal:
        """Compares ratios term by term up to a factor, times of day by the clock; 2:30 and 1:15 may be either."""
        times = clock(ours), clock(theirs)
        if None not in times and (ours[0] == theirs[0] == "ratio" or "unit" in (ours[0], theirs[0])):
            same = same_time(*times)  # type: ignore[arg-type]
            if same or marked(ours) or marked(theirs):
                return same
            if self.same_ratio(ours, theirs) and two_digits(ours) and two_digits(theirs):
                return None
        return self.same_ratio(ours, theirs)

    def same_ratio(self, ours: Node, theirs: Node) -> bool:
        """Tells whether two ratios are equal; one of two terms also as a fraction."""
        parts = [node[1] if node[0] == "ratio" else (node, ONE) for node in (ours, theirs)]
        if len(parts[0]) != len(parts[1]):
            return False
        first, second = parts
        pairs = zip(first[1:], second[1:], strict=True)
        return all(same_value(("*", first[0], b), ("*", second[0], a), self.vectors) for a, b in pairs)

    def quantities(self, ours: Node, theirs: Node) -> Equal:
        """Compares values with their units: unlike ones are wrong, one that is missing is not."""
        (a, unit), (b, other) = quantity(ours), quantity(theirs)
        if unit.base or other.base or "based" in (a[0], b[0]):
            return same_in_base(digits_and_base(a, unit), digits_and_base(b, other))
        if not agree(unit, other) or (unit.percent != other.percent and (unit.dims or other.dims)):
            return False
        if unit.percent != other.percent:
            return self.percents(a, b, ours_percent=unit.percent)
        angle = [node[0] == "deg" for node in (a, b)]
        if angle[0] != angle[1]:
            plain = [node[1] if node[0] == "deg" else node for node in (a, b)]
            if unit.dims or other.dims:
                same = (unit.dims | other.dims).keys() <= {"celsius", "fahrenheit"} and self.values(*plain)
                return same and (None if angle[1] else True)
            return self.values(*plain) or self.values(a, b)
        if unit.dims and other.dims and unit.factor != other.factor:
            a, b = multiplied(a, unit.factor), multiplied(b, other.factor)
        return self.values(multiplied(a, unit.scale), multiplied(b, other.scale))

    def percents(self, ours: Node, theirs: Node, ours_percent: bool) -> Equal:
        """25 or 0.25 may mean 25%, but 0.5 is not 0.5%."""
        hundred = ("num", Fraction(100), None)
        if not ours_percent:
            return self.values(ours, theirs) or self.values(ours, ("/", theirs, hundred))
        if self.values(("/", ours, hundred), theirs):
            return True
        return not is_fraction(theirs) and self.values(ours, theirs)

    def values(self, ours: Node, theirs: Node) -> Equal:
        """Compares bare values. Infinity is itself; log without a base is open between e and 10."""
        if holds((ours, theirs), "inf"):
            return signed_infinity(ours) == signed_infinity(theirs) != 0
        if same_value(ours, theirs, self.vectors) if not open_log((ours, theirs)) else False:
            return True
        if open_log((ours, theirs)):
            readings = {same_value(ours, theirs, self.vectors, base) for base in (None, 10)}
            return readings.pop() if len(readings) == 1 else None
        return rounded(ours, theirs)
