"""The client against a server that fails: what is retried, and how it gives up."""

import json
import logging
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import EndpointParams
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.openai_api.client import Client
from r2a_core.openai_api.reply import Reply
from tests.servers import CANARY, KEY_ENV, FaultServer

Endpoint = Callable[..., EndpointParams]
FAULTS = json.loads(
    Path(__file__)
    .with_name("faults.json")
    .read_text(encoding="utf-8")
    .replace("{key}", CANARY)
    .replace("{escaped key}", "\\\\u0073" + CANARY[1:])
)
LONG = {  # what faults.json names instead of holding it
    "a megabyte, a thousand times": "x" * 2**20,
    "deep, unreadable": "[" * 100_000,
    "deep, readable": json.dumps({"choices": [{"message": {"content": "x"}}], "deep": 0}).replace(
        "0}", "[" * 500 + "]" * 500 + "}"
    ),
}


def ask(endpoint: EndpointParams) -> Reply:
    return Client(endpoint).chat([{"role": "user", "content": "2 + 3?"}], max_tokens=50, temperature=0.6, seed=4)


def with_long_texts(fault: dict[str, Any]) -> dict[str, Any]:
    return {name: LONG.get(str(value), value) for name, value in fault.items()}


def test_requests_and_their_replies(server: FaultServer, endpoint: Endpoint) -> None:
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
    server.plan({"raw": '{"choices": [{"message": {"content": "a\\ud800b\\ud83d\\ude00"}, "finish_reason": "stop"}]}'})
    assert ask(endpoint()).text == "a�b😀"  # half a character, that no file takes, is mended
    server.plan()
    reply = Client(endpoint()).complete("2 + 3?", max_tokens=5, temperature=1.0, seed=4)
    assert reply.text == "2 + 3 = 5\n</think>So \\boxed{5}."
    (request,) = server.requests
    assert request["path"] == "/v1/completions"
    assert request["body"] == {"model": "big-one", "prompt": "2 + 3?", "max_tokens": 5, "temperature": 1.0, "seed": 4}


@pytest.mark.parametrize("fault", FAULTS["passing"], ids=lambda fault: json.dumps(fault)[:40])
def test_what_passes_is_tried_again_until_the_last_attempt(
    server: FaultServer, endpoint: Endpoint, fault: dict[str, Any]
) -> None:
    fault = with_long_texts(fault)
    server.plan(fault)
    assert ask(endpoint(timeout_seconds=0.5)).text == "So \\boxed{5}."
    first, second = server.requests
    assert first["body"] == second["body"]
    server.plan({**fault, "times": -1})
    tracemalloc.start()
    started = time.time()
    with pytest.raises(MissingPrerequisite, match=r"'big-one' at http://127.* gave no reply in 2 tries") as caught:
        ask(endpoint(timeout_seconds=0.2, attempts=2))
    assert time.time() - started < 10  # s; two tries, the wait between them, and a busy machine
    assert tracemalloc.get_traced_memory()[1] < 2**26  # bytes
    tracemalloc.stop()
    assert len(server.requests) == 2
    assert "\x1b" not in str(caught.value)


def test_a_short_wait_that_the_server_asks_for_is_kept_a_long_one_not(server: FaultServer, endpoint: Endpoint) -> None:
    server.plan({"status": 429, "headers": {"Retry-After": "1.5"}})
    ask(endpoint())
    first, second = (request["time"] for request in server.requests)
    assert 1.5 <= second - first < 6  # the client's own first wait is below 0.5 s
    server.plan({"status": 429, "headers": {"Retry-After": "3600"}, "times": -1})
    started = time.time()
    with pytest.raises(MissingPrerequisite, match="HTTP 429, Retry-After 3600"):
        ask(endpoint())
    assert time.time() - started < 5
    assert len(server.requests) == 1
    with pytest.raises(MissingPrerequisite, match="Connect call failed"):
        ask(endpoint(base_url="http://127.0.0.1:1/v1", attempts=2))


def test_tries_are_counted_across_all_faults(server: FaultServer, endpoint: Endpoint) -> None:
    server.plan({"status": 503}, {"raw": "no JSON"}, {"drop": True}, {"raw": "no JSON"})
    with pytest.raises(MissingPrerequisite, match="in 4 tries; the last one: a reply that is no JSON"):
        ask(endpoint(attempts=4))
    assert len(server.requests) == 4
    server.plan({"status": 503}, {"raw": "no JSON"}, {"drop": True}, {"raw": "no JSON"})
    assert ask(endpoint(attempts=5)).text == "So \\boxed{5}."


@pytest.mark.parametrize(("fault", "kind", "says"), FAULTS["final"], ids=lambda value: str(value)[:30])
def test_what_cannot_pass_ends_in_a_sentence(
    server: FaultServer, endpoint: Endpoint, fault: dict[str, Any], kind: str, says: str
) -> None:
    server.plan({**with_long_texts(fault), "times": -1})
    with pytest.raises(R2AError, match=says) as caught:
        ask(endpoint())
    assert caught.type.__name__ == kind
    assert caught.value.hint
    assert CANARY not in str(caught.value)
    assert len(server.requests) == (3 if fault["status"] == 429 else 1)


def test_a_refused_or_missing_key_names_its_variable_only(
    server: FaultServer, endpoint: Endpoint, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan(key="another")  # the server tells the key back in its error
    caplog.set_level(logging.DEBUG)
    with pytest.raises(MissingPrerequisite, match=f"environment variable {KEY_ENV}") as caught:
        ask(endpoint())
    assert caught.value.exit_code == 3
    server.plan({"status": 503, "body": f"told back: {CANARY}", "times": -1})
    with pytest.raises(MissingPrerequisite, match=r"told back: \[key\]") as busy:
        ask(endpoint(attempts=2))
    assert CANARY not in str(caught.value) + repr(caught.value) + str(busy.value) + caplog.text
    server.plan()
    monkeypatch.delenv(KEY_ENV)
    with pytest.raises(MissingPrerequisite, match=KEY_ENV):
        ask(endpoint())
    assert server.requests == []


def test_no_key_of_the_environment_is_sent_unasked(
    server: FaultServer, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-private")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    ask(endpoint(key_env=None))
    assert "private" not in json.dumps(server.requests)
