"""The start of the page: what ran, the paper's questions with this run's answers, the paper's numbers beside ours.

ReportInputs and the records of the other sections -> one record.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from r2a_core.config import WalkThresholds
from r2a_core.evaluation.paired import ONE_SETTING, deciding_p, words_of_tests
from r2a_core.infra.errors import R2AError
from r2a_core.report.comparison import comparison_rows
from r2a_core.report.inputs import WITH_REASONING, Gaps, Records, ReportInputs, add_gap, name_of, read_if_there
from r2a_core.results import walking_heads

SIGNIFICANT = 0.05


def overview(inputs: ReportInputs, sections: Mapping[str, Records], gaps: Gaps) -> dict[str, Any]:
    """Collects what ran, questions with answers, and the comparison with the paper."""
    return {
        "models": [model_record(inputs, name, sections["heads"], gaps) for name in inputs.models],
        "datasets": [dataset_record(inputs, name) for name in inputs.datasets],
        "settings": list(inputs.settings),
        "questions": questions(sections, inputs.walk),
        "published": comparison_rows(sections),
        "params": list(flattened(inputs.values)),
    }


def model_record(inputs: ReportInputs, name: str, heads: Records, gaps: Gaps) -> dict[str, Any]:
    """Describes a model: kind, source, pinned revision and size."""
    path = inputs.paths.model(name) / "model.json"
    pointer: dict[str, Any] = {}
    if path.is_file():
        try:
            pointer = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise R2AError(f"{path} is damaged: {error}", "rebuild it with: dvc repro --force prepare_model") from None
    else:
        add_gap(gaps, "Overview", f"{name} has not been prepared", "prepare_model")
    scores = next((record["scores"] for record in heads if record["model"] == name), None)
    kind = pointer.get("kind") or inputs.values.get("models", {}).get(name, {}).get("kind")
    return {
        "name": name,
        "kind": kind,
        "source": pointer.get("source") if kind == "hub" else None,
        "revision": pointer.get("revision"),
        "dtype": pointer.get("dtype"),
        "layers": None if scores is None else max(scores["layer"]) + 1,
        "heads": None if scores is None else max(scores["head"]) + 1,
    }


def dataset_record(inputs: ReportInputs, name: str) -> dict[str, Any]:
    """Describes a dataset: kind and number of questions."""
    frame = read_if_there(inputs.paths.items(name), ["item_id"], "prepare_dataset")
    kind = inputs.values.get("datasets", {}).get(name, {}).get("kind")
    return {"name": name, "kind": kind, "n": None if frame is None else frame.height}


def questions(sections: Mapping[str, Records], walk: WalkThresholds) -> list[dict[str, Any]]:
    """Answers the paper's three questions: a sentence from this run's data, a line per run, and the figure behind."""
    runs = sections["evaluation"]
    improved = join_findings(accuracy_answer(runs), judged_answer(runs))
    attended = attention_answer(sections["attention"], sections["heads"], walk)
    asked = {
        "Does reasoning improve the answers?": (improved, "accuracy" if any(map(is_graded, runs)) else "judged"),
        "Do answer tokens attend to the reasoning?": (attended, "boxes"),
        "Does changing the reasoning's activations change the answer?": (
            patching_answer(sections["patching"]),
            "curves",
        ),
    }
    return [
        {"question": question, "answer": answer.sentence, "details": list(answer.details), "figure": figure}
        for question, (answer, figure) in asked.items()
    ]


@dataclass(frozen=True)
class Finding:
    """One sentence, and what it sums up, a line per run."""

    sentence: str
    details: tuple[str, ...] = ()


def join_findings(*answers: Finding | None) -> Finding:
    """Joins several answers to one question."""
    given = [answer for answer in answers if answer is not None]
    if not given:
        return Finding("Not answered: no answers are graded or judged in all settings.")
    return Finding(
        " ".join(answer.sentence for answer in given), tuple(line for answer in given for line in answer.details)
    )


def is_graded(record: Mapping[str, Any]) -> bool:
    """Tells whether a run has accuracies."""
    return record["summary"]["paired"]["accuracy_with"] is not None


def accuracy_answer(records: Records) -> Finding | None:
    """Says how accuracy with reasoning compares with accuracy without."""
    graded = [(record, record["summary"]["paired"]) for record in records if is_graded(record)]
    if not graded:
        return None
    details, gains = [], []
    for record, paired in graded:
        sides = [side for side in ("with", "without") if paired[f"accuracy_{side}"] is not None]
        values = ", ".join(f"{100 * paired[f'accuracy_{side}']:.1f}% {side}" for side in sides)
        if (chance := record["summary"]["chance"]) is not None:
            values += f", {100 * chance:.1f}% by guessing"
        details.append(f"{name_of(record)}: {values}, n = {paired['n']}, {words_of_tests(paired)}")
        if len(sides) == 2:
            gains.append(100 * (paired["accuracy_with"] - paired["accuracy_without"]))
    if not gains:
        return Finding(f"Not answered for accuracy: {ONE_SETTING}.", tuple(details))
    counts = significant_counts([paired for _, paired in graded])
    return Finding(f"Accuracy is {counts}; it changes by {span(gains, '+.1f')} points.", tuple(details))


def judged_answer(records: Records) -> Finding | None:
    """Says how a judge's scores of answers with reasoning compare with those without."""
    found = [(record, record["judged"][-1]) for record in records if record["judged"] and record["judged"][-1]["n"]]
    if not found:
        return None
    details = []
    for record, overall in found:
        sides = [side for side in ("with", "without") if overall[f"mean_{side}"] is not None]
        means = ", ".join(f"{overall[f'mean_{side}']:.2f} {side}" for side in sides)
        details.append(f"{name_of(record)}: judge score {means}, n = {overall['n']}, {words_of_tests(overall)}")
    changes = [overall["difference"] for _, overall in found if overall["difference"] is not None]
    if not changes:
        return Finding(f"Not answered for judge scores: {ONE_SETTING}.", tuple(details))
    counts, change = significant_counts([overall for _, overall in found]), span(changes, "+.2f")
    sentence = f"Judge scores are {counts}; the mean score, from 1 to 10, changes by {change}."
    return Finding(sentence, tuple(details))


