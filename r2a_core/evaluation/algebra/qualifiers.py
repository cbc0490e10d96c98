r"""What is said beside an answer: "k \in Z", "for any integer k", "x \ne 0" name a domain and are no part of the value.

Two read answers -> their bare nodes, bound letters named alike; None where both name a domain and not the same one.
"""

from typing import Any

from r2a_core.evaluation.algebra.cursor import Cursor
from r2a_core.evaluation.algebra.nodes import Node, letters

WHOLE = {
    "Z": {"integer", "integers", "Z", "whole"},
    "N": {"natural", "positive", "nonnegative", "N"},
    "R": {"real", "reals", "R"},
}


def without_qualifiers(ours: tuple[Node, Cursor], theirs: tuple[Node, Cursor]) -> tuple[Node, Node] | None:
    """Takes domains off both answers and renames the letters that they bind."""
    a, bound, domain = _split(*ours)
    b, other, other_domain = _split(*theirs)
    if domain and other_domain and domain != other_domain:
        return None
    if len(bound) == len(other) == 1:
        a, b = (_renamed(node, next(iter(names)), "bound") for node, names in ((a, bound), (b, other)))
    return a, b


def _split(node: Node, parser: Cursor) -> tuple[Node, set[str], set[str]]:
    """The bare answer, its bound letters and the names of their domains."""
    bound: set[str] = set()
    domain: set[str] = set()
    words = {token.text for token in parser.qualifier}
    names = {token.text for token in parser.qualifier if token.kind == "letter"}
    for field, spellings in WHOLE.items():
        if words & spellings:
            domain.add(field)
    if domain:
        bound |= names - {"Z", "N", "R"}
    if node[0] == "list" and "or" not in node[1]:
        kept = [item for item in node[2] if not _is_domain(item, node)]
        for item in node[2]:
            if item not in kept and item[1] == ("in",):
                bound |= letters(item[2][0])
                domain.add(item[2][1][1])
        if kept:
            joints = node[1][: len(kept) - 1]
            node = kept[0] if len(kept) == 1 else ("list", joints, tuple(kept))
    return node, bound, domain


def _is_domain(item: Node, whole: Node) -> bool:
    r"""Tells whether an item of a list only limits a letter: k \in Z, or x \ne 0 beside an expression in x."""
    if item[0] != "rel" or len(item[2]) != 2:
        return False
    if item[1] == ("in",):
        return item[2][1][0] == "field" and item[2][0][0] == "sym"
    others = [other for other in whole[2] if other != item and not (other[0] == "rel" and other[1] != ("=",))]
    return item[1] == ("!=",) and any(letters(item) & letters(other) for other in others)


def _renamed(node: Any, name: str, new: str) -> Any:
    if node == ("sym", name):
        return ("sym", new)
    return tuple(_renamed(part, name, new) for part in node) if isinstance(node, tuple) else node
