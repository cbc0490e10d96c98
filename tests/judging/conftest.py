"""A judge on the loopback, and the built-in tokenizer."""

from collections.abc import Iterator

import pytest

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.models.load import resolve_tags
from r2a_core.tokenizer import LoadedTokenizer
from tests.judging.served_judge import JudgeServer, serving


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def text() -> LoadedTokenizer:
    tokenizer, tags = build_tokenizer(), Tags()
    return LoadedTokenizer(tokenizer, tags, resolve_tags(tokenizer, tags))
