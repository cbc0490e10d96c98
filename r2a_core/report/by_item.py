"""The numbers of single items behind a mean or median of the page, so that two of these can be compared item by item.

a record of a section -> numbers by item id; None where an item has none.
"""

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]

SIDES = {"with": "with_reasoning", "without": "without_reasoning"}


def item_scores(record: Record) -> dict[str, dict[str, float | None]]:
    """Lists the scores of each setting by item, and what reasoning adds to them."""
    table = record["items"]
    both = {side: table[f"score_{setting}"] for side, setting in SIDES.items()}
    both["gain"] = [None if None in pair else pair[0] - pair[1] for pair in zip(*both.values(), strict=True)]
    return {name: dict(zip(table["item_id"], scores, strict=True)) for name, scores in both.items()}


def masses(record: Record, segment: str) -> dict[str, float]:
    """Lists the mass of answer tokens on a segment by item; nothing where some trace has no such segment."""
    boxes = record["boxes"]["answer"]
    values = boxes["segments"][segment]["values"]
    return dict(zip(boxes["items"], values, strict=True)) if len(values) == len(boxes["items"]) else {}


def losses(record: Record, cut: Record) -> dict[str, float | None]:
    """Lists what one set of heads costs each item."""
    case = {key: cut[key] for key in ("kind", "set", "k")}
    return {item: own["loss"] for item, sets in record["items"].items() for own in sets if case.items() <= own.items()}


def clear(record: Record) -> dict[str, Record]:
    """Selects the items whose answer after the unchanged trace is the original one."""
    return {item: own for item, own in record["items"].items() if own["fraction"][-1] == 1 and own["same"][-1] == 1}


def stays(record: Record, arm: Record) -> dict[str, float | None]:
    """Lists by item whether its answer stays in one arm, the mean where it has several changes of the kind."""
    if arm["family"] == "cut":
        return {item: own["same"][0] for item, own in clear(record).items()}
    found = {}
    for item, own in clear(record).items():
        case = (arm["family"], arm["part"])
        rows = [each for each in own["arms"] if (each["family"], each["part"]) == case]
        same = [each["same"] for each in rows if arm["family"] == "mistake" or each["level"] == arm["level"]]
        known = [each for each in same if each is not None]
        if known:
            found[item] = sum(known) / len(known)
    return found


def areas(record: Record) -> dict[str, float]:
    """Lists by item the area over its curve of cuts, of those without an open verdict."""
    known = [item for item, own in clear(record).items() if None not in own["same"]]
    return dict(zip(known, record["aoc"]["items"], strict=True))
