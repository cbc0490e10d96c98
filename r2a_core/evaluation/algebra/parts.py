"""The items of a list, the equations of a solution, the cells of a vector."""

from fractions import Fraction

from r2a_core.evaluation.algebra.labels import is_equation, is_name
from r2a_core.evaluation.algebra.nodes import Node, holds, holds_symbol, letters, plus_minus, substituted


def items_of(node: Node, apart: bool = False) -> list[Node]:
    """The items of a list or a set, each value of a plus-minus one item; the label before a list is left to each."""
    items = list(node[2]) if node[0] == "list" else list(node[1]) if node[0] == "set" else [node]
    first: Node = items[0] if items else ("list", (), ())
    alone = len(items) > 1 and not any(item[0] == "rel" for item in items[1:])
    if alone and is_equation(first) and is_name(first[2][0]) and first[2][0][0] != "tuple":
        items[0] = first[2][-1]
    return [value for item in items for value in plus_minus(item, apart)]


def groups_of(items: list[Node]) -> list[Node]:
    """Joins equations to solutions: p = 5, q = 2, p = 7, q = 2 are two; (p, q) = (5, 2) is one as well."""
    flat = [part for item in items for part in (item[2] if item[0] == "list" else (item,))]
    plain = [each for item in flat for each in split_tuple(item)]
    if not all(is_equation(item) and item[2][0][0] == "sym" for item in plain):
        return items
    names = [item[2][0][1] for item in plain]
    if len(set(names)) == len(names) or len(set(names)) == 1:
        return plain
    groups: list[list[Node]] = [[]]
    for item in plain:
        if any(item[2][0] == other[2][0] for other in groups[-1]):
            groups.append([])
        groups[-1].append(item)
    return [("tuple", "(", ")", tuple(sorted(group, key=lambda item: item[2][0][1]))) for group in groups]


def split_tuple(node: Node) -> list[Node]:
    """(p, q) = (5, 2) as p = 5 and q = 2."""
    if is_equation(node) and len(node[2]) == 2 and node[2][0][0] == node[2][1][0] == "tuple":
        (*_, names), (*_, values) = node[2]
        if len(names) == len(values) and all(map(is_name, names)):
            return [("rel", ("=",), pair) for pair in zip(names, values, strict=True)]
    return [node]


def as_column(node: Node) -> Node:
    """A tuple, or a sum of unit vectors, as a column; a matrix as it is."""
    if node[0] == "tuple":
        nested = all(item[0] == "tuple" for item in node[3])
        return ("matrix", tuple(item[3] if nested else (item,) for item in node[3]))
    if node[0] == "matrix" or not letters(node) & {"j", "k"} | ({"i"} if holds_symbol(node, "i") else set()):
        return node
    parts = []
    for axis in "ijk":
        values = {name: Fraction(int(name == axis)) for name in "ijk"}
        parts.append(substituted(node, values))
    if not holds_symbol(node, "k"):
        parts.pop()
    return ("matrix", tuple((part,) for part in parts))


def transposed(node: Node) -> Node:
    """A matrix with rows and columns exchanged."""
    return ("matrix", tuple(zip(*node[1], strict=True)))


def shapes_agree(a: Node, b: Node) -> bool:
    """Tells whether both are written-out matrices of one shape."""
    return a[0] == b[0] == "matrix" and [len(row) for row in a[1]] == [len(row) for row in b[1]]


def cells_of(node: Node) -> list[Node]:
    """The cells of a matrix, row by row."""
    return [cell for row in node[1] for cell in row]


def condition_on(node: Node, other: Node) -> Node | None:
    """The interval (a, b) as a < x < b, x being the letter that the other node has besides; None where that is open."""
    if node[0] == "rel":
        return node
    names = letters(other) - letters(node)
    if len(names) != 1 or len(node[3]) != 2:
        return None
    signs = ["<=" if bracket in "[]" else "<" for bracket in node[1:3]]
    low, high = node[3]
    links = [(signs[0], low)] * (not holds(low, "inf")), [(signs[1], high)] * (not holds(high, "inf"))
    sides = [low for _, low in links[0]] + [("sym", names.pop())] + [high for _, high in links[1]]
    return ("rel", tuple(sign for part in links for sign, _ in part), tuple(sides))
