"""A run's headline numbers, each under a name, to be set beside those of the paper, of other models or of another run.

records of the page's sections -> values; the paper's, where a model and dataset of the run are the paper's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from r2a_core import paper
from r2a_core.appearance import CURVES
from r2a_core.config import WalkThresholds
from r2a_core.evaluation.judged_scores import OVERALL
from r2a_core.knockout.sets import NONE
from r2a_core.knockout.summary import SET_NAMES, VERBS
from r2a_core.perturb.words import words_of
from r2a_core.report.by_item import SIDES, areas, item_scores, losses, masses, stays
from r2a_core.report.findings import curve_of, is_graded, peak, walking
from r2a_core.report.inputs import WITH_REASONING, Records
from r2a_core.results import SEGMENT_LABELS, Head

Sections = Mapping[str, Records]

CURVE_NAMES = {name: CURVES[name].label for name in ("flip", "final")}


@dataclass(frozen=True)
class Value:
    """A number of one model and dataset."""

    model: str  # empty: of all models together
    dataset: str  # empty: of the pairs, or of all datasets together
    measure: str
    unit: str
    value: float | None
    low: float | None = None  # 95% interval, where the number has one
    high: float | None = None
    heads: Sequence[Head] | None = None  # that the number counts
    items: Mapping[str, float] = field(default_factory=dict)  # what it is the mean of, by item and without its scale
    is_median: bool = False  # the number is the median of its items
    scale: float = 1


def run_values(sections: Sections, walk: WalkThresholds) -> list[Value]:
    """Lists the headline numbers of a run, in the order of the page; what is not known is not there."""
    values = [
        *accuracy_values(sections["evaluation"]),
        *score_values(sections["evaluation"]),
        *attention_values(sections, walk),
        *patching_values(sections["patching"]),
        *knockout_values(sections["knockout"]),
        *changed_values(sections),
        *instrument_values(sections["instruments"]),
    ]
    return [one for one in values if one.value is not None]


def of(
    record: Mapping[str, Any],
    measure: str,
    unit: str,
    estimate: Mapping[str, Any],
    scale: float = 1,
    items: Mapping[str, float | None] | None = None,
) -> Value:
    """Names an estimate: mean and, where it has an interval, low and high. items: what it is the mean of, by item."""
    ends = (estimate.get(name) for name in ("mean", "low", "high"))
    scaled = [None if end is None else scale * end for end in ends]
    known = {item: value for item, value in (items or {}).items() if value is not None and isfinite(value)}
    return Value(record.get("model", ""), record.get("dataset", ""), measure, unit, *scaled, items=known, scale=scale)


def accuracy_values(records: Records) -> Iterator[Value]:
    for record in filter(is_graded, records):
        paired, scores = record["summary"]["paired"], item_scores(record)
        for name, scored, measure, unit in (
            ("accuracy_with", "with", "accuracy with reasoning", "%"),
            ("accuracy_without", "without", "accuracy without reasoning", "%"),
            ("difference", "gain", "accuracy gained by reasoning", "points"),
        ):
            end = name.removeprefix("accuracy_")
            estimate = {"mean": paired[name], "low": paired[f"low_{end}"], "high": paired[f"high_{end}"]}
            yield of(record, measure, unit, estimate, 100, scores[scored])
        yield of(record, "items valid in all settings", "items", {"mean": paired["n"]})


def score_values(records: Records) -> Iterator[Value]:
    for record in records:
        for area in record["judged"] or []:
            for side in SIDES:
                ends = {"mean": area[f"mean_{side}"], "low": area[f"low_{side}"], "high": area[f"high_{side}"]}
                items = item_scores(record)[side] if area["area"] == OVERALL else None
                yield of(record, score_name(side, area["area"]), "1 to 10", ends, items=items)
            yield of(record, f"items judged in all settings, {area['area']}", "items", {"mean": area["n"]})


def score_name(side: str, area: str) -> str:
    return f"judge score {side} reasoning, {area}"


def attention_values(sections: Sections, walk: WalkThresholds) -> Iterator[Value]:
    for record in sections["attention"]:
        if record["setting"] == WITH_REASONING and "answer" in record["boxes"]:
            for segment, box in record["boxes"]["answer"]["segments"].items():
                found = of(record, mass_name(segment), "attention mass", {"mean": box["median"]})
                yield replace(found, items=masses(record, segment), is_median=True)
    for record in sections["heads"]:
        above = {"mean": record["n_above_even"]}
        focused = f"heads of {record['n_heads']} that read the reasoning more than even reading, sinks left out"
        yield of(record, focused, "heads", above)
        yield rfh_value(record, record["marks"]["rfh"])
        yield of(record, "heads that walk along the reasoning", "heads", {"mean": walking(record, walk)})


def mass_name(segment: str) -> str:
    return f"median mass, answer \u2192 {SEGMENT_LABELS[segment]}"


def rfh_value(record: Mapping[str, Any], heads: Sequence[Head]) -> Value:
    """Counts Reasoning-Focus Heads; their names are compared only among models with as many heads."""
    measure = f"Reasoning-Focus Heads of {record['n_heads']}, shared with the first column"
    return Value(record["model"], record["dataset"], measure, "heads", len(heads), heads=heads)


def patching_values(records: Records) -> Iterator[Value]:
    """Lists the best layer of each mean NLD curve, and where the curves cross (Figure 8)."""
    for record in records:
        yield of(record, "pairs patched", "pairs", {"mean": record["n_pairs"]})
        for probe in record["probes"]:
            for curve in CURVE_NAMES:
                drawn = curve_of(record["curves"], probe, curve)
                most = None if drawn is None else peak(drawn).value
                yield of(record, curve_name(curve, probe), "NLD", {"mean": most})
        for one in record["crossings"]:
            yield of(record, crossing_name(one["probe"]), "layer", {**one, "mean": one["layer"]})


def curve_name(curve: str, probe: str) -> str:
    return f"{CURVE_NAMES[curve]}, {probe} probe, in its best layer"


def crossing_name(probe: str) -> str:
    return f"crossing of the two curves, {probe} probe"


def knockout_values(records: Records) -> Iterator[Value]:
    for record in records:
        for one in record["sets"]:
            if one["set"] != NONE:
                name = one["set"]
                heads = f"{one['k']} heads with {SET_NAMES[name]}" if name in SET_NAMES else f"{name} heads"
                cut = VERBS[one["kind"]].format(rows="answer", hidden="the reasoning", heads=heads)
                yield of(
                    record,
                    f"loss after {cut[0].lower()}{cut[1:]}",
                    "nats a token",
                    one["loss"],
                    items=losses(record, one),
                )


def changed_values(sections: Sections) -> Iterator[Value]:
    """Lists what becomes of the answer when its reasoning is changed, or a sentence of it hidden."""
    for record in sections["perturb"]:
        for arm in record["arms"]:
            yield of(record, f"answers that stay {words_of(arm)}", "%", arm["same"], 100, stays(record, arm))
        if record["aoc"]:
            yield of(record, "area over the curve of cuts (AOC)", "of 1", record["aoc"]["lanham"], items=areas(record))
    for record in sections["sentences"]:
        hidden, most = record["hidden"], {"mean": record["hidden"]["top_share"]}
        yield of(record, "part of one sentence in what hiding sentences does to the answer", "%", most, 100)
        yield of(record, "sentences\u2019 attention, and what hiding them does", "rank correlation", hidden["attended"])


def instrument_values(records: Records) -> Iterator[Value]:
    """Lists how well each instrument tells items whose answer depends on the trace, in the pair that decides."""
    for one in (one for record in records[:1] for one in record["beliefs"]):
        if one["auc"] is not None:
            yield of({}, f"told by {one['label']}", "AUC, deciding pair of models", {**one, "mean": one["auc"]})


def paper_values(sections: Sections) -> Iterator[Value]:
    """Lists the paper's numbers of the models and datasets that the run has measured."""
    for record in sections["evaluation"]:
        yield from paper_answers(record)
    for record in sections["attention"]:
        for segment, value in (record["published"] or {}).items():
            yield of(record, mass_name(segment), "attention mass", {"mean": value})
    for record in sections["heads"]:
        if record["dataset"] == paper.MATHS and record["model"] in paper.REASONING_FOCUS_HEADS:
            yield rfh_value(record, paper.REASONING_FOCUS_HEADS[record["model"]])
    for record in sections["patching"]:
        if (published := paper.PATCHING.get(record["model"])) is not None:
            yield of(record, "pairs patched", "pairs", {"mean": published.n_pairs})
            for curve, values in (("flip", published.flip), ("final", published.final)):
                for probe, value in values.items():
                    yield of(record, curve_name(curve, probe), "NLD", {"mean": value})
            for probe, value in published.crossing.items():
                yield of(record, crossing_name(probe), "layer", {"mean": value})


def paper_answers(record: Mapping[str, Any]) -> Iterator[Value]:
    """Lists accuracies over common items (Figure 1a, Tables 2 and 3) and mean judge scores by area (Figure 1b)."""
    if record["published"] is not None:
        for side, setting in SIDES.items():
            yield of(record, f"accuracy {side} reasoning", "%", {"mean": record["published"][setting]})
        if record["summary"]["decoding"] != "greedy":
            common = paper.COMMON_ITEMS[record["model"]]
            yield of(record, "items valid in all settings", "items", {"mean": common})
    for area in record["judged"] or []:
        if area["published"] is not None:
            for side, setting in SIDES.items():
                yield of(record, score_name(side, area["area"]), "1 to 10", {"mean": area["published"][setting]})
            items = f"items judged in all settings, {area['area']}"
            yield of(record, items, "items", {"mean": area["published"]["n"]})
