"""The client against a server that fails: what is tried again, how long it waits, and how it gives up."""

import email.utils
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from r2a_core.config import EndpointParams
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.openai_api.client import LONGEST_WAIT, Client, Reply, retry_after_seconds, wait_seconds
from tests.remote.conftest import CANARY, KEY_ENV, FaultServer

Endpoint = Callable[..., EndpointParams]


def ask(endpoint: EndpointParams) -> Reply:
    return Client(endpoint).chat([{"role": "user", "content": "2 + 3?"}], max_tokens=50, temperature=0.6, seed=4)


def test_a_chat_request_and_its_reply(server: FaultServer, endpoint: Endpoint) -> None:
    reply = Client(endpoint()).chat(
        [{"role": "user", "content": "2 + 3?"}],
        max_tokens=50,
        temperature=0.0,
        response_format={"type": "json_object"},
        extra={"continue_final_message": True},
    )
    assert (reply.text, reply.reasoning, reply.finish) == ("So \\boxed{5}.", "2 + 3 = 5\n", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens, reply.model) == (7, 11, "served-1")
    (request,) = server.requests
    assert (request["path"], request["key"]) == ("/v1/chat/completions", f"Bearer {CANARY}")
    assert request["body"] == {
        "model": "big-one",
        "messages": [{"role": "user", "content": "2 + 3?"}],
        "max_tokens": 50,
        "temperature": 0.0,
        "response_format": {"type": "json_object"},
        "continue_final_message": True,
    }


def test_a_completion_request(server: FaultServer, endpoint: Endpoint) -> None:
    reply = Client(endpoint()).complete("2 + 3?", max_tokens=5, temperature=1.0, seed=4, stop=["\n\n"])
    assert reply.text == "2 + 3 = 5\n</think>So \\boxed{5}."
    (request,) = server.requests
    assert request["path"] == "/v1/completions"
    assert request["body"] == {
        "model": "big-one",
        "prompt": "2 + 3?",
        "max_tokens": 5,
        "temperature": 1.0,
        "seed": 4,
        "stop": ["\n\n"],
    }


PASSING: list[dict[str, Any]] = [
    {"status": 429, "body": '{"error": {"message": "slow down"}}'},
    {"status": 408},
    {"status": 500, "body": "<html>no</html>"},
    {"status": 502},
    {"status": 503, "body": "busy"},
    {"status": 504},
    {"sleep": 1.5},
    {"drop": True},
    {"raw": '{"choices": [{"mess'},
    {"raw": "<html>a proxy's page</html>"},
    {"raw": '{"choices": []}'},
    {"raw": '{"error": {"message": "upstream is down"}}'},
    {"finish": "insufficient_system_resource"},
    {"choice": {"message": {"content": None}}},
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: json.dumps(fault)[:40])
def test_what_passes_is_tried_again(server: FaultServer, endpoint: Endpoint, fault: dict[str, Any]) -> None:
    server.plan(fault)
    assert ask(endpoint(timeout_seconds=0.5)).text == "So \\boxed{5}."
    first, second = server.requests
    assert first["body"] == second["body"]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: json.dumps(fault)[:40])
def test_what_does_not_pass_ends_after_the_attempts(
    server: FaultServer, endpoint: Endpoint, fault: dict[str, Any]
) -> None:
    server.plan({**fault, "times": -1})
    with pytest.raises(MissingPrerequisite, match=r"'big-one' at http://127.* gave no reply in 2 tries"):
        ask(endpoint(timeout_seconds=0.2, attempts=2))
    assert len(server.requests) == 2


def test_no_server_at_all(endpoint: Endpoint) -> None:
    with pytest.raises(MissingPrerequisite, match="refused"):
        ask(endpoint(base_url="http://127.0.0.1:1/v1", attempts=2))


@pytest.mark.parametrize("as_date", [False, True])
def test_the_wait_that_the_server_asks_for_is_kept(server: FaultServer, endpoint: Endpoint, as_date: bool) -> None:
    value = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "0.7"
    server.plan({"status": 429, "headers": {"Retry-After": value}})
    ask(endpoint())
    first, second = (request["time"] for request in server.requests)
    assert 0.7 <= second - first < 4


