"""Filtering pairs: each that cannot be patched has a status and a reason of its own; none ends the stage."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.config import AlignParams
from r2a_core.data.items import SELECTION_SCHEMA, QuestionPair
from r2a_core.pairs.align import Response, align
from r2a_core.pairs.filter import pair_rows, select_pairs
from r2a_core.pairs.tables import PAIR_SCHEMA, aligned_pairs
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

ALIGNMENT: dict[str, Any] = {"padding": "visible", "probe_in": "reasoning", "keep_reasoning": True, "ending_tokens": 3}
PARAMS = AlignParams(probes=("plain", "boxed"), timeout_seconds=10.0, **ALIGNMENT)
GOOD = "Hm.</think>It is \\boxed{?}."
# the case, the corrupted response and its status, then the status and the reason of the pair
ROWS = json.loads((Path(__file__).parent / "filter_cases.json").read_text(encoding="utf-8"))
CASES = {case: expected for case, *expected in ROWS}


def question_pair(name: str) -> QuestionPair:
    clean, corrupted = (f"Considering {context}, which is y: A or B?" for context in "xz")
    return QuestionPair(name, clean, "A", corrupted, "B", "y", "d")


def row(tokenizer: LoadedTokenizer, name: str, side: str, said: str = GOOD, status: str = "ok") -> dict[str, Any]:
    """A response to one side; `?` is its right answer."""
    said = said.replace("?", {"clean": "A", "corrupted": "B"}[side])
    first, *parts = (plain_ids(tokenizer, part) for part in said.split("</think>"))
    ids = [*first, *(token for part in parts for token in (tokenizer.ids.think_close, *part)), tokenizer.ids.eos]
    asked = prompt_ids(tokenizer, "Q", "", "with_reasoning")
    about = {"item_id": f"{name}-{side}", "response": said, "status": status}
    return about | {"prompt_ids": asked, "response_ids": ids}


@pytest.fixture(scope="module")
def table(byte_text: LoadedTokenizer) -> pl.DataFrame:
    """The rows of all cases, of a pair without a response and of one that is not selected, filtered in one go."""
    names = [*CASES, "half", "dropped"]
    rows = [row(byte_text, name, "clean") for name in names]
    rows += [row(byte_text, name, "corrupted", said, status) for name, (said, status, _, _) in CASES.items()]
    rows.append(row(byte_text, "dropped", "corrupted"))
    kept = [name != "dropped" for name in names]
    reasons = [None if each else "m: too long" for each in kept]
    selected = pl.DataFrame({"pair_id": names, "kept": kept, "reason": reasons}, SELECTION_SCHEMA)
    return pair_rows(byte_text, [question_pair(name) for name in names], selected, pl.DataFrame(rows), PARAMS)


def found(table: pl.DataFrame, name: str) -> tuple[str, str | None]:
    """Status and reason of a pair, the same for both probes."""
    (only,) = set(table.filter(pl.col("pair_id") == name).select("status", "reason").iter_rows())
    return only


@pytest.mark.parametrize("case", CASES)
def test_a_pair_has_a_status_and_a_reason(table: pl.DataFrame, case: str) -> None:
    status, reason = found(table, case)
    assert status == CASES[case][2]
    assert CASES[case][3] in (reason or "")
    assert (reason is None) == (status == "aligned")
    assert found(table, "half") == ("no_response", "the corrupted question has no response of this model")
    assert found(table, "dropped") == ("not_selected", "m: too long")


def test_an_aligned_pair_survives_the_table(table: pl.DataFrame, byte_text: LoadedTokenizer) -> None:
    assert dict(table.schema) == PAIR_SCHEMA
    assert table["probe"].to_list() == ["plain", "boxed"] * (len(CASES) + 2)
    pair = question_pair("both right")
    rows = [row(byte_text, pair.pair_id, side) for side in ("clean", "corrupted")]
    clean, corrupted = (Response(each["prompt_ids"], each["response_ids"]) for each in rows)
    expected = [align(byte_text, pair, (clean, corrupted), probe, PARAMS) for probe in PARAMS.probes]
    assert aligned_pairs(table) == expected


@pytest.mark.parametrize("answer", ["", "A", "AB", "A B", "漢", "\\", "</think>"])
def test_an_answer_of_several_tokens_is_not_selected(byte_text: LoadedTokenizer, answer: str) -> None:
    pair = QuestionPair("p", "Q", answer, "R", "B", "y", "d")
    rows = select_pairs([pair, question_pair("q")], {"m": byte_text, "n": byte_text}).rows(named=True)
    assert [each["kept"] for each in rows] == [len(answer.encode()) == 1, True]
    reason = f"m: the answer {answer!r} is not one token after"
    assert (rows[0]["reason"] or reason).startswith(reason)
    assert (rows[0]["reason"] is None) == rows[0]["kept"]
