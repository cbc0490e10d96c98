"""No text can produce a tag: neither a question in a prompt, nor an imported text beyond its own tags."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.builtin.tokenizer import PAD, build_tokenizer
from r2a_core.config import Tags
from r2a_core.data.imported_texts import ImportedText
from r2a_core.data.items import Item
from r2a_core.generation.rows import generation_row, split_imported
from r2a_core.models.load import resolve_tags
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

TAGS = Tags()
SPELLED = [str(TAGS.bos), TAGS.eos, TAGS.think_open, TAGS.think_close, PAD]
parts = st.one_of(
    st.sampled_from([*SPELLED, "<", ">", "<think", "think>", "</", "<｜", "▁of▁", "｜>", "\n", " ", "Otter", "12"]),
    st.text(max_size=4),
)
texts = st.lists(parts, max_size=8).map("".join)
REPEATABLE = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def built_in() -> LoadedTokenizer:
    tokenizer = build_tokenizer()
    return LoadedTokenizer(tokenizer, TAGS, resolve_tags(tokenizer, TAGS))


@pytest.fixture(scope="module", params=["bytes", "built in"])
def tokenizer(request: pytest.FixtureRequest, byte_text: LoadedTokenizer, built_in: LoadedTokenizer) -> LoadedTokenizer:
    return byte_text if request.param == "bytes" else built_in


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


@REPEATABLE
@given(question=texts.filter(str.strip), content=texts, reasoning=st.booleans(), stop=st.booleans())
def test_an_imported_text_holds_one_think_tag_and_one_bos(
    tokenizer: LoadedTokenizer, question: str, content: str, reasoning: bool, stop: bool
) -> None:
    setting = "with_reasoning" if reasoning else "without_reasoning"
    found = ImportedText(content, "stop" if stop else None)
    item = Item("q", question, "1", "math")
    split = split_imported(tokenizer, item, found, setting, "", "finished")
    ids = [*split.prompt, *split.response]
    assert ids.count(tokenizer.ids.think_open) == 1
    assert [place for place, token in enumerate(ids) if token == tokenizer.ids.bos] == [0]
    assert tokenizer.ids.eos not in ids[:-1]
    row = generation_row(tokenizer, item, 0, split.prompt, split.response, None, lambda answer: True)
    assert row["status"] in ("ok", "unfinished", "bad_think", "no_answer")
    assert (row["status"] == "unfinished") == (ids[-1] != tokenizer.ids.eos)
    if stop:
        assert row["status"] != "unfinished"
