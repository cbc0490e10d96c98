"""What was answered: the right answer, another option of the question, a third thing, or nothing.

graded responses, items -> the option that each answer names, as the grader compares, and per setting how many responses
gave which kind of answer. A question's options stand in `extra.options`, two of them in the order of the question.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import polars as pl

from r2a_core.data.items import Item


@dataclass(frozen=True)
class Kind:
    """A kind of answer: what figure and page call it, its colour in both, and whether that takes dark numbers."""

    label: str
    colour: str
    light: bool = False


KINDS = {  # by name in the summary
    "right": Kind("right", "#0072b2"),
    "first": Kind("wrong: first of two options", "#e69f00", light=True),
    "second": Kind("wrong: second of two options", "#d55e00"),
    "another": Kind("wrong: another option", "#f3c9a5", light=True),
    "third": Kind("wrong: none of the options", "#999999"),
    "wrong": Kind("wrong, question without options", "#cc79a7", light=True),
    "undecided": Kind("right in one reading, wrong in another", "#f0e442", light=True),
    "nothing": Kind("no valid answer", "#555555"),
}

PLACES = ("first", "second")


def options_of(item: Item) -> list[str]:
    """Returns the answers among which a question lets one choose; empty where it has none."""
    return json.loads(item.extra).get("options", [])


def chance_level(items: Sequence[Item]) -> float | None:
    """Returns the share that guessing gets right, the mean of `extra.chance`; None where some questions are open."""
    known = [json.loads(item.extra).get("chance") for item in items]
    return None if None in known or not known else fmean(known)


def count_answers(first_attempts: pl.DataFrame, options: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Counts the responses of one setting by KINDS, which add up to n; and named_first, named_second.

    first_attempts: item_id, status, score and option (see EVALUATION_SCHEMA). options: by item.
    named_first and named_second count every answer that names the first or second of two options, right or wrong.
    """
    counts = {"n": first_attempts.height} | dict.fromkeys((*KINDS, "named_first", "named_second"), 0)
    for item_id, status, score, option in first_attempts.select("item_id", "status", "score", "option").iter_rows():
        n_options = len(options[item_id])
        open_verdict = status == "undecided"
        counts["undecided" if open_verdict else kind_of(n_options, status == "ok", score == 1, option)] += 1
        if n_options == len(PLACES) and option is not None:
            counts[f"named_{PLACES[option]}"] += 1
    return counts


def kind_of(n_options: int, answered: bool, right: bool, option: int | None) -> str:
    """Names the kind of one answer. option: the place, from 0, of the option that it names."""
    if right or not answered:
        return "right" if right else "nothing"
    if not n_options:
        return "wrong"
    if option is None:
        return "third"
    return PLACES[option] if n_options == len(PLACES) else "another"


def kinds_in(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lists the kinds that occur in any of the counts, in the order of KINDS."""
    return [kind for kind in KINDS if any(record[kind] for record in records)]
