"""The paper's own numbers beside those of this run, where a model and dataset of the run are the paper's.

records of the other sections -> rows of model, measure, unit, published value and ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2a_core.figures.segment_masses import SEGMENT_LABELS

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PublishedPatching:
    """Figure 8 of the paper: NLD of the mean curves, best layer of each, and the layer at which they cross."""

    flip_plain: float
    flip_boxed: float
    final: float
    crossing: float
    n_pairs: int


PAPER_PATCHING = {
    "r1_llama_8b": PublishedPatching(0.29, 0.38, 0.80, 15, 59),
    "r1_qwen_7b": PublishedPatching(0.42, 0.47, 0.97, 20, 67),
    "r1_qwen_1b5": PublishedPatching(0.36, 0.51, 0.89, 21, 22),
}

PAPER_COMMON = {"r1_llama_8b": 355, "r1_qwen_7b": 457, "r1_qwen_1b5": 400, "r1_full": 490}  # items, MATH-500, sampled

# Reasoning-Focus Heads by trace mean, recomputed from the published data of MATH-500.
PAPER_RFH = {
    "r1_llama_8b": (
        *((8, 11), (0, 22), (13, 18), (13, 6), (16, 1)),
        *((10, 31), (8, 9), (13, 5), (13, 4), (14, 29)),
    ),
    "r1_qwen_7b": (
        *((16, 0), (19, 15), (14, 7), (1, 1), (17, 18)),
        *((17, 14), (16, 14), (14, 19), (22, 7), (17, 19)),
    ),
}


def comparison_rows(sections: Mapping[str, Records]) -> list[dict[str, Any]]:
    """Every number that the paper and this run both have."""
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
    """Accuracy over common items (Figure 1a, Table 3)."""
    for record in records:
        published, summary = record["published"], record["summary"]
        if published is None:
            continue
        for setting, label in (("with_reasoning", "with"), ("without_reasoning", "without")):
            ours = summary["paired"][f"accuracy_{label}"]
            ours = None if ours is None else 100 * ours
            yield row(record["model"], f"accuracy {label} reasoning, MATH-500", "%", published[setting], ours)
        if summary["decoding"] != "greedy":
            common = PAPER_COMMON[record["model"]]
            yield row(
                record["model"], "items valid in both settings, MATH-500", "items", common, summary["paired"]["n"]
            )


def score_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Mean judge scores by area (Figure 1b), and the items behind them."""
    for record in records:
        for area in record["judged"] or []:
            if area["published"] is None:
                continue
            for setting, label in (("with_reasoning", "with"), ("without_reasoning", "without")):
                measure = f"judge score {label} reasoning, WildBench, {area['area']}"
                yield row(record["model"], measure, "1 to 10", area["published"][setting], area[f"mean_{label}"])
            items = f"items judged in both settings, WildBench, {area['area']}"
            yield row(record["model"], items, "items", area["published"]["n"], area["n"])


def mass_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Median attention mass from answer tokens by segment (Figure 2)."""
    for record in records:
        if record["published"] is None or "answer" not in record["boxes"]:
            continue
        for segment, label in SEGMENT_LABELS.items():
            ours = record["boxes"]["answer"]["segments"].get(segment, {}).get("median")
            measure = f"median mass, answer \u2192 {label}, MATH-500"
            yield row(record["model"], measure, "attention mass", record["published"][segment], ours)


def rfh_rows(records: Records) -> Iterator[dict[str, Any]]:
    """How many of the paper's ten Reasoning-Focus Heads are among ours."""
    for record in records:
        if record["dataset"] == "math500" and record["model"] in PAPER_RFH:
            paper = PAPER_RFH[record["model"]]
            shared = len(set(paper) & {tuple(head) for head in record["marks"]["rfh"]})
            yield row(
                record["model"], "published Reasoning-Focus Heads among ours, MATH-500", "heads", len(paper), shared
            )


def patching_rows(records: Records) -> Iterator[dict[str, Any]]:
    """Best layer of the mean NLD curves, and their crossing (Figure 8)."""
    for record in records:
        published = PAPER_PATCHING.get(record["model"])
        if published is None:
            continue
        model = record["model"]
        yield row(model, "pairs patched", "pairs", published.n_pairs, record["n_pairs"])
        for probe, value in (("plain", published.flip_plain), ("boxed", published.flip_boxed)):
            yield row(model, f"flipping token, {probe} probe", "NLD", value, highest(record, probe, "flip"))
        yield row(model, "last position, plain probe", "NLD", published.final, highest(record, "plain", "final"))
        layer = next((one["layer"] for one in record["crossings"] if one["probe"] == "plain"), None)
        yield row(model, "crossing of the two curves, plain probe", "layer", published.crossing, layer)


def highest(record: Mapping[str, Any], probe: str, curve: str) -> float | None:
    """Highest layer mean of a curve."""
    means = [one["mean"] for one in record["curves"] if (one["probe"], one["curve"]) == (probe, curve)]
    return max(means[0]) if means else None
