"""What an endpoint's record takes, its key and its prices."""

from typing import Any

import pytest

from r2a_core.config import EndpointParams, parse
from r2a_core.infra.errors import MissingPrerequisite, R2AError

VALUES: dict[str, Any] = {
    "base_url": "https://api.example.org/v1",
    "model": "m",
    "key_env": "SOME_KEY",
    "timeout_seconds": 60.0,
    "concurrency": 4,
    "attempts": 3,
    "prompt_price": 0.5,
    "completion_price": 2.0,
}


def made(**changes: Any) -> EndpointParams:
    return EndpointParams(**(VALUES | changes))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_url": "https://me:pw7@host/v1"}, "a login or an access token"),
        ({"base_url": "ftp://host/v1"}, "no plain http"),
        ({"base_url": "https://host/v1?api-version=pw7"}, "no plain http"),
        ({"base_url": "http://host.example/v1"}, "unencrypted http"),
        ({"base_url": "http://127.0.0.1.example/v1"}, "unencrypted http"),
        ({"key_env": "sk-pw7"}, "not the name of an environment variable"),
        ({"attempts": 0}, "attempts"),
        ({"prompt_price": -1.0}, "prompt_price"),
    ],
)
def test_unsafe_or_impossible_records_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(R2AError, match=says) as caught:
        parse(EndpointParams, VALUES | change, "models.x.endpoint")
    assert "pw7" not in str(caught.value)


def test_safe_records() -> None:
    urls = ("http://localhost:8000/v1", "http://[::1]:8000/v1", "http://127.8.8.8/v1")
    for safe in ({}, *({"base_url": url} for url in urls), {"base_url": "http://gpu-node:8000/v1", "key_env": None}):
        assert parse(EndpointParams, VALUES | safe, "models.x.endpoint").model == "m"


def test_the_key_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = made()
    for missing in (None, "", "  \n"):
        monkeypatch.delenv("SOME_KEY", raising=False)
        if missing is not None:
            monkeypatch.setenv("SOME_KEY", missing)
        with pytest.raises(MissingPrerequisite, match="SOME_KEY is not set"):
            endpoint.key()
    monkeypatch.setenv("SOME_KEY", " abc-1\n")
    assert endpoint.key() == "abc-1"
    monkeypatch.setenv("SOME_KEY", "abc 1")
    with pytest.raises(MissingPrerequisite, match="characters that no key has") as caught:
        endpoint.key()
    assert "abc" not in str(caught.value)
    assert "abc" not in repr(endpoint)
    assert made(key_env=None).key() is None


def test_cost_is_tokens_by_price() -> None:
    endpoint = made()
    assert endpoint.cost(2_000_000, 500_000) == 2.0  # 2 x 0.5 + 0.5 x 2
    assert endpoint.cost(None, 5) is None
    assert made(prompt_price=None).cost(1, 1) is None
    assert made(prompt_price=0.0, completion_price=0.0).cost(1, 1) == 0.0
