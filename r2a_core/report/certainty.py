"""How sure the findings are, what they cannot show, and what came out as no difference.

records of the page's sections -> sentences. Every number in them is of those records.
"""

from collections.abc import Iterator, Mapping
from math import log
from typing import Any

from r2a_core.evaluation.paired import deciding_p
from r2a_core.knockout.sets import NONE
from r2a_core.knockout.summary import SET_NAMES, VERBS
from r2a_core.perturb.words import words_of
from r2a_core.report.findings import is_graded, span
from r2a_core.report.inputs import Records, name_of
from r2a_core.sentences.summary import attention_tells
from r2a_core.wording import SIGNIFICANT, holds, plural, signed

NO_CHANGE = log(2)  # nats: an interval within it, on both sides of 0, rules out that a probability halves or doubles


def how_sure(sections: Mapping[str, Records]) -> list[str]:
    """Lists sample sizes, intervals, the value of no effect and the noise of the same run again."""
    said = []
    tests = [record["summary"]["paired"] for record in sections["evaluation"] if is_graded(record)]
    if gaps := [test for test in tests if test["difference"] is not None]:
        least = min(gaps, key=lambda test: test["difference"])
        low = least["low_difference"]
        sure = "" if low is None else f", at least {signed(100 * low, 0, plus=True)} with 95% confidence"
        said.append(
            f"Answers: n = {span([test['n'] for test in gaps])} questions of each dataset. The smallest gain is "
            f"{signed(100 * least['difference'], 0, plus=True)} points{sure}."
        )
    if chances := [one["summary"]["chance"] for one in sections["evaluation"] if one["summary"]["chance"] is not None]:
        said[-1:] = [f"{''.join(said[-1:])} Guessing gets {span([100 * each for each in chances])}%.".strip()]
    if heads := sections["heads"]:
        n = span([record["n_traces"] for record in heads])
        said.append(f"Attention: means over n = {n} texts of each dataset.")
    said += [exchange_line(record) for record in sections["patching"]]
    said += changes_line(sections["perturb"])
    return [*said, *noise(sections)]


LEFT_OUT = {  # why a pair of questions is not exchanged, by its status
    "no_response": "not asked (pairs.generate.limit)",
    "not_selected": "with answers that are not one token in every model",
    "wrong": "answered wrongly",
    "weak": "answered with too little certainty",
    "not_alignable": "whose tokens cannot be aligned",
}


def exchange_line(record: Mapping[str, Any]) -> str:
    """Says how many pairs were exchanged, what became of the others, and between which layers the curves cross."""
    counts = record["left_out"]
    others = {status: count for status, count in counts.items() if status not in LEFT_OUT}
    why = [f"{count} {LEFT_OUT[status]}" for status, count in counts.items() if status in LEFT_OUT]
    why += [f"{sum(others.values())} without a response that can be used"] if others else []
    total = record["n_pairs"] + sum(counts.values())
    text = f"Exchange in {record['model']}: n = {record['n_pairs']} of {plural(total, 'pair')} of questions"
    text += f"; {', '.join(why)}." if why else "."
    bounds = [f"{one['low']} and {one['high']}" for one in record["crossings"] if one["low"] is not None]
    where = f" The curves cross between layers {' or '.join(dict.fromkeys(bounds))} (95%)." if bounds else ""
    return f"{text}{where}"


def changes_line(records: Records) -> list[str]:
    """Says when a change of the reasoning counts as null, and of how many the texts are too few to tell."""
    arms = [arm for record in records for arm in record["arms"] if arm["n"]]
    if not arms:
        return []
    few = sum(effect(arm["loss"]) == "unknown" for arm in arms)
    return [
        f"Changed reasoning: {len(arms)} changes, n = {span([arm['n'] for arm in arms])} texts each. Null where the "
        f"interval holds no change and leaves out half and double the probability; {few} have too few texts to tell."
    ]


def effect(loss: Mapping[str, Any]) -> str:
    """Tells whether a loss is there (some), is too small to halve or double a probability (null), or is unknown."""
    low, high = loss["low"], loss["high"]
    if low is None or high is None:
        return "unknown"
    if not holds(low, high):
        return "some"
    return "null" if max(-low, high) < NO_CHANGE else "unknown"


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