def test_a_wait_of_an_hour_is_not_waited_for(server: FaultServer, endpoint: Endpoint) -> None:
    server.plan({"status": 429, "headers": {"Retry-After": "3600"}})
    started = time.time()
    with pytest.raises(MissingPrerequisite, match="asks to wait 3600 s"):
        ask(endpoint())
    assert time.time() - started < 5


def test_waits_double_and_spread() -> None:
    waits = [[wait_seconds(2.0, attempt, f"request {n}", None) for n in range(200)] for attempt in (1, 2, 3)]
    for centre, drawn in zip((2.0, 4.0, 8.0), waits, strict=True):
        assert centre * 0.75 <= min(drawn) < centre * 0.8
        assert centre * 1.2 < max(drawn) <= centre * 1.25
        assert len(set(drawn)) == 200
    assert waits[0][0] == wait_seconds(2.0, 1, "request 0", None)
    assert wait_seconds(2.0, 60, "x", None) <= LONGEST_WAIT * 1.25
    assert 30.0 < wait_seconds(2.0, 1, "x", 30.0) < 30.3
    assert wait_seconds(100.0, 1, "x", 1.0) == wait_seconds(100.0, 1, "x", None)


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-4", 0.0), ("soon", None), ("", None), ("nan", None)]
)
def test_readable_waits(value: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": value}) == seconds


FINAL: list[tuple[dict[str, Any], type[R2AError], str]] = [
    ({"status": 401, "body": f"key {CANARY}"}, MissingPrerequisite, KEY_ENV),
    ({"status": 403, "body": '{"error": {"message": "not you"}}'}, MissingPrerequisite, "not you"),
    ({"status": 402, "body": '{"error": {"message": "Insufficient Balance"}}'}, MissingPrerequisite, "no money left"),
    ({"status": 429, "body": '{"error": {"code": "insufficient_quota"}}'}, MissingPrerequisite, "no money left"),
    ({"status": 404, "body": '{"error": {"message": "no such model"}}'}, R2AError, "'big-one' at http.*no such model"),
    ({"status": 400, "body": '{"error": {"message": "max_tokens is too large"}}'}, R2AError, "max_tokens is too large"),
    ({"status": 400, "body": json.dumps({"error": {"message": f"your key {CANARY}"}})}, R2AError, r"your key \[key\]"),
    ({"status": 422, "body": '{"detail": "Unexpected fields"}'}, R2AError, "Unexpected fields"),
    ({"status": 413, "body": "<html>"}, R2AError, "HTTP 413"),
]


@pytest.mark.parametrize(("fault", "kind", "says"), FINAL, ids=lambda value: str(value)[:30])
def test_what_cannot_pass_ends_at_once(
    server: FaultServer, endpoint: Endpoint, fault: dict[str, Any], kind: type[R2AError], says: str
) -> None:
    server.plan({**fault, "times": -1})
    with pytest.raises(R2AError, match=says) as caught:
        ask(endpoint())
    assert caught.type is kind
    assert caught.value.hint
    assert CANARY not in str(caught.value)
    assert len(server.requests) == 1


def test_a_refused_key_names_its_variable_only(
    server: FaultServer, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    server.plan(key="another")  # the server tells the key back in its error
    caplog.set_level(logging.DEBUG)
    with pytest.raises(MissingPrerequisite, match=f"environment variable {KEY_ENV}") as caught:
        ask(endpoint())
    assert caught.value.exit_code == 3
    server.plan({"status": 503, "body": f"told back: {CANARY}"})
    ask(endpoint())
    assert CANARY not in str(caught.value) + repr(caught.value) + caplog.text
    assert "told back: [key]" in caplog.text


def test_no_key_of_the_environment_is_sent_unasked(
    server: FaultServer, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-private")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    ask(endpoint(key_env=None))
    assert "private" not in json.dumps(server.requests)


def test_a_missing_key_stops_before_any_request(
    server: FaultServer, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_ENV)
    with pytest.raises(MissingPrerequisite, match=KEY_ENV):
        ask(endpoint())
    assert server.requests == []


def test_text_that_no_file_takes_is_mended(server: FaultServer, endpoint: Endpoint) -> None:
    server.plan({"raw": '{"choices": [{"message": {"content": "a\\ud800b\\ud83d\\ude00"}, "finish_reason": "stop"}]}'})
    assert ask(endpoint()).text == "a�b😀"
