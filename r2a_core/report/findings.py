"""What the study found, in sentences: the three answers of the first screen, how sure they are, what they cannot show,
and what came out as no difference.

records of the page's sections -> records of sentences. Every number in them is of those records.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from r2a_core.config import WalkThresholds
from r2a_core.evaluation.paired import ONE_SETTING, deciding_p, words_of_tests
from r2a_core.knockout.sets import NONE
from r2a_core.knockout.summary import SET_NAMES
from r2a_core.perturb.summary import WORDS
from r2a_core.report.inputs import Records, name_of
from r2a_core.results import walking_heads
from r2a_core.sentences.summary import attention_tells
from r2a_core.wording import SIGNIFICANT, plural, side, signed

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
    graded = [(record, record["summary"]["paired"]) for record in records if is_graded(record)]
    judged = [(record, record["judged"][-1]) for record in records if record["judged"] and record["judged"][-1]["n"]]
    found = [
        Finding(verdict([test for _, test in tests], unit, scale, decimals), tuple(map(line, tests)))
        for tests, unit, scale, decimals, line in (
            (graded, "points", 100, 0, accuracy_line),
            (judged, "points of 10 by a judge", 1, 2, judged_line),
        )
        if tests
    ]
    if not found:
        return Finding("Not answered: no answers are graded or judged in all settings.")
    return Finding(" ".join(one.sentence for one in found), tuple(line for one in found for line in one.details))


def verdict(tests: Records, unit: str, scale: float, decimals: int) -> str:
    """Says in how many cases the score with reasoning is higher, and by how much."""
    changes = [scale * test["difference"] for test in tests if test["difference"] is not None]
    if not changes:
        return f"Not answered: {ONE_SETTING}."
    better, worse = (sum(is_different(test, sign) for test in tests) for sign in (1, -1))
    size, cases = f"{span(changes, decimals, plus=True)} {unit}", len(tests)
    where = "" if cases == 1 else f" in all {cases} cases,"
    if better == cases:
        return f"Yes:{where} by {size}."
    if worse == cases:
        return f"No, it makes them worse:{where} by {size}."
    if not better and not worse:
        return f"Not shown: a difference of {size} can be chance."
    return f"In part: better in {better} and worse in {worse} of {cases} cases, by {size}; the others can be chance."


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
    """Says how the attention on the reasoning compares with its even share, head by head."""
    if not heads:
        return Finding("Not answered: no heads have been ranked.")
    means = [record["mean_over_even"] for record in heads]
    above = span([record["n_above_even"] for record in heads])
    total = span([len(record["over_even"]) for record in heads])
    some = f"{above} of {total} give it more than its even share"
    if min(means) > 1:
        sentence = f"Yes: the average head gives it {span(means, 2)} times its even share."
    else:
        start = "A few heads do" if max(means) <= 1 else "Some heads do"
        sentence = f"{start}: {some}. The average head gives it {span(means, 2)} of that share."
    lines = [
        f"{name_of(one)}: {one['n_above_even']} of {len(one['over_even'])} heads above the even share, the average at "
        f"{one['mean_over_even']:.2f} times it, {plural(walking(one, walk), 'walking head')}, "
        f"n = {plural(one['n_traces'], 'trace')}"
        for one in heads
    ]
    return Finding(sentence, tuple(lines))


def walking(record: Mapping[str, Any], walk: WalkThresholds) -> int:
    """Counts the heads that walk along the reasoning."""
    return len(walking_heads(pl.DataFrame(record["scores"]), walk))


def patching_answer(records: Records) -> Finding:
    """Says how far an exchange at one word of the reasoning moves the answer, and up to which layer."""
    flips, layers, lines = [], [], []
    for record in records:
        for probe in record["probes"]:
            flip, final = (best_layer(record["curves"], probe, curve) for curve in ("flip", "final"))
            if flip is None or final is None:
                continue
            flips.append(flip.value)
            layer = next((one["layer"] for one in record["crossings"] if one["probe"] == probe), None)
            layers += [] if layer is None else [layer]
            where = "the curves do not cross" if layer is None else f"the curves cross at layer {layer:.1f}"
            lines.append(
                f"{record['model']}, {probe} probe: flipping token {flip.value:.2f} (layer {flip.layer}), last "
                f"position {final.value:.2f} (layer {final.layer}), {where}, {plural(flip.n_pairs, 'pair')}"
            )
    if not lines:
        return Finding("Not answered: no pair has been patched.")
    said = "Yes" if min(flips) >= LARGE else "In part" if max(flips) >= SMALL else "Hardly"
    until = f", up to layer {span([int(layer) for layer in layers])}" if layers else ""
    moved = span([100 * value for value in flips])
    sentence = (
        f"{said}{until}: exchanging one word of the reasoning inside the model moves the answer {moved}% of the way."
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


def how_sure(sections: Mapping[str, Records]) -> list[str]:
    """Lists sample sizes, intervals, the value of no effect and the noise of the same run again."""
    said = []
    tests = [record["summary"]["paired"] for record in sections["evaluation"] if is_graded(record)]
    if gaps := [test for test in tests if test["difference"] is not None]:
        least = min(gaps, key=lambda test: test["difference"])
        low = least["low_difference"]
        sure = "" if low is None else f", at least {signed(100 * low, 0, plus=True)} with 95% confidence"
        said.append(
            f"Answers: n = {span([test['n'] for test in gaps])} questions a case. The smallest gain is "
            f"{signed(100 * least['difference'], 0, plus=True)} points{sure}."
        )
    if chances := [one["summary"]["chance"] for one in sections["evaluation"] if one["summary"]["chance"] is not None]:
        said[-1:] = [f"{''.join(said[-1:])} Guessing gets {span([100 * each for each in chances])}%.".strip()]
    if heads := sections["heads"]:
        n = span([record["n_traces"] for record in heads])
        said.append(
            f"Attention: n = {n} texts a case. 1 is no preference: attention spread evenly over all it can see."
        )
    for record in sections["patching"]:
        bounds = [f"{one['low']} and {one['high']}" for one in record["crossings"] if one["low"] is not None]
        where = f"; the curves cross between layers {' or '.join(dict.fromkeys(bounds))} (95%)" if bounds else ""
        said.append(f"Exchange in {record['model']}: n = {plural(record['n_pairs'], 'pair')} of questions{where}.")
    return [*said, *noise(sections)]


def noise(sections: Mapping[str, Records]) -> list[str]:
    """Says how much differs when nothing is changed."""
    said = []
    changed = sections["perturb"]
    if changed:
        differ, n = (sum(record[name] for record in changed) for name in ("n_noise", "n_items"))
        said.append(f"Noise: asked again after the unchanged reasoning, {differ} of {plural(n, 'answer')} differ.")
    again = [one["loss"]["mean"] for record in sections["knockout"] for one in record["sets"] if one["set"] == NONE]
    if again:
        most = max(map(abs, again))
        said.append(
            f"Noise: computed again without a cut, an answer's log-probability moves by up to {most:.3f} a token."
        )
    return said


def limits(models: Records, sections: Mapping[str, Records]) -> list[str]:
    """Lists what the study cannot show, as far as it ran."""
    own = [model["name"] for model in models if model["kind"] == "train" or model["adapter"]]
    runs = sections["evaluation"]
    both = any("without_reasoning" in record["summary"]["answers"] for record in runs)
    drawn = sorted({record["summary"]["decoding"] for record in runs} - {"greedy"})
    said = {
        f"Trained or tuned for this study: {', '.join(own)}. Nothing here says how a larger model reasons, or one that "
        "learned otherwise.": own,
        "Where a model looks is not what it uses: attention alone shows no cause.": sections["heads"],
        "The exchange takes pairs of questions in which one word decides. It shows that this word reaches the answer "
        "through the reasoning, not that every step is needed.": sections["patching"],
        "Without reasoning a short placeholder stands in its place. A score at or below guessing means that the model "
        "does not know, not that it knows the opposite.": both,
        f"Answers are drawn at {' and '.join(drawn)}: another draw gives other single answers.": drawn,
    }
    return [sentence for sentence, holds in said.items() if holds]


def nulls(sections: Mapping[str, Records]) -> list[str]:
    """Lists what could not be told from chance, or from no change: each once, with the cases."""
    found: dict[str, list[str]] = {}
    for what in (null_accuracies, null_cuts, null_changes, null_walks, null_hidden, null_instruments):
        for text, where in what(sections):
            found.setdefault(text, []).append(where)
    return [f"{text}: {', '.join(dict.fromkeys(where))}." for text, where in found.items()]


Nulls = Iterator[tuple[str, str]]  # what is not shown, and a case of it


def null_accuracies(sections: Mapping[str, Records]) -> Nulls:
    for record in filter(is_graded, sections["evaluation"]):
        p = deciding_p(record["summary"]["paired"])
        if p is not None and p >= SIGNIFICANT:
            yield f"Accuracy of {name_of(record)} with and without reasoning", f"p = {p:.2g}"


def null_cuts(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["knockout"]:
        for one in record["sets"]:
            chance = one["loss"]["random"]
            if chance is not None and chance["p"] >= SIGNIFICANT:
                name = f"the {one['k']} heads with {SET_NAMES.get(one['set'], one['set'])}"
                text = f"Cutting {name} is not shown to cost more than cutting random ones"
                yield text, f"{record['dataset']} p = {chance['p']:.2g}"


def null_changes(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["perturb"]:
        for arm in record["arms"]:
            words, loss = WORDS.get((arm["family"], arm["part"])), arm["loss"]
            if words and loss["n"] and not side(loss["low"], loss["high"]):
                yield f"The answer's probability {words} cannot be told from no change", record["dataset"]


def null_walks(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["walks"]:
        ends, broken = record["ends"], next((one["pooled"] for one in record["odds"]), None)
        if ends is not None and ends["p"] is not None and ends["p"] >= SIGNIFICANT:
            yield "Walks are not shown to end nearer to a reflection phrase than by chance", in_case(record, ends["p"])
        if broken is not None and broken["odds_ratio"] is not None and not side(broken["low"], broken["high"], 1):
            text = "A broken walk is not shown to go with a wrong answer"
            yield text, f"{record['model']}, all datasets, p = {broken['p']:.2g}"


def null_hidden(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["sentences"]:
        loss, attended = (record["hidden"][name] for name in ("result_loss", "attended"))
        if not side(loss["low"], loss["high"]):
            yield "The result's probability with a sentence hidden cannot be told from no change", record["dataset"]
        if attended["n_traces"] and not attention_tells(record["hidden"]):
            text = "Sentences with more of the answer's attention are not shown to matter more to it"
            yield text, in_case(record, attended["p"])


def null_instruments(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["instruments"][:1]:  # the AUCs are of all models
        for one in record["auc"]:
            if not side(one["low"], one["high"], 0.5):
                text = f"Not shown to tell answers that depend on the trace from others, by {one['level']}"
                yield text, f"{one['label']} AUC {signed(one['auc'])}"


def in_case(record: Mapping[str, Any], p: float) -> str:
    """Writes the p of one dataset."""
    return f"{record['dataset']} p = {p:.2g}"


def span(values: Sequence[float], decimals: int = 0, plus: bool = False) -> str:
    """Writes the range of some values, or the one value that they all show."""
    low, high = (signed(value, decimals, plus) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
