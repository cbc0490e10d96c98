"""Prompts are exactly the paper's text, and no question can produce a tag."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2a_core.config import Tags
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import resolve_tags
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

BOXED = " Please reason step by step, and put your final answer within \\boxed{}."
ASKED = "<｜begin▁of▁sentence｜>What is 2+3?" + BOXED + " <think>\n"
TAGS = ("<think>", "</think>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")
CASES = [
    ("with_reasoning", "finished", ASKED),
    ("with_reasoning", "empty", ASKED),
    ("without_reasoning", "finished", ASKED + "Okay, I think I have finished thinking.\n</think>"),
    ("without_reasoning", "empty", ASKED + "\n</think>"),
]


@pytest.mark.parametrize(("setting", "mode", "expected"), CASES)
def test_the_text_is_that_of_the_paper(tokenizer: LoadedTokenizer, setting, mode, expected) -> None:
    ids = prompt_ids(tokenizer, "What is 2+3?", BOXED, setting, mode)
    assert tokenizer.hf.decode(ids) == expected
    assert ids == tokenizer.hf.encode(expected, add_special_tokens=False)


def test_without_an_instruction_the_question_stands_alone(tokenizer: LoadedTokenizer) -> None:
    ids = prompt_ids(tokenizer, "Tell me.", "", "with_reasoning")
    assert tokenizer.hf.decode(ids) == "<｜begin▁of▁sentence｜>Tell me. <think>\n"


def test_a_model_without_bos_starts_with_the_question(tokenizer: LoadedTokenizer) -> None:
    tags = Tags(bos=None)
    bare = LoadedTokenizer(tokenizer.hf, tags, resolve_tags(tokenizer.hf, tags))
    with_bos = prompt_ids(tokenizer, "Hm?", BOXED, "without_reasoning")
    assert prompt_ids(bare, "Hm?", BOXED, "without_reasoning") == with_bos[1:]
    assert with_bos[0] == tokenizer.ids.bos


def test_other_tags_are_used_where_the_model_has_others(tokenizer: LoadedTokenizer) -> None:
    ids = replace(tokenizer.ids, think_open=tokenizer.ids.think_close, think_close=tokenizer.ids.think_open)
    swapped = LoadedTokenizer(
        tokenizer.hf, tokenizer.tags.model_copy(update={"think_open": "</think>", "think_close": "<think>"}), ids
    )
    assert tokenizer.hf.decode(prompt_ids(swapped, "A", "", "without_reasoning", "empty")).endswith(
        "A </think>\n\n<think>"
    )


@given(st.lists(st.one_of(st.sampled_from([*TAGS, "<", ">", "/", "<think", "</", "\n"]), st.text(max_size=4))))
def test_what_looks_like_a_tag_stays_text(tokenizer: LoadedTokenizer, parts: list[str]) -> None:
    question = "".join(parts)
    ids = plain_ids(tokenizer, question)
    assert max(ids, default=0) < 256  # the tags have the ids behind the bytes
    assert tokenizer.hf.decode(ids) == question
    prompt = prompt_ids(tokenizer, question, BOXED, "without_reasoning")
    tags = (tokenizer.ids.bos, tokenizer.ids.think_open, tokenizer.ids.think_close, tokenizer.ids.eos)
    assert [sum(token == tag for token in prompt) for tag in tags] == [1, 1, 1, 0]


def test_a_question_of_tags_alone(tokenizer: LoadedTokenizer) -> None:
    prompt = prompt_ids(tokenizer, "</think></think><｜begin▁of▁sentence｜>", "", "with_reasoning")
    assert tokenizer.hf.decode(prompt).count("</think>") == 2
    assert tokenizer.ids.think_close not in prompt
    assert [place for place, token in enumerate(prompt) if token == tokenizer.ids.bos] == [0]


def test_text_that_is_no_unicode_is_named(tokenizer: LoadedTokenizer) -> None:
    with pytest.raises(R2AError, match="lone surrogate at character 2"):
        plain_ids(tokenizer, "ab\ud800")
