"""Texts of models that are no traces: each leaves the funnel at a counted step, with its bounds; none is guessed at."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from r2a_core.config import EvaluateParams, Tags
from r2a_core.data.imported_texts import ImportedText
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import evaluate
from r2a_core.generation.rows import generation_row, split_imported
from r2a_core.models.load import resolve_tags
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import GENERATION_SCHEMA, TraceSegments, classify, has_boxed, select_traces

BOS, EOS = str(Tags().bos), Tags().eos
ASKED = f"{BOS}1+1? <think>\n"
ITEM = Item("q", "1+1?", "2", "math")
BOX = "\\boxed{2}"
WITH: dict[str, tuple[str, str | None, str]] = {
    "a whole trace": (f"{ASKED}Hm.</think>{BOX}{EOS}", None, "ok"),
    "a response alone": (f"Hm.</think>{BOX}{EOS}", None, "ok"),
    "a response that opens its thinking": (f"<think>\nHm.</think>{BOX}{EOS}", None, "ok"),
    "no BOS": (f"1+1? <think>\nHm.</think>{BOX}{EOS}", None, "ok"),
    "no reasoning": (f"{ASKED}</think>{BOX}{EOS}", None, "ok"),
    "no EOS": (f"{ASKED}Hm.</think>{BOX}", None, "unfinished"),
    "no EOS, but told to have ended": (f"{ASKED}Hm.</think>{BOX}", "stop", "ok"),
    "an EOS in the middle": (f"{ASKED}Hm.{EOS}</think>{BOX}", None, "unfinished"),
    "two EOS": (f"{ASKED}Hm.</think>{BOX}{EOS}{EOS}", None, "ok"),
    "white space behind the EOS": (f"{ASKED}Hm.</think>{BOX}{EOS}\n ", None, "ok"),
    "no </think>": (f"{ASKED}Hm. {BOX}{EOS}", None, "bad_think"),
    "two </think>": (f"{ASKED}Hm.</think>So.</think>{BOX}{EOS}", None, "bad_think"),
    "</think> in the answer": (f"{ASKED}Hm.</think>{BOX} </think>{EOS}", None, "bad_think"),
    "a </think> that is cut": (f"{ASKED}Hm.</think{BOX}{EOS}", None, "bad_think"),
    "</think> in capitals": (f"{ASKED}Hm.</THINK>{BOX}{EOS}", None, "bad_think"),
    "no <think> and no </think>": (f"{BOX}{EOS}", None, "bad_think"),
    "an empty answer": (f"{ASKED}Hm.</think>{EOS}", None, "no_answer"),
    "a blank answer": (f"{ASKED}Hm.</think>\n\n{EOS}", None, "no_answer"),
    "no box": (f"{ASKED}Hm.</think>It is 2.{EOS}", None, "no_answer"),
    "a box in the reasoning only": (f"{ASKED}{BOX}</think>It is 2.{EOS}", None, "no_answer"),
    "an empty box": (f"{ASKED}Hm.</think>\\boxed{{}}{EOS}", None, "no_answer"),
    "a box that never closes": (f"{ASKED}Hm.</think>\\boxed{{2{EOS}", None, "no_answer"),
    "an EOS alone": (EOS, None, "bad_think"),
    "a BOS alone": (BOS, None, "unfinished"),
    "a question alone": (ASKED, None, "unfinished"),
    "a NUL": (f"{ASKED}\0</think>{BOX}\0{EOS}", None, "ok"),
    "half of a character's bytes": (f"{ASKED}\ufffd</think>{BOX}{EOS}", None, "ok"),
    "a million characters": (f"{ASKED}{'so ' * 30_000}</think>{BOX}{EOS}", None, "ok"),
}
WITHOUT: dict[str, tuple[str, str]] = {
    "a whole trace": (f"{ASKED}Okay.</think>{BOX}{EOS}", "ok"),
    "a response alone": (f"{BOX}{EOS}", "ok"),
    "closed again": (f"{ASKED}Okay.</think>{BOX}</think>{EOS}", "bad_think"),
    "never closed": (f"{ASKED}Okay.{BOX}{EOS}", "bad_think"),
    "no EOS": (f"{ASKED}Okay.</think>{BOX}", "unfinished"),
    "nothing after it": (f"{ASKED}Okay.</think>{EOS}", "no_answer"),
}


def row_of(tokenizer: LoadedTokenizer, item: Item, content: str, finish: str | None, setting: Any) -> dict[str, Any]:
    split = split_imported(tokenizer, item, ImportedText(content, finish), setting, "", "finished")
    return dict(generation_row(tokenizer, item, 0, split.prompt, split.response, None, has_boxed))


def check_row(tokenizer: LoadedTokenizer, row: dict[str, Any]) -> None:
    """What holds for every row, whatever its text: its tags and bounds are those of its tokens."""
    ids = [*row["prompt_ids"], *row["response_ids"]]
    assert ids.count(tokenizer.ids.think_open) == 1
    assert ids[row["think_open"]] == tokenizer.ids.think_open
    if row["status"] in ("ok", "no_answer"):
        assert [place for place, token in enumerate(ids) if token == tokenizer.ids.think_close] == [row["think_close"]]
        assert row["answer_start"] == row["think_close"] + 1
        assert row["answer_end"] == len(ids) - 1
        assert ids[-1] == tokenizer.ids.eos
    else:
        assert (row["think_close"], row["answer_start"], row["answer_end"]) == (None, None, None)


@pytest.mark.parametrize("case", WITH)
def test_a_text_with_reasoning_has_a_status(byte_text: LoadedTokenizer, case: str) -> None:
    content, finish, status = WITH[case]
    row = row_of(byte_text, ITEM, content, finish, "with_reasoning")
    assert row["status"] == status
    check_row(byte_text, row)


@pytest.mark.parametrize("case", WITHOUT)
def test_a_text_without_reasoning_has_a_status(byte_text: LoadedTokenizer, case: str) -> None:
    content, status = WITHOUT[case]
    row = row_of(byte_text, ITEM, content, None, "without_reasoning")
    assert row["status"] == status
    check_row(byte_text, row)


@pytest.mark.parametrize(
    "question", ["<think>", "</think>", f"{BOS}{EOS}", "a </think> b <think> c", "<think>\n</think>"]
)
@pytest.mark.parametrize("whole", [True, False])
def test_tags_inside_the_question_are_words(byte_text: LoadedTokenizer, question: str, whole: bool) -> None:
    asked = f"{BOS}{question} <think>\n" if whole else ""
    row = row_of(byte_text, replace(ITEM, question=question), f"{asked}Hm.</think>{BOX}{EOS}", None, "with_reasoning")
    assert row["status"] == "ok"
    assert question in row["prompt"]
    check_row(byte_text, row)


def test_a_model_without_bos(byte_text: LoadedTokenizer) -> None:
    tags = Tags(bos=None)
    bare = LoadedTokenizer(byte_text.hf, tags, resolve_tags(byte_text.hf, tags))
    row = row_of(bare, ITEM, f"1+1? <think>\nHm.</think>{BOX}{EOS}", None, "with_reasoning")
    assert (row["status"], row["think_open"]) == ("ok", 5)
    check_row(bare, row)


def test_a_model_without_bos_and_an_empty_question_has_no_segments(refused) -> None:
    refused(lambda: TraceSegments(0, 3, 9), "<think> at 0", "a trace needs BOS, <think>")


@pytest.mark.parametrize("bounds", [(3, 3, 9), (4, 3, 9), (1, 8, 9), (1, 7, 8), (-1, 3, 9), (1, 3, 4), (2, 9, 5)])
def test_bounds_out_of_order(refused, bounds: tuple[int, int, int]) -> None:
    refused(lambda: TraceSegments(*bounds), "segments out of order", "in this order")


def test_a_prompt_without_its_tag_is_an_error(refused, byte_text: LoadedTokenizer) -> None:
    says = "the prompt holds no <think>"
    refused(lambda: classify([1, 2], [3, byte_text.ids.eos], byte_text.ids, bool), says, "think_open")


@pytest.mark.parametrize("question", ["\ud800", "a\udfffb"])
def test_half_a_character_in_a_question(refused, byte_text: LoadedTokenizer, question: str) -> None:
    ask = lambda: prompt_ids(byte_text, question, "", "with_reasoning")  # noqa: E731
    refused(ask, "a text has a lone surrogate at character", "remove or replace it")


# What becomes of such rows


def generations(byte_text: LoadedTokenizer, cases: dict[str, Any], setting: Any) -> pl.DataFrame:
    rows = [
        row_of(byte_text, replace(ITEM, item_id=name), case[0], case[1] if len(case) == 3 else None, setting)
        for name, case in cases.items()
    ]
    return pl.DataFrame(rows, schema=GENERATION_SCHEMA)


def test_every_text_is_counted_once(byte_text: LoadedTokenizer) -> None:
    cases = {name: case for name, case in WITH.items() if name != "a million characters"}
    items = [replace(ITEM, item_id=name) for name in dict.fromkeys([*cases, *WITHOUT])]
    frames = {
        "with_reasoning": generations(byte_text, cases, "with_reasoning"),
        "without_reasoning": generations(byte_text, WITHOUT, "without_reasoning"),
    }
    found = evaluate(
        items,
        frames,
        1,
        EvaluateParams(timeout_seconds=10.0, bootstrap_draws=100, seed=0),
        model="m",
        dataset="d",
        decoding="imported",
    )
    statuses = [case[2] for case in cases.values()]
    assert found.summary["funnel"]["with_reasoning"]["once"] == {
        "all": len(cases),
        "finished": len(cases) - statuses.count("unfinished"),
        "think_format": statuses.count("ok") + statuses.count("no_answer"),
        "answer_format": statuses.count("ok"),
        "common": 2,  # "a whole trace" and "a response alone"
    }
    assert found.frame.height == len(cases) + len(WITHOUT)
    scored = found.frame.filter(pl.col("score").is_not_null())
    assert scored["status"].unique().to_list() == ["ok"]
    assert scored["score"].unique().to_list() == [1.0]
    ok = [name for name, case in cases.items() if case[2] == "ok"]
    assert [trace.item_id for trace in select_traces(frames["with_reasoning"])] == ok
