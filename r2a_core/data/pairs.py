"""Contextual object comparison pairs (paper section 5): two questions that differ in their context alone.

CSV file with the columns case_id, query_a, answer_a, query_b, answer_b, domain (query a is the clean one, b the
corrupted one) -> QuestionPair records -> two items each in data/datasets/<pairs>.parquet -> QuestionPair records again.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r2a_core.config import PAIR_KINDS
from r2a_core.data.items import Item, QuestionPair, choice, read_items
from r2a_core.data.user_tables import Loaded, collect, optional_label, read_rows, required_text
from r2a_core.infra.errors import R2AError

PAIRS_TABLE = Path(__file__).with_name("object_comparison_pairs.csv")  # the project's own pairs


PAIR_COLUMNS = ("case_id", "query_a", "answer_a", "query_b", "answer_b", "domain")

LONGEST = 1000  # characters of a question; matching its form takes time that grows with the cube

NO_COMPARATOR = "correct"  # of a question that only asks "which is: A or B?"

FORM = re.compile(r"Considering (?P<context>.+), which (?:is|are)(?: (?P<comparator>[^:]+))?: (?P<a>.+) or (?P<b>.+)\?")


def load_pairs(path: Path) -> Loaded[QuestionPair]:
    """Loads the pairs of a CSV file. Raises R2AError when a column is missing or no row can be used."""
    return collect(read_rows(path, PAIR_COLUMNS), to_pair, lambda pair: pair.pair_id)


def to_pair(row: dict[str, Any]) -> QuestionPair:
    """Makes a pair of a row. Raises R2AError for questions of another form and answers that are not opposite."""
    questions = [required_text(row, name).strip() for name in ("query_a", "query_b")]
    if longest := [question for question in questions if len(question) > LONGEST]:
        raise R2AError(f"a question has {len(longest[0])} characters, more than {LONGEST}")
    answers = [required_text(row, name).strip() for name in ("answer_a", "answer_b")]
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
    return QuestionPair(
        pair_id=optional_label(row, "case_id") or required_text(row, "case_id"),
        clean_question=questions[0],
        clean_answer=answers[0],
        corrupted_question=questions[1],
        corrupted_answer=answers[1],
        comparator=clean["comparator"] or NO_COMPARATOR,
        domain=optional_label(row, "domain"),
    )


def option_of(answer: str, question: re.Match[str]) -> str:
    """Returns the option that an answer names, as the question spells it: a spreadsheet may have made TRUE of true.

    Raises R2AError when it names neither.
    """
    options = (question["a"], question["b"])
    same = [option for option in options if option == answer] or [
        option for option in options if option.casefold() == answer.casefold()
    ]
    if len(same) != 1:
        raise R2AError(f"the answer {answer!r} is not one of the options {options[0]!r} and {options[1]!r}")
    return same[0]


def pair_items(pairs: Sequence[QuestionPair]) -> list[Item]:
    """Makes two questions of each pair, "<pair_id>-clean" and "<pair_id>-corrupted", one after the other."""
    items = []
    for pair in pairs:
        for side, question, answer in (
            ("clean", pair.clean_question, pair.clean_answer),
            ("corrupted", pair.corrupted_question, pair.corrupted_answer),
        ):
            form = FORM.fullmatch(question)
            assert form is not None  # to_pair and the generators see to that
            extra = {"pair_id": pair.pair_id, "comparator": pair.comparator} | choice((form["a"], form["b"]))
            item_id, text = f"{pair.pair_id}-{side}", json.dumps(extra, sort_keys=True)
            items.append(Item(item_id, question, answer, "comparison", pair.domain, "", text))
    return items


def read_pairs(path: Path) -> list[QuestionPair]:
    """Reads the pairs of a dataset, in file order: the inverse of `pair_items`.

    Raises R2AError when the dataset is of another kind, and what `read_items` raises.
    """
    items = read_items(path)
    if not all('"comparator": ' in item.extra for item in items):
        raise R2AError(
            f"{path} holds no pairs of questions", f"set run.pairs to a dataset of kind {', '.join(PAIR_KINDS)}"
        )
    known = [json.loads(item.extra) for item in items[::2]]
    return [
        QuestionPair(
            pair_id=extra["pair_id"],
            comparator=extra["comparator"],
            clean_question=clean.question,
            clean_answer=clean.gold or "",
            corrupted_question=corrupted.question,
            corrupted_answer=corrupted.gold or "",
            domain=clean.subject,
        )
        for clean, corrupted, extra in zip(items[::2], items[1::2], known, strict=True)
    ]
