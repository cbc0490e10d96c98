"""Contextual object comparison pairs (paper section 5): from a CSV file to questions, and back to pairs.

Columns case_id, query_a, answer_a, query_b, answer_b, domain: two questions that differ in their context alone and have
opposite answers. Query a is the clean one, b the corrupted one.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from r2a_core.config import PAIR_KINDS
from r2a_core.data.items import Item
from r2a_core.data.user_tables import LoadedItems, RejectedRow, label_of, read_rows, require_rows, text_of
from r2a_core.infra.errors import R2AError

PAIRS_TABLE = Path(__file__).with_name("object_comparison_pairs.csv")  # the project's own pairs


PAIR_COLUMNS = ("case_id", "query_a", "answer_a", "query_b", "answer_b", "domain")

LONGEST = 1000  # characters of a question; matching its form takes time that grows with the cube

NO_COMPARATOR = "correct"  # of a question that only asks "which is: A or B?"

FORM = re.compile(r"Considering (?P<context>.+), which (?:is|are)(?: (?P<comparator>[^:]+))?: (?P<a>.+) or (?P<b>.+)\?")


@dataclass(frozen=True)
class ComparisonPair:
    """Two questions with opposite answers."""

    pair_id: str
    clean_question: str
    clean_answer: str
    corrupted_question: str
    corrupted_answer: str
    comparator: str
    domain: str


class PairTexts(Protocol):
    """What a pair of questions is made of, whether read or generated."""

    @property
    def pair_id(self) -> str: ...
    @property
    def clean_question(self) -> str: ...
    @property
    def clean_answer(self) -> str: ...
    @property
    def corrupted_question(self) -> str: ...
    @property
    def corrupted_answer(self) -> str: ...
    @property
    def comparator(self) -> str: ...
    @property
    def domain(self) -> str: ...


@dataclass(frozen=True)
class LoadedPairs:
    """Pairs of a file in its order, and the rows that could not become one."""

    pairs: list[ComparisonPair]
    rejected: list[RejectedRow]


def read_pairs(path: Path) -> LoadedPairs:
    """Pairs of a CSV file. Raises R2AError when a column is missing or no row can be used."""
    pairs: list[ComparisonPair] = []
    rejected: list[RejectedRow] = []
    seen: set[str] = set()
    for row in read_rows(path, PAIR_COLUMNS):
        try:
            pair = to_pair(row.values)
            if pair.pair_id in seen:
                raise R2AError(f"the id {pair.pair_id!r} came before")
        except R2AError as error:
            rejected.append(RejectedRow(row.number, error.message))
            continue
        seen.add(pair.pair_id)
        pairs.append(pair)
    require_rows(pairs, rejected)
    return LoadedPairs(pairs, rejected)


def to_pair(row: dict[str, Any]) -> ComparisonPair:
    """One row as a pair. Raises R2AError for questions of another form and answers that are not opposite options."""
    questions = [text_of(row, name).strip() for name in ("query_a", "query_b")]
    if longest := [question for question in questions if len(question) > LONGEST]:
        raise R2AError(f"a question has {len(longest[0])} characters, more than {LONGEST}")
    answers = [text_of(row, name).strip() for name in ("answer_a", "answer_b")]
    matches = [FORM.fullmatch(question) for question in questions]
    for question, match in zip(questions, matches, strict=True):
        if match is None:
            raise R2AError(f"{question!r} is not of the form 'Considering ..., which is ...: A or B?'")
    clean, corrupted = (match for match in matches if match is not None)
    if clean["comparator"] != corrupted["comparator"]:
        raise R2AError(f"the comparators differ: {clean['comparator']!r} and {corrupted['comparator']!r}")
    answers = [option_of(answer, match) for answer, match in zip(answers, (clean, corrupted), strict=True)]
    if answers[0] == answers[1]:
        raise R2AError(f"both answers are {answers[0]!r}")
    return ComparisonPair(
        pair_id=label_of(row, "case_id") or text_of(row, "case_id"),
        clean_question=questions[0],
        clean_answer=answers[0],
        corrupted_question=questions[1],
        corrupted_answer=answers[1],
        comparator=clean["comparator"] or NO_COMPARATOR,
        domain=label_of(row, "domain"),
    )


def option_of(answer: str, question: re.Match[str]) -> str:
    """The option that an answer names, as the question spells it: a spreadsheet may have made TRUE of true.

    Raises R2AError when it names neither.
    """
    options = (question["a"], question["b"])
    same = [option for option in options if option == answer] or [
        option for option in options if option.casefold() == answer.casefold()
    ]
    if len(same) != 1:
        raise R2AError(f"the answer {answer!r} is not one of the options {options[0]!r} and {options[1]!r}")
    return same[0]


def pair_items(pairs: Sequence[PairTexts]) -> list[Item]:
    """Two questions a pair, "<pair_id>-clean" and "<pair_id>-corrupted"."""
    items = []
    for pair in pairs:
        extra = json.dumps({"pair_id": pair.pair_id, "comparator": pair.comparator}, sort_keys=True)
        for side, question, answer in (
            ("clean", pair.clean_question, pair.clean_answer),
            ("corrupted", pair.corrupted_question, pair.corrupted_answer),
        ):
            items.append(Item(f"{pair.pair_id}-{side}", question, answer, "comparison", pair.domain, "", extra))
    return items


def pairs_of(items: Sequence[Item]) -> list[ComparisonPair]:
    """The inverse of `pair_items`. Raises R2AError when the questions are not those of pairs."""
    pairs = []
    for clean, corrupted in zip(items[::2], items[1::2], strict=False):
        pair_id, comparator = pair_fields(clean.extra)
        ids = (clean.item_id, corrupted.item_id)
        if ids != (f"{pair_id}-clean", f"{pair_id}-corrupted") or clean.gold is None or corrupted.gold is None:
            raise not_a_pair(clean.item_id)
        texts = (clean.question, clean.gold, corrupted.question, corrupted.gold)
        pairs.append(ComparisonPair(pair_id, *texts, comparator, clean.subject))
    if len(items) % 2:
        raise not_a_pair(items[-1].item_id)
    return pairs


def pair_fields(extra: str) -> tuple[str, str]:
    """Pair and comparator that a question's `extra` names; empty where it names none."""
    try:
        values = json.loads(extra)
        return str(values["pair_id"]), str(values["comparator"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def not_a_pair(item_id: str) -> R2AError:
    """The error for a dataset that does not hold pairs of questions."""
    return R2AError(
        f"the question {item_id!r} belongs to no pair", f"set run.pairs to a dataset of kind {', '.join(PAIR_KINDS)}"
    )


def load_pair_items(path: Path) -> LoadedItems:
    """A CSV file of pairs as questions."""
    loaded = read_pairs(path)
    return LoadedItems(pair_items(loaded.pairs), loaded.rejected)
