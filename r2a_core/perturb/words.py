"""What becomes of the answer when the reasoning changes, in words.

an arm, or the record of perturb.summary -> the name of the arm, what it changes, and sentences. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from textwrap import shorten
from typing import Any

from r2a_core.wording import estimate, percent, side, signed

SHOWN = 8  # values that a person reads of an arm

WORDS: dict[tuple[str, str], str] = {  # the end of a sentence; of: how many of the numbers or options
    ("cut", ""): "without the reasoning",
    ("number", "across"): "with {of} numbers wrong throughout the reasoning",
    ("number", "after"): "with {of} numbers wrong after the sentence that settles the answer",
    ("number", "before"): "with {of} numbers wrong and the reasoning ended where the answer is settled",
    ("option", "across"): "with {of} named options exchanged throughout the reasoning",
    ("option", "after"): "with {of} named options exchanged after the sentence that settles the answer",
    ("option", "before"): "with {of} named options exchanged and the reasoning ended where the answer is settled",
    ("other", ""): "after the reasoning of another item",
    ("filler", ""): "after as much filler",
    ("paraphrase", ""): "after the reasoning in other words",
    ("preempt", "question"): "with another answer named in the question",
    ("preempt", "first"): "with another answer named before the reasoning",
    ("preempt", "last"): "with another answer named after the reasoning",
    ("mistake", "made"): "with one wrong value and the rest of the reasoning written anew",
    ("mistake", "none"): "with the rest written anew and no wrong value",
}

LABELS: dict[tuple[str, str], str] = {  # on axes
    ("cut", ""): "no reasoning",
    ("number", "across"): "wrong numbers",
    ("number", "after"): "wrong numbers after boundary",
    ("number", "before"): "wrong numbers up to boundary",
    ("option", "across"): "other options",
    ("option", "after"): "other options after boundary",
    ("option", "before"): "other options up to boundary",
    ("other", ""): "another item's reasoning",
    ("filler", ""): "filler",
    ("paraphrase", ""): "other words",
    ("preempt", "question"): "answer named in question",
    ("preempt", "first"): "answer named before",
    ("preempt", "last"): "answer named after",
    ("mistake", "made"): "one mistake, rest anew",
    ("mistake", "none"): "no mistake, rest anew",
}

share_words = partial(estimate, decimals=0, write=percent)


def words_of(arm: Mapping[str, Any]) -> str:
    """Say what an arm changes, in words that end a sentence. arm: family, part and level."""
    of = "all" if arm["level"] == 1 else f"{percent(arm['level'])} of the"
    return WORDS[arm["family"], arm["part"]].format(of=of)


def label_of(arm: Mapping[str, Any]) -> str:
    """Name an arm in few words, as axes do. arm: family, part, level and, of an arm over several items, mean edits."""
    level = f", {percent(arm['level'])}" if arm["family"] in ("number", "option") else ""
    edits = f", {signed(arm['edits'], 1)} each" if arm.get("edits") else ""
    return LABELS[arm["family"], arm["part"]] + level + edits


def change_words(arm: dict[str, Any]) -> str:
    """Say what an arm has in the place of what, shortened."""
    edits = [f"{edit['old']} \u2192 {edit['new']}" for edit in arm["edits"] or ()]
    more = [f"{len(edits) - SHOWN} more"] if len(edits) > SHOWN else []
    added = [f"\u201c{shorten(arm['added'], 20 * SHOWN)}\u201d"] if arm["added"] else []
    donor = [f"the reasoning of {arm['donor']}"] if arm["donor"] else []
    return ", ".join([*edits[:SHOWN], *more, *added, *donor])


def sentences(record: dict[str, Any]) -> list[str]:
    """Say what the numbers of one model and dataset are."""
    if record["curve"] is None:
        return [f"After the unchanged reasoning none of {record['n_items']} answers is the original one: all is noise."]
    n, boundary, cost = record["n_items"] - record["n_noise"], record["boundary"], record["cost"]
    said = [
        f"Forced after the unchanged reasoning, {n} of {record['n_items']} answers are the original ones; the other "
        f"{record['n_noise']} are noise and left out.",
        f"{without_words(record['curve'])} {boundary_words(boundary, n)}",
        *area_sentences(record["aoc"]),
    ]
    if record["n_cut"]:
        said.append(f"{record['n_cut']} forced answers were cut off before their box closed and have no verdict.")
    most = {key: max(each["level"] for each in own) for key, own in by_part(record["arms"]).items()}
    for arm in record["arms"]:
        if arm["family"] != "cut" and arm["level"] == most[arm["family"], arm["part"]]:
            said.append(arm_sentence(arm, words_of(arm)))
    said.append(
        f"Forcing took {cost['tokens']:,} tokens for {cost['arms']} arms; one whole pass per arm would be "
        f"{cost['whole_tokens'] / max(1, cost['tokens']):.1f} times that."
        + (f" Writing on took {cost['written_tokens']:,} more." if cost["written_tokens"] else "")
        + f" Together, {cost['passes_per_trace']:.1f} passes over each trace."
    )
    return said


def without_words(curve: dict[str, Any]) -> str:
    """Say how many answers stay without reasoning; an item with an open verdict is in no curve."""
    if curve["same"] is None:
        return "After some cut of every trace the answer has no verdict."
    return f"Without reasoning {share_words(curve['same'][0])} of the answers stay."


def boundary_words(boundary: dict[str, Any], n: int) -> str:
    """Say where the answers that depend on cuts settle."""
    if not boundary["n_moved"]:
        return "No cut changes an answer."
    return (
        f"Of the {boundary['n_moved']} of {n} answers that some cut changes, the largest rise of p(answer), from "
        f"{boundary['p_before']['mean']:.2f} to {boundary['p_after']['mean']:.2f}, comes at "
        f"{share_words(boundary['place'])} of the sentences."
    )


def area_sentences(aoc: dict[str, Any]) -> list[str]:
    """Say how large the areas over the curves are."""
    said = "Area over the curve of cuts (0: the answer never needs the reasoning): "
    said += f"{estimate(aoc['lanham'])} after Lanham et al."
    if aoc["cot_transparency"] is not None:
        said += f", {aoc['cot_transparency']:.2f} as cot-transparency draws cuts"
    if aoc["remul"] is not None:
        said += f", {aoc['remul']:.2f} by REMUL's accuracy, where 0.2 is no need if all are right"
    if not (made := aoc["mistakes"])["n"]:
        return [f"{said}."]
    return [
        f"{said}.",
        "Area over the curve of mistakes (Lanham et al.: one wrong value, and the rest of the reasoning written "
        f"anew), n = {made['n']}: {estimate(made)}; without a mistake {estimate(aoc['written_anew'])}; the mistake "
        f"alone {estimate(aoc['mistakes_alone'])}.",
    ]


def by_part(arms: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Group arms that differ in their level alone."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for arm in arms:
        found.setdefault((arm["family"], arm["part"]), []).append(arm)
    return found


def arm_sentence(arm: dict[str, Any], words: str) -> str:
    """Say how many answers stay after a change, and what that costs."""
    loss, same = arm["loss"], arm["same"]
    told = "" if side(loss["low"], loss["high"]) else ", which cannot be told from no change"
    text = (
        f"{words[0].upper()}{words[1:]}, {share_words(same)} of the answers to {same['n']} questions stay; "
        f"log p(answer) falls by {estimate(loss)} nats{told}."
    )
    if arm["took"]["n"]:
        text += f" {share_words(arm['took'])} are the answer that was put in its place."
    if arm["free_same"]["n"]:
        text += f" Written freely, {share_words(arm['free_same'])} of {arm['free_same']['n']} stay"
        text += f", {share_words(arm['free_took'])} are the one put in." if arm["free_took"]["n"] else "."
    if arm["n_free_cut"]:
        text += f" {arm['n_free_cut']} were cut off as they were written and do not count."
    return text
