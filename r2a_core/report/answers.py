"""The sentence on top of each figure, which answers before the picture does.

records of the page's sections -> the same, with a sentence a figure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r2a_core.perturb.words import words_of
from r2a_core.report.findings import patching_answer
from r2a_core.report.inputs import name_of, words
from r2a_core.results import SEGMENT_LABELS, head_name
from r2a_core.sentences.summary import attention_tells
from r2a_core.wording import SIGNIFICANT, listed, percent, plural, signed

Record = Mapping[str, Any]


def funnel_sentence(record: Record) -> str:
    """Says how many responses count, and after how many second attempts."""
    found, retried = record["summary"]["funnel"], record["summary"]["retried"]
    lost = {words(setting): counts["twice"]["all"] - counts["twice"]["common"] for setting, counts in found.items()}
    counts = next(iter(found.values()))["twice"]
    again = f"; {plural(retried, 'question')} took a second attempt" if retried else ""
    if not any(lost.values()):
        return f"All {counts['all']} responses of {record['model']} count in every setting{again}."
    shares = f"{counts['common']} of {plural(counts['all'], 'question')}"
    return f"{shares} count for {record['model']} in every setting{again}."


def answered_sentence(record: Record) -> str:
    """Says what the wrong answers without reasoning are, beside guessing; nothing where that setting did not run."""
    counts = record["summary"]["answers"].get("without_reasoning")
    if not counts or not counts["n"]:
        return ""
    right, n, named = counts["right"], counts["n"], counts["named_first"] + counts["named_second"]
    text = f"{name_of(record)}, without reasoning: {percent(right / n)} right"
    if (chance := record["summary"]["chance"]) is not None:
        text += f" (guessing: {percent(chance)})"
    if counts["third"]:
        text += f", {percent(counts['third'] / n)} name none of the options"
    if named:
        text += f"; of those that name an option, {percent(counts['named_first'] / named)} name the first"
    return f"{text}."


def items_sentence(record: Record) -> str:
    """Says how often answers are better with reasoning, and how often they leave their own reasoning."""
    paired, differs = record["summary"]["paired"], record["items"]["differs"]
    read = [one for one in differs if one is not None]
    text = ""
    if paired["win"] is not None:
        text = f"Better with reasoning: {paired['win']} of {paired['n']}, worse: {paired['loss']}. "
    if read:
        text += f"In {sum(read)} of {len(read)} the answer is not the one that its reasoning names last"
        unread = record["items"]["concludes"].count(None)
        text += f"; {plural(unread, 'reasoning')} name no single answer last." if unread else "."
    return text


def masses_sentences(record: Record) -> dict[str, str]:
    """Says, by source, which part of the text gets most attention, and what the reasoning gets."""
    said = {}
    for source, boxes in record["boxes"].items():
        medians = {segment: box["median"] for segment, box in boxes["segments"].items()}
        most = max(medians, key=lambda segment: medians[segment])
        start = f"{words(record['setting']).capitalize()}, the {SEGMENT_LABELS[most]} part"
        text = f"{start} gets most: {percent(medians[most])}"
        rest = "" if most == "reasoning" else f"; the reasoning {percent(medians.get('reasoning', 0))}"
        said[source] = f"{text} of the attention{rest}."
    return said


def heads_sentence(record: Record) -> str:
    """Says how many heads read the reasoning more than even reading does, and which one most."""
    scores = record["scores"]
    counts = f"{record['n_above_even']} of {record['n_heads']}"
    said = f"{counts} heads read the reasoning more than even reading does, sinks left out."
    above = [at for at, focus in enumerate(scores["focus"]) if focus is not None and focus > 0]
    if not above:
        return said
    most = min(above, key=lambda at: scores["rank"][at])
    name, share = head_name(scores["layer"][most], scores["head"][most]), scores["answer_to_reasoning"][most]
    return f"{said} Of these, {name} gives it the largest share: {percent(share)} of its attention."


def readers_sentence(record: Record) -> str:
    """Says how alike the heads are before and after training."""
    masses = record["scores"][0]
    rose = sum(after > before for before, after in zip(masses["before"], masses["after"], strict=True))
    rho = "" if masses["spearman"] is None else f" The order of the heads stays at \u03c1 = {masses['spearman']:.2f}."
    new = len(set(record["marks"]["walking_after"]) - set(record["marks"]["walking_before"]))
    return (
        f"Training raised the attention on the reasoning in {rose} of {len(masses['after'])} heads and made "
        f"{plural(new, 'walking head')}.{rho}"
    )


def knockout_sentence(record: Record) -> str:
    """Says what the answer loses without any view of the reasoning, and whether a chosen set costs more than chance."""
    sets = record["sets"]
    everything = next((one for one in sets if one["set"] == "all"), None)
    ranked = [one for one in sets if one["loss"]["random"] is not None]
    beyond = [one for one in ranked if one["loss"]["random"]["p"] < SIGNIFICANT]
    text = ""
    if everything is not None:
        text = (
            f"Without any view of the reasoning, an answer loses {signed(everything['loss']['mean'])} nats per token. "
        )
    named = listed([f"{one['set']} {one['k']}" for one in beyond])
    of_them = f" ({named})" if named else ""
    compared = f"{len(ranked)} of the {len(sets)} sets have random sets beside them"
    return f"{text}{compared}; {len(beyond)} of these cost more than the random ones{of_them}."


def perturb_sentence(record: Record) -> str:
    """Says how many answers stay without the reasoning, where in it the answer settles, and what leaves fewest."""
    if record["curve"] is None:
        return "No answer is the same after the unchanged reasoning, so nothing can be said."
    told = [
        arm for arm in record["arms"] if arm["family"] != "cut" and arm["loss"]["low"] is not None and arm["same"]["n"]
    ]
    same = record["curve"]["same"]
    empty = f"Without the reasoning {percent(same[0]['mean'])} of the answers stay. " if same else ""
    text = f"{empty}{settled_words(record)}"
    if not told:
        return text
    least = min(arm["same"]["mean"] for arm in told)
    where = [f"{words_of(arm)} (n = {arm['same']['n']})" for arm in told if arm["same"]["mean"] == least]
    return f"{text} Fewest, {percent(least)}, stay {listed(where)}."


def settled_words(record: Record) -> str:
    """Says after how many sentences the answers settle that some cut changes; the others have nothing to settle."""
    moved, n = record["boundary"]["n_moved"], record["n_items"] - record["n_noise"]
    if not moved:
        return "No cut of the reasoning changes an answer."
    place = record["boundary"]["place"]["mean"]
    return f"Some cut of it changes {moved} of {n}; these settle after {percent(place)} of its sentences, on average."


def hidden_sentence(record: Record) -> str:
    """Says how uneven the sentences' parts in the answer are, and whether those that it attends to matter more."""
    hidden = record["hidden"]
    text = (
        f"Of what hiding the sentences of a trace does to its answer, one sentence does {percent(hidden['top_share'])} "
        f"(equal shares: {percent(hidden['even_share'])})."
    )
    if hidden["attended"]["mean"] is None:
        return text
    more, rho = "" if attention_tells(hidden) else "do not measurably ", signed(hidden["attended"]["mean"])
    return f"{text} Those with more of its attention {more}matter more (rank correlation {rho})."


def walks_sentence(record: Record) -> str:
    """Says how many heads read the reasoning beyond its length, and not all of it alike."""
    ranks = record["heads"]["rank_by_excess"]
    reading = sum(rank is not None for rank in ranks)
    return (
        f"{reading} of {len(ranks)} heads give the reasoning more than even reading does, sinks left out, mean over "
        "traces, and choose places in it."
    )


SENTENCES: dict[str, dict[str, Callable[[Record], Any]]] = {  # by section and field
    "evaluation": {"funnel": funnel_sentence, "answered": answered_sentence, "items_answer": items_sentence},
    "attention": {"answer": masses_sentences},
    "heads": {"answer": heads_sentence},
    "readers": {"answer": readers_sentence},
    "walks": {"answer": walks_sentence},
    "patching": {"answer": lambda record: patching_answer([record]).sentence},
    "knockout": {"answer": knockout_sentence},
    "perturb": {"answer": perturb_sentence},
    "sentences": {"answer": hidden_sentence},
}


def add_answers(sections: Mapping[str, Sequence[dict[str, Any]]]) -> None:
    """Adds to each record the sentences of its figures."""
    for section, fields in SENTENCES.items():
        for record in sections[section]:
            record |= {field: say(record) for field, say in fields.items()}