def significant_counts(tests: Records) -> str:
    """Counts the comparisons in which reasoning makes a significant difference, either way."""
    better, worse = (sum(is_different(paired, sign) for paired in tests) for sign in (1, -1))
    compared = plural(len(tests), "comparison")
    return f"significantly higher with reasoning in {better} and lower in {worse} of {compared} (p < {SIGNIFICANT})"


def is_different(paired: Mapping[str, Any], sign: int) -> bool:
    """Tells whether accuracy with reasoning is higher (sign 1) or lower (-1), and the test says so."""
    p = deciding_p(paired)
    return p is not None and p < SIGNIFICANT and sign * paired["difference"] > 0


def attention_answer(records: Records, heads: Records, walk: WalkThresholds) -> Finding:
    """Says how much mass answers put on the reasoning, and how many heads walk along it."""
    medians = {
        name_of(record): record["boxes"]["answer"]["segments"]["reasoning"]["median"]
        for record in records
        if record["setting"] == WITH_REASONING and "reasoning" in record["boxes"].get("answer", {}).get("segments", {})
    }
    if not medians:
        return Finding("Not answered: no attention has been measured.")
    walking = {name_of(record): len(walking_heads(pl.DataFrame(record["scores"]), walk)) for record in heads}
    share = span(list(medians.values()), ".3f")
    sentence = f"Answer tokens put {share} of their attention on the reasoning (median over traces"
    if heads:
        even = [float(np.mean(record["scores"]["uniform_share"])) for record in heads]
        sentence += f"; spread evenly it would be {span(even, '.3f')}"
    sentence += ")"
    if walking:
        sentence += f", and {span(list(walking.values()), 'd')} heads of a model walk along it"
        sentence += f" (mass {walk.mass} and weighted walk correlation {walk.correlation} or more, above chance)"
    lines = [
        f"{name}: median mass {median:.4f}" + (f", {plural(walking[name], 'walking head')}" if name in walking else "")
        for name, median in medians.items()
    ]
    return Finding(f"{sentence}.", tuple(lines))


def patching_answer(records: Records) -> Finding:
    """Says how much of the logit difference the flipping token and the last position restore, and where they cross."""
    flips, finals, lines = [], [], []
    for record in records:
        for probe in record["probes"]:
            flip, final = (best_layer(record["curves"], probe, curve) for curve in ("flip", "final"))
            if flip is None or final is None:
                continue
            flips.append(flip.value)
            finals.append(final.value)
            layer = next((one["layer"] for one in record["crossings"] if one["probe"] == probe), None)
            where = "the curves do not cross" if layer is None else f"the curves cross at layer {layer:.1f}"
            lines.append(
                f"{record['model']}, {probe} probe: flipping token {flip.value:.2f} (layer {flip.layer}), last "
                f"position {final.value:.2f} (layer {final.layer}), {where}, {plural(flip.n_pairs, 'pair')}"
            )
    if not lines:
        return Finding("Not answered: no pair has been patched.")
    sentence = (
        f"Patching the flipping token in the reasoning restores up to {span(flips, '.2f')} of the logit difference, "
        f"patching the last position up to {span(finals, '.2f')} (best layer of the mean over pairs; 1 = all of it)."
    )
    return Finding(sentence, tuple(lines))


@dataclass(frozen=True)
class PeakLayer:
    """The layer at which a mean curve is highest."""

    layer: int
    value: float
    n_pairs: int


def best_layer(curves: Records, probe: str, curve: str) -> PeakLayer | None:
    """Finds where a curve is highest; None when there is none."""
    for record in curves:
        if (record["probe"], record["curve"]) == (probe, curve):
            place = max(range(len(record["mean"])), key=lambda index: record["mean"][index])
            return PeakLayer(record["layer"][place], record["mean"][place], record["n_pairs"][place])
    return None


def span(values: Sequence[float], form: str) -> str:
    """Writes the range of some values, or the one value that they all show."""
    low, high = (format(value, form).replace("-", "\u2212") for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def plural(number: int, noun: str) -> str:
    """Writes a number and its noun, in the plural unless it is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterable[dict[str, str]]:
    """Lists params as key and JSON text, keys joined by dots, in the order of the file."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{name}.")
        else:
            yield {"key": name, "value": json.dumps(value, ensure_ascii=False)}
