"""What the study found, in sentences: the three answers of the first screen.

records of the page's sections -> records of sentences. Every number in them is of those records. How sure they are is
in certainty.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import polars as pl

from r2a_core.config import WalkThresholds
from r2a_core.evaluation.paired import ONE_SETTING, deciding_p, words_of_tests
from r2a_core.report.inputs import Records, name_of
from r2a_core.results import walking_heads
from r2a_core.wording import SIGNIFICANT, plural, signed

LARGE, SMALL = 0.5, 0.1  # share of the way to the other answer from which on an exchange counts as a yes, or as in part


@dataclass(frozen=True)
class Finding:
    """One sentence that answers, and a line per run behind it."""

    sentence: str
    details: tuple[str, ...] = ()


def questions(sections: Mapping[str, Records], walk: WalkThresholds) -> list[dict[str, Any]]:
    """Answers the three questions of the study, each with its details and the figure that holds them."""
    runs = sections["evaluation"]
    graded = any(map(is_graded, runs))
    asked = (
        ("Does reasoning improve the answers?", improvement(runs), "accuracy" if graded else "judged"),
        ("Does the answer look at the reasoning?", attention_answer(sections["heads"], walk), "heads"),
        ("Does the reasoning cause the answer?", patching_answer(sections["patching"]), "curves"),
    )
    return [
        {"question": question, "answer": found.sentence, "details": list(found.details), "figure": figure}
        for question, found, figure in asked
    ]


def is_graded(record: Mapping[str, Any]) -> bool:
    """Tells whether a run has accuracies."""
    return record["summary"]["paired"]["accuracy_with"] is not None


def improvement(records: Records) -> Finding:
    """Says whether reasoning makes answers better, by accuracy and by a judge."""
    cases = cases_of(records)
    graded = [(record, record["summary"]["paired"]) for record in records if is_graded(record)]
    judged = [(record, record["judged"][-1]) for record in records if record["judged"] and record["judged"][-1]["n"]]
    found = [
        Finding(verdict([test for _, test in tests], unit, scale, decimals, cases), tuple(map(line, tests)))
        for tests, unit, scale, decimals, line in (
            (graded, "points", 100, 0, accuracy_line),
            (judged, "points of 10 by a judge", 1, 2, judged_line),
        )
        if tests
    ]
    if not found:
        return Finding("Not answered: no answers are graded or judged in all settings.")
    return Finding(" ".join(one.sentence for one in found), tuple(line for one in found for line in one.details))


def cases_of(records: Records) -> str:
    """Names what a record is of: a dataset, where there is one model."""
    return "datasets" if len({record["model"] for record in records}) == 1 else "pairs of model and dataset"


def verdict(tests: Records, unit: str, scale: float, decimals: int, cases: str = "datasets") -> str:
    """Says in how many cases the score with reasoning is higher, and by how much."""
    changes = [scale * test["difference"] for test in tests if test["difference"] is not None]
    if not changes:
        return f"Not answered: {ONE_SETTING}."
    better, worse = (sum(is_different(test, sign) for test in tests) for sign in (1, -1))
    size, count = f"{span(changes, decimals, plus=True)} {unit}", len(tests)
    where = "" if count == 1 else f" on all {count} {cases},"
    if better == count:
        return f"Yes:{where} by {size}."
    if worse == count:
        return f"No, it makes them worse:{where} by {size}."
    if not better and not worse:
        return f"Not shown: a difference of {size} can be chance."
    return f"In part: better on {better} and worse on {worse} of {count} {cases}, by {size}; the others can be chance."


def is_different(test: Mapping[str, Any], sign: int) -> bool:
    """Tells whether the score with reasoning is higher (sign 1) or lower (-1), and the test says so."""
    p = deciding_p(test)
    return p is not None and p < SIGNIFICANT and sign * test["difference"] > 0


def accuracy_line(found: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    record, paired = found
    sides = [side for side in ("with", "without") if paired[f"accuracy_{side}"] is not None]
    values = ", ".join(f"{100 * paired[f'accuracy_{side}']:.1f}% {side}" for side in sides)
    if (chance := record["summary"]["chance"]) is not None:
        values += f", {100 * chance:.1f}% by guessing"
    return f"{name_of(record)}: {values}, n = {paired['n']}, {words_of_tests(paired)}"


def judged_line(found: tuple[Mapping[str, Any], Mapping[str, Any]]) -> str:
    record, overall = found
    sides = [side for side in ("with", "without") if overall[f"mean_{side}"] is not None]
    means = ", ".join(f"{overall[f'mean_{side}']:.2f} {side}" for side in sides)
    return f"{name_of(record)}: judge score {means}, n = {overall['n']}, {words_of_tests(overall)}"


def attention_answer(heads: Records, walk: WalkThresholds) -> Finding:
    """Says how many heads read the reasoning more than even reading does."""
    if not heads:
        return Finding("Not answered: no heads have been ranked.")
    counts, totals = ([record[name] for record in heads] for name in ("n_above_even", "n_heads"))
    most = all(2 * count > total for count, total in zip(counts, totals, strict=True))
    start = "Yes" if most else "Some heads do" if any(counts) else "No head does"
    rest = [total - count for count, total in zip(counts, totals, strict=True)]
    above = f"{span(counts)} of {span(totals)} read it more than even reading would"
    sentence = f"{start}: {above}, sinks left out, and {span(rest)} do not."
    lines = [
        f"{name_of(one)}: {one['n_above_even']} of {one['n_heads']} heads read the reasoning more than even reading "
        f"does, sinks left out, {plural(walking(one, walk), 'walking head')}, n = {plural(one['n_traces'], 'trace')}"
        for one in heads
    ]
    return Finding(sentence, tuple(lines))


def walking(record: Mapping[str, Any], walk: WalkThresholds) -> int:
    """Counts the heads that walk along the reasoning."""
    return len(walking_heads(pl.DataFrame(record["scores"]), walk))


def patching_answer(records: Records) -> Finding:
    """Says how far an exchange of the answer that a closing sentence names moves the answer, and in which layers."""
    curves, lines = [], []
    for record in records:
        for probe in record["probes"]:
            flip, final = (curve_of(record["curves"], probe, curve) for curve in ("flip", "final"))
            if flip is None or final is None:
                continue
            curves.append(flip)
            layer = next((one["layer"] for one in record["crossings"] if one["probe"] == probe), None)
            where = "the curves do not cross" if layer is None else f"the curves cross at layer {layer:.1f}"
            most, last = peak(flip), peak(final)
            lines.append(
                f"{record['model']}, {probe} closing sentence: named answer at most {most.value:.2f} (layer "
                f"{most.layer}), last token before the answer {last.value:.2f} (layer {last.layer}), {where}, "
                f"{plural(most.n_pairs, 'pair')}"
            )
    return Finding(moved_sentence(curves) if curves else "Not answered: no pair has been patched.", tuple(lines))


def moved_sentence(curves: Records) -> str:
    """Says how far the answer moves: over the first layers, as long as each curve is large, or at most."""
    what = "for a sentence that we add: exchanging the answer it names, inside the model, moves the model's answer"
    points = [[*zip(one["layer"], one["mean"], strict=True)] for one in curves]
    large = [[*takewhile(lambda point: point[1] >= LARGE, own)] for own in points]
    if all(large):
        until = span([max(layer for layer, _ in own) for own in large])
        values = [100 * mean for own in large for _, mean in own]
        return f"Yes, {what} {span(values)}% of the way, up to layer {until}."
    peaks = [peak(one).value for one in curves]
    said = "In part" if max(peaks) >= SMALL else "Hardly"
    return f"{said}, {what} at most {span([100 * value for value in peaks])}% of the way."


@dataclass(frozen=True)
class PeakLayer:
    """The layer at which a mean curve is highest."""

    layer: int
    value: float
    n_pairs: int


def curve_of(curves: Records, probe: str, curve: str) -> Mapping[str, Any] | None:
    """Finds the curve of a probe; None when there is none."""
    return next((one for one in curves if (one["probe"], one["curve"]) == (probe, curve)), None)


def peak(curve: Mapping[str, Any]) -> PeakLayer:
    """Finds where a curve is highest."""
    place = max(range(len(curve["mean"])), key=lambda index: curve["mean"][index])
    return PeakLayer(curve["layer"][place], curve["mean"][place], curve["n_pairs"][place])


def span(values: Sequence[float], decimals: int = 0, plus: bool = False) -> str:
    """Writes the range of some values, or the one value that they all show."""
    low, high = (signed(value, decimals, plus) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
