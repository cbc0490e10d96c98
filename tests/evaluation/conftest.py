"""A judge on the loopback."""

from collections.abc import Iterator

import pytest

from tests.evaluation.judge_server import JudgeServer, serving


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    with serving() as server:
        yield server
