"""The paper's numbers beside this run's, where a model and dataset of the run are the paper's.

records of the page's sections -> rows of model, measure, unit, published value and ours.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from r2a_core import paper
from r2a_core.report.inputs import Records
from r2a_core.results import SEGMENT_LABELS


def comparison_rows(sections: Mapping[str, Records]) -> list[dict[str, Any]]:
    """Lists every number that the paper and this run both have."""
    return [
        *accuracy_rows(sections["evaluation"]),
        *score_rows(sections["evaluation"]),
        *mass_rows(sections["attention"]),
        *rfh_rows(sections["heads"]),
        *patching_rows(sections["patching"]),
    ]


def row(model: str, measure: str, unit: str, published: float | None, ours: float | None) -> dict[str, Any]:
    return {"model": model, "measure": measure, "unit": unit, "published": published, "ours": ours}


def accuracy_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Returns the accuracy over common items (Figure 1a, Table 3)."""
    for record in records:
        published, summary = record["published"], record["summary"]
        if published is None:
            continue
        for setting, label in (("with_reasoning", "with"), ("without_reasoning", "without")):
            ours = summary["paired"][f"accuracy_{label}"]
            ours = None if ours is None else 100 * ours
            yield row(record["model"], f"accuracy {label} reasoning, MATH-500", "%", published[setting], ours)
        if summary["decoding"] != "greedy" and summary["paired"]["accuracy_without"] is not None:
            common = paper.COMMON_ITEMS[record["model"]]
            yield row(
                record["model"], "items valid in both settings, MATH-500", "items", common, summary["paired"]["n"]
            )


def score_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Returns the mean judge scores by area (Figure 1b), and the items behind them."""
    for record in records:
        for area in record["judged"] or []:
            if area["published"] is None:
                continue
            for setting, label in (("with_reasoning", "with"), ("without_reasoning", "without")):
                measure = f"judge score {label} reasoning, WildBench, {area['area']}"
                yield row(record["model"], measure, "1 to 10", area["published"][setting], area[f"mean_{label}"])
            if area["mean_without"] is not None:
                items = f"items judged in both settings, WildBench, {area['area']}"
                yield row(record["model"], items, "items", area["published"]["n"], area["n"])


def mass_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Returns the median attention mass from answer tokens by segment (Figure 2)."""
    for record in records:
        if record["published"] is None or "answer" not in record["boxes"]:
            continue
        for segment, label in SEGMENT_LABELS.items():
            ours = record["boxes"]["answer"]["segments"].get(segment, {}).get("median")
            measure = f"median mass, answer \u2192 {label}, MATH-500"
            yield row(record["model"], measure, "attention mass", record["published"][segment], ours)


def rfh_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Counts how many of the paper's ten Reasoning-Focus Heads are among ours."""
    for record in records:
        if record["dataset"] == paper.MATHS and record["model"] in paper.REASONING_FOCUS_HEADS:
            heads = paper.REASONING_FOCUS_HEADS[record["model"]]
            shared = len(set(heads) & {tuple(head) for head in record["marks"]["rfh"]})
            measure = "published Reasoning-Focus Heads among ours, MATH-500"
            yield row(record["model"], measure, "heads", len(heads), shared)


def patching_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Returns the best layer of the mean NLD curves, and their crossing (Figure 8)."""
    for record in records:
        published = paper.PATCHING.get(record["model"])
        if published is None:
            continue
        model = record["model"]
        yield row(model, "pairs patched", "pairs", published.n_pairs, record["n_pairs"])
        for curve, name, values in (
            ("flip", "flipping token", published.flip),
            ("final", "last position", published.final),
        ):
            for probe, value in values.items():
                yield row(model, f"{name}, {probe} probe", "NLD", value, highest(record, probe, curve))
        for probe, value in published.crossing.items():
            layer = next((one["layer"] for one in record["crossings"] if one["probe"] == probe), None)
            yield row(model, f"crossing of the two curves, {probe} probe", "layer", value, layer)


def highest(record: Mapping[str, Any], probe: str, curve: str) -> float | None:
    """Returns the highest layer mean of a curve."""
    means = [one["mean"] for one in record["curves"] if (one["probe"], one["curve"]) == (probe, curve)]
    return max(means[0]) if means else None
