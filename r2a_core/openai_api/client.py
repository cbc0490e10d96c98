"""Requests to an OpenAI-compatible server: models too large for this machine, and judges.

messages or a prompt -> Reply. The OpenAI SDK retries what may pass later (408, 409, 429, 5xx, timeouts, broken
connections) with growing, jittered waits or the server's Retry-After; a reply that cannot be used is asked for again at
once. Errors that no retry mends end in a sentence.

A server may be hostile: one try is bounded in time and size (openai_api.bounded_http), no redirect is followed, and
what cannot be stored and read again is no reply.
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import Any

from r2a_core.config import EndpointParams
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.openai_api.bounded_http import bounded_http
from r2a_core.openai_api.reply import Reply, ReplyError, chat_reply, completion_reply, plain, server_sentence

log = logging.getLogger(__name__)


MOST_DEPTH = 100  # of lists and objects in a reply

NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")

CHATTY = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")  # loggers that name every request


class Client:
    """One endpoint, safe to use from several threads. Raises MissingPrerequisite without its key or `openai`."""

    def __init__(self, endpoint: EndpointParams) -> None:
        try:
            import openai
        except ImportError:
            raise MissingPrerequisite("the package openai is not installed", "pip install '.[api]'") from None
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self.endpoint = endpoint
        self._key = endpoint.key()
        nothing = openai.Omit()
        headers = {"OpenAI-Organization": nothing, "OpenAI-Project": nothing, "Accept-Encoding": "identity"}
        self._openai = openai.AsyncOpenAI(
            api_key=self._key or "none",  # never one from the environment that is not named
            base_url=endpoint.base_url,
            timeout=None,  # see bounded_http
            default_headers=headers,  # type: ignore[arg-type]
            http_client=bounded_http(endpoint),
        )
        self._loop = asyncio.new_event_loop()
        Thread(target=self._loop.run_forever, daemon=True).start()

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_tokens: int,
        temperature: float | None,
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Returns the model's next message. What is None is not sent; extra: fields that only some servers know."""
        body = {
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "response_format": None if response_format is None else dict(response_format),
        }
        return self._ask("chat", body, extra)

    def complete(self, prompt: str, *, max_tokens: int, temperature: float | None, seed: int | None = None) -> Reply:
        """Returns the bare continuation of a prompt."""
        body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        return self._ask("completions", body, None)

    def _ask(self, api: str, body: Mapping[str, Any], extra: Mapping[str, Any] | None) -> Reply:
        """Returns the reply to one request, tried up to endpoint.attempts times in all.

        Raises MissingPrerequisite when the last try failed too, and the errors of `status_error`.
        """
        import openai

        sent = {"model": self.endpoint.model} | {name: value for name, value in body.items() if value is not None}
        left, reason = self.endpoint.attempts, ""
        while left > 0:
            tries = self._openai.with_options(max_retries=left - 1)
            create: Any = (tries.chat.completions if api == "chat" else tries.completions).with_raw_response.create
            sending = create(**sent, extra_body=None if extra is None else dict(extra))
            try:
                response = asyncio.run_coroutine_threadsafe(sending, self._loop).result()
            except openai.APIStatusError as error:
                raise status_error(error.status_code, error.response.headers, error.response.text, self) from None
            except openai.APITimeoutError:
                said = f"no whole reply in {self.endpoint.timeout_seconds:g} s"
                raise no_reply(self.endpoint, said) from None
            except openai.APIConnectionError as error:
                raise no_reply(self.endpoint, self.redact(first_cause(error))) from None
            left -= 1 + response.retries_taken
            try:
                raw = self.redact(json.loads(response.http_response.content))
                return chat_reply(raw) if api == "chat" else completion_reply(raw)
            except (ValueError, RecursionError):
                reason = "a reply that is no JSON"
            except ReplyError as problem:
                reason = str(problem)
            log.info("%s: %s", self.endpoint.model, reason)
        raise no_reply(self.endpoint, reason)

    def redact(self, value: Any) -> Any:
        """Removes the key and lone surrogates, see `redact`."""
        return redact(value, self._key, MOST_DEPTH)


def first_cause(error: BaseException) -> str:
    """Returns the message of the error that the others were raised from, or from which they hid it."""
    before = error.__cause__ or error.__context__
    return (first_cause(before) if before else "") or str(error)


def no_reply(endpoint: EndpointParams, reason: str) -> MissingPrerequisite:
    """Returns the error after the last try."""
    return MissingPrerequisite(
        f"the model {endpoint.model!r} at {endpoint.base_url} gave no reply in {endpoint.attempts} tries; "
        f"the last one: {reason}",
        "check that the server runs; a slow one needs a larger timeout_seconds, a busy one less concurrency",
    )


def status_error(status: int, headers: Mapping[str, str], body: str, client: Client) -> R2AError:
    """Returns the error for an HTTP status that was not retried, or not mended by it.

    MissingPrerequisite for a refused key, no money left and a server that stays busy; R2AError for a redirect, a model
    that the server lacks and for what it takes for a bad request.
    """
    endpoint = client.endpoint
    sentence = client.redact(error_sentence(body))
    said = f": {sentence}" if sentence else ""
    where = f"the model {endpoint.model!r} at {endpoint.base_url}"
    if status < 400:
        target = client.redact(plain(headers.get("location") or "no address"))
        hint = "if you trust that address, name it in base_url"
        return R2AError(f"{endpoint.base_url} redirects to {target} (HTTP {status}); redirects are not followed", hint)
    if status in (401, 403):
        key = f"check the key in the environment variable {endpoint.key_env}"
        hint = key if endpoint.key_env else "name the environment variable of a key in key_env"
        return MissingPrerequisite(f"{endpoint.base_url} refuses access (HTTP {status}){said}", hint)
    if status == 402 or (status == 429 and any(word in body for word in NO_MONEY)):
        return MissingPrerequisite(f"the account at {endpoint.base_url} has no money left{said}", "top it up")
    if status == 404:
        hint = "check `model` and `base_url` (often it ends in /v1)"
        return R2AError(f"{where} was not found (HTTP 404){said}", hint)
    if status < 500 and status not in (408, 409, 429):
        return R2AError(f"{where} does not take the request (HTTP {status}){said}", "correct what the server names")
    retry_after = client.redact(plain(headers.get("retry-after") or ""))
    wait = f", Retry-After {retry_after}" if retry_after else ""
    return no_reply(endpoint, f"HTTP {status}{wait}{said}")


def error_sentence(body: str) -> str:
    """Returns the server's sentence in the body of an error, JSON or not."""
    try:
        return server_sentence(json.loads(body))
    except (ValueError, RecursionError):
        return "" if body.lstrip().startswith("<") else server_sentence(body)


def redact(value: Any, key: str | None, depth: int) -> Any:
    """Removes the key and lone surrogates, which no UTF-8 file and no tokenizer takes, from a JSON-able value.

    Raises ReplyError for lists and objects nested more than `depth` deep, which not every reader takes.
    """
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace(key, "[key]") if key else whole
    if isinstance(value, (dict, list)) and depth == 0:
        raise ReplyError(f"a reply nested more than {MOST_DEPTH} deep")
    if isinstance(value, dict):
        return {redact(name, key, depth): redact(inner, key, depth - 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner, key, depth - 1) for inner in value]
    return value
