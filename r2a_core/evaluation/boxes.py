"""Grades the last boxes of texts that a stage wrote anew: against the right answers of items, or against each other.

texts, items -> 1 right, 0 wrong or without a box, None where the item has no right answer or the verdict is open.
"""

from collections.abc import Sequence

from r2a_core.data.gym import recipe_of
from r2a_core.data.items import Item
from r2a_core.evaluation.sandbox import grade_many
from r2a_core.trace import last_boxed_answer


def gold_texts(items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
    """What an answer to each item is graded against; items without a right answer are left out."""
    return {
        item.item_id: (item.gold or "", *([recipe_of(item)] if item.kind == "gym" else []))
        for item in items
        if item.gold is not None or item.kind == "gym"
    }


def box_scores(texts: Sequence[tuple[str | None, tuple[str, ...] | None]], timeout_seconds: float) -> list[int | None]:
    """Grade the last box of each text against what stands beside it; None where there is no text or nothing beside."""
    boxes = [last_boxed_answer(text) if text is not None and gold is not None else None for text, gold in texts]
    asked = {(box.content, *gold) for box, (_, gold) in zip(boxes, texts, strict=True) if box and gold is not None}
    pairs = sorted(asked)
    verdicts = dict(zip(pairs, grade_many(pairs, timeout_seconds), strict=True)) if pairs else {}
    return [
        None if text is None or gold is None else verdicts[box.content, *gold].score if box else 0
        for box, (text, gold) in zip(boxes, texts, strict=True)
    ]
