"""The two sides of patched pairs: question, answer and trace of each, and the item of a dataset that asks the same.

ReportInputs -> by pair both sides, their texts packed. What is absent is null.
"""

from collections.abc import Sequence
from typing import Any

from r2a_core.data.items import ITEM_SCHEMA
from r2a_core.data.pairs import pair_items, read_pairs
from r2a_core.report.encode import pack_json
from r2a_core.report.inputs import ReportInputs, read_if_there

SIDES = ("clean", "corrupted")


def pair_sides(inputs: ReportInputs, model: str, pair_ids: Sequence[str]) -> dict[str, Any]:
    """Describes both sides of each pair that is in run.pairs."""
    name = inputs.values.get("run", {}).get("pairs") or ""
    if not inputs.paths.items(name).is_file():
        return {}
    frame = read_if_there(inputs.paths.generations(model, name), ["item_id", "response"], "generate")
    said = {} if frame is None else dict(frame.select("item_id", "response").iter_rows())
    asked = items_by_question(inputs)
    found = {}
    for pair in read_pairs(inputs.paths.items(name)):
        if pair.pair_id in pair_ids:
            items = dict(zip(SIDES, pair_items([pair]), strict=True))
            found[pair.pair_id] = {
                "texts": pack_json({side: said.get(item.item_id) for side, item in items.items()}),
                **{
                    side: {"question": item.question, "answer": item.gold, "item": asked.get(item.question)}
                    for side, item in items.items()
                },
            }
    return found


def items_by_question(inputs: ReportInputs) -> dict[str, dict[str, str]]:
    """Finds dataset and item of each question of the run's datasets."""
    found = {}
    for dataset in inputs.datasets:
        frame = read_if_there(inputs.paths.items(dataset), list(ITEM_SCHEMA), "prepare_dataset")
        if frame is not None:
            for item_id, question in frame.select("item_id", "question").iter_rows():
                found[question] = {"dataset": dataset, "item_id": item_id}
    return found