def limits(models: Records, sections: Mapping[str, Records], placeholder: str) -> list[str]:
    """Lists what the study cannot show, as far as it ran. placeholder: what stands in the place of the reasoning."""
    own = [model["name"] for model in models if model["kind"] == "train" or model["adapter"]]
    runs = sections["evaluation"]
    both = any("without_reasoning" in record["summary"]["answers"] for record in runs)
    drawn = sorted({record["summary"]["decoding"] for record in runs} - {"greedy"})
    said = {
        f"Trained or tuned for this study: {', '.join(own)}. Nothing here says how a larger model reasons, or one that "
        "learned otherwise.": own,
        "Where a model looks is not what it uses: attention alone shows no cause.": sections["heads"],
        "The exchange takes a sentence that we add to the reasoning, \u201cFinal answer is A.\u201d It shows that the "
        "answer named there reaches the answer given, not that the steps before it do.": sections["patching"],
        f"Without reasoning the model reads {placeholder} in its place. A score at or below guessing means that it "
        "does not know, not that it knows the opposite.": both,
        f"Answers are drawn at {' and '.join(drawn)}: another draw gives other single answers.": drawn,
    }
    return [sentence for sentence, there in said.items() if there]


Nulls = Iterator[tuple[str, Mapping[str, Any], str]]  # what is not shown, a record of which it is not, and its number


def nulls(sections: Mapping[str, Records]) -> list[str]:
    """Lists what could not be told from chance, or from no change: each once, with the cases."""
    found: dict[str, list[str]] = {}
    several = len({record["model"] for record in sections["evaluation"] or sections["perturb"]}) > 1
    for what in (null_accuracies, null_cuts, null_changes, null_walks, null_hidden, null_instruments):
        for text, record, value in what(sections):
            case = name_of(record) if several and "model" in record else record.get("dataset", "")
            found.setdefault(text, []).append(" ".join(filter(None, (case, value))))
    return [f"{text}: {', '.join(dict.fromkeys(where))}." for text, where in found.items()]


def null_accuracies(sections: Mapping[str, Records]) -> Nulls:
    for record in filter(is_graded, sections["evaluation"]):
        p = deciding_p(record["summary"]["paired"])
        if p is not None and p >= SIGNIFICANT:
            yield "Accuracy is not shown to differ with and without reasoning", record, written(p)


def null_cuts(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["knockout"]:
        for one in record["sets"]:
            chance = one["loss"]["random"]
            if chance is not None and chance["p"] >= SIGNIFICANT and (len(chance["means"]) + 1) * SIGNIFICANT > 1:
                heads = f"the {plural(one['k'], 'head')} with {SET_NAMES.get(one['set'], one['set'])}"
                cut = VERBS[one["kind"]].format(rows="answer", hidden="the reasoning", heads=heads)
                yield f"{cut} is not shown to cost more than in random heads", record, written(chance["p"])


def null_changes(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["perturb"]:
        for arm in record["arms"]:
            if effect(arm["loss"]) == "null":
                yield f"The answer's probability does not measurably change {words_of(arm)}", record, ""


def null_walks(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["walks"]:
        ends, broken = record["ends"], next((one["pooled"] for one in record["odds"]), None)
        if ends is not None and ends["p"] is not None and ends["p"] >= SIGNIFICANT:
            text = "Heads that move through the reasoning in order are not shown to stop nearer to words such as "
            yield f"{text}\u201cwait\u201d than by chance", record, written(ends["p"])
        if broken is not None and broken["odds_ratio"] is not None and holds(broken["low"], broken["high"], 1):
            text = "Wrong answers are not shown to be likelier where heads move through the reasoning less in order"
            yield text, {"model": record["model"], "dataset": "all datasets"}, written(broken["p"])


def null_hidden(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["sentences"]:
        attended = record["hidden"]["attended"]
        if effect(record["hidden"]["result_loss"]) == "null":
            yield "The result's probability does not measurably change with a sentence hidden", record, ""
        if attended["low"] is not None and not attention_tells(record["hidden"]):
            text = "Sentences with more of the answer's attention are not shown to matter more to it"
            yield text, record, written(attended["p"])


def null_instruments(sections: Mapping[str, Records]) -> Nulls:
    for record in sections["instruments"][:1]:  # a record a model, each with the beliefs of all
        for one in record["beliefs"]:
            if one["verdict"] in ("not shown", "reversed"):
                text = "Not shown, in every pair of models, to tell answers that depend on the trace from others"
                yield text, {}, f"{one['label']} AUC {signed(one['auc'])}"


def written(p: float) -> str:
    return f"p = {p:.2g}"
