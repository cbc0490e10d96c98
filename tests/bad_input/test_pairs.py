"""Pairs that cannot be patched: each has a status and a reason of its own, and a count; none ends the stage."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from r2a_core.config import AlignmentConfig
from r2a_core.data.items import Item
from r2a_core.data.pairs import ComparisonPair, pair_items, pairs_of
from r2a_core.pairs.filter import PAIR_SCHEMA, SELECTION_SCHEMA, aligned_pairs, pair_rows, select_pairs
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

NAMED = '{"pair_id": "p", "comparator": "y"}'
CONFIG = AlignmentConfig(padding="visible", probe_in="reasoning", keep_reasoning=True, ending_tokens=3)
PAIR = ComparisonPair(
    "p", "Considering x, which is y: A or B?", "A", "Considering z, which is y: A or B?", "B", "y", "d"
)


def grade(answers: Sequence[tuple[str, str]]) -> list[bool]:
    return [ours == gold for ours, gold in answers]


def row(
    tokenizer: LoadedTokenizer, side: str, said: str = "Hm.</think>\\boxed{?}", status: str = "ok"
) -> dict[str, Any]:
    """A response to one side; `?` is its right answer."""
    said = said.replace("?", {"clean": "A", "corrupted": "B"}[side])
    parts = said.split("</think>")
    ids = plain_ids(tokenizer, parts[0])
    for part in parts[1:]:
        ids += [tokenizer.ids.think_close, *plain_ids(tokenizer, part)]
    asked = prompt_ids(tokenizer, "Q", "", "with_reasoning")
    return {
        "item_id": f"p-{side}",
        "prompt_ids": asked,
        "response_ids": [*ids, tokenizer.ids.eos],
        "response": said,
        "status": status,
    }


def found(tokenizer: LoadedTokenizer, rows: list[dict[str, Any]], kept: bool = True) -> dict[str, Any]:
    chosen = {"pair_id": "p", "kept": kept, "reason": None if kept else "m: too long"}
    selected = pl.DataFrame([chosen], SELECTION_SCHEMA)
    schema = {"item_id": pl.String, "prompt_ids": pl.List(pl.Int32), "response_ids": pl.List(pl.Int32)}
    frame = pl.DataFrame(rows, schema | {"response": pl.String, "status": pl.String})
    result = pair_rows(tokenizer, [PAIR], selected, frame, ["plain"], CONFIG, grade)
    assert dict(result.schema) == PAIR_SCHEMA
    (only,) = result.rows(named=True)
    assert (only["status"] == "aligned") == bool(aligned_pairs(result))
    return only


GOOD = "Hm.</think>It is \\boxed{?}."
CASES: dict[str, tuple[str, str, str, str]] = {
    "both right": (GOOD, "ok", "aligned", ""),
    "never ends": (GOOD, "unfinished", "unfinished", "the corrupted response does not end"),
    "no </think>": (GOOD, "bad_think", "bad_think", "does not hold exactly one </think>"),
    "no box by its status": (GOOD, "no_answer", "no_answer", "the corrupted response holds no boxed answer"),
    "no box though it passed": ("Hm.</think>A", "ok", "no_answer", "the corrupted response holds no boxed answer"),
    "an empty box": ("Hm.</think>\\boxed{}", "ok", "no_answer", "holds no boxed answer"),
    "another answer": ("Hm.</think>\\boxed{C}", "ok", "wrong", "the corrupted response answers 'C', not 'B'"),
    "two </think>": (f"Hm.</think>{GOOD}", "ok", "not_alignable", "1 <think> and 2 </think>, not one of each"),
    "a box in the reasoning only": ("\\boxed{?}</think>A", "ok", "not_alignable", "no \\boxed{} in its answer"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_pair_has_a_status_and_a_reason(byte_text: LoadedTokenizer, case: str) -> None:
    said, status, expected, reason = CASES[case]
    only = found(byte_text, [row(byte_text, "clean", GOOD), row(byte_text, "corrupted", said, status)])
    assert only["status"] == expected
    assert reason in (only["reason"] or "")
    assert (only["reason"] is None) == (expected == "aligned")


def test_a_pair_without_responses_or_not_selected(byte_text: LoadedTokenizer) -> None:
    only = found(byte_text, [row(byte_text, "clean", GOOD)])
    assert (only["status"], only["reason"]) == ("no_response", "the corrupted question has no response of this model")
    only = found(byte_text, [row(byte_text, "clean", GOOD), row(byte_text, "corrupted", GOOD)], kept=False)
    assert (only["status"], only["reason"]) == ("not_selected", "m: too long")


def test_responses_that_contradict_themselves(refused, byte_text: LoadedTokenizer) -> None:
    clean = row(byte_text, "clean", GOOD)
    again = "dvc repro generate_pairs"
    refused(lambda: found(byte_text, [clean, clean]), "there are two responses to 'p-clean'", again)
    odd = row(byte_text, "corrupted", GOOD, "fine")
    refused(lambda: found(byte_text, [clean, odd]), "'p-corrupted' has the unknown status 'fine'", again)


@pytest.mark.parametrize("answer", ["", "AB", "A B", "漢", "\\", "</think>"])
def test_an_answer_of_several_tokens_is_not_selected(byte_text: LoadedTokenizer, answer: str) -> None:
    pair = ComparisonPair("p", "Q", answer, "R", "B", "y", "d")
    rows = select_pairs([pair], {"m": byte_text}).rows(named=True)
    assert [(each["kept"], each["reason"] is None) for each in rows] == [(len(answer.encode()) == 1,) * 2]


ITEMS: dict[str, tuple[list[Item], str]] = {
    "no pairs": ([Item("a", "Q", "A", "math"), Item("b", "Q", "A", "math")], "'a' belongs to no pair"),
    "one side twice": (pair_items([PAIR])[:1] * 2, "'p-clean' belongs to no pair"),
    "the sides in another order": (pair_items([PAIR])[::-1], "'p-corrupted' belongs to no pair"),
    "no answer": (
        [Item("p-clean", "Q", None, "open", extra=NAMED)] * 2,
        "belongs to no pair",
    ),
    "another extra": ([Item("p-clean", "Q", "A", "comparison", extra="[1]")] * 2, "belongs to no pair"),
    "an odd number": (pair_items([PAIR])[:1], "'p-clean' belongs to no pair"),
    "an extra that is no JSON": ([Item("p-clean", "Q", "A", "comparison", extra="{")] * 2, "belongs to no pair"),
}


@pytest.mark.parametrize("case", ITEMS)
def test_questions_that_are_no_pairs(refused, case: str) -> None:
    items, says = ITEMS[case]
    refused(lambda: pairs_of(items), says, "set run.pairs to a dataset of kind generated_pairs")
