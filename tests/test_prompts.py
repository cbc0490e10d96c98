"""Prompts are exactly the paper's text, and no text can produce a tag."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.builtin.tokenizer import PAD
from r2a_core.config import Tags
from r2a_core.infra.errors import R2AError
from r2a_core.models.tokenizers import resolve_tags
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION
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
def test_the_text_is_that_of_the_paper(byte_text: LoadedTokenizer, setting, mode, expected) -> None:
    ids = prompt_ids(byte_text, "What is 2+3?", BOXED, setting, mode)
    assert byte_text.hf.decode(ids) == expected
    assert ids == byte_text.hf.encode(expected, add_special_tokens=False)
    alone = prompt_ids(byte_text, "Tell me.", "", "with_reasoning")
    assert byte_text.hf.decode(alone) == "<｜begin▁of▁sentence｜>Tell me. <think>\n"


def test_a_model_without_bos_starts_with_the_question(byte_text: LoadedTokenizer) -> None:
    tags = Tags(bos=None)
    bare = LoadedTokenizer(byte_text.hf, tags, resolve_tags(byte_text.hf, tags))
    with_bos = prompt_ids(byte_text, "Hm?", BOXED, "without_reasoning")
    assert prompt_ids(bare, "Hm?", BOXED, "without_reasoning") == with_bos[1:]
    assert with_bos[0] == byte_text.ids.bos
    # other tags are used where the model has others
    others = tags.model_copy(update={"think_open": "</think>", "think_close": "<think>"})
    ids = replace(byte_text.ids, think_open=byte_text.ids.think_close, think_close=byte_text.ids.think_open)
    swapped = prompt_ids(LoadedTokenizer(byte_text.hf, others, ids), "A", "", "without_reasoning", "empty")
    assert byte_text.hf.decode(swapped).endswith("A </think>\n\n<think>")
    with pytest.raises(R2AError, match="lone surrogate at character 2"):
        plain_ids(byte_text, "ab\ud800")


parts = st.one_of(
    st.sampled_from([*TAGS, PAD, "<", ">", "<think", "think>", "</", "<｜", "▁of▁", "｜>", "\n", " ", "Otter", "12"]),
    st.text(max_size=4),
)
texts = st.lists(parts, max_size=8).map("".join)
REPEATABLE = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=["byte_text", "built_in_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> LoadedTokenizer:
    return request.getfixturevalue(request.param)


def added_ids(tokenizer: LoadedTokenizer) -> set[int]:
    return set(tokenizer.hf.get_added_vocab().values())


@REPEATABLE
@given(content=texts)
def test_plain_text_holds_no_tag_and_comes_back(tokenizer: LoadedTokenizer, content: str) -> None:
    ids = plain_ids(tokenizer, content)
    assert not added_ids(tokenizer) & set(ids)
    assert tokenizer.hf.decode(ids, clean_up_tokenization_spaces=False) == content


@REPEATABLE
@given(question=texts, instruction=texts, reasoning=st.booleans(), mode=st.sampled_from(["finished", "empty"]))
def test_a_prompt_holds_its_own_tags_only(
    tokenizer: LoadedTokenizer, question: str, instruction: str, reasoning: bool, mode: Any
) -> None:
    ids = prompt_ids(tokenizer, question, instruction, "with_reasoning" if reasoning else "without_reasoning", mode)
    own = [token for token in ids if token in added_ids(tokenizer)]
    assert own == [tokenizer.ids.bos, tokenizer.ids.think_open, *([] if reasoning else [tokenizer.ids.think_close])]
    assert ids[0] == tokenizer.ids.bos
    assert ids.index(tokenizer.ids.think_open) >= 2


def test_built_in_models_are_trained_on_the_instructions_they_are_asked_with() -> None:
    datasets = yaml.safe_load((Path(__file__).resolve().parents[1] / "params.yaml").read_text("utf-8"))["datasets"]
    assert {each["instruction"] for each in datasets.values()} == {"", BOXED_INSTRUCTION, BRIEF_INSTRUCTION}
