"""Which failures of a request are worth another try, how long to wait before it, and the sentences for the others.

Requests to an OpenAI-compatible server: models too large for this machine, and judges.

messages or a prompt -> Reply. What fails for a time (429, 5xx, timeouts, broken connections, half replies) is tried
again with growing waits; what cannot succeed ends at once in a sentence. `ask_all` sends many requests at a time and
keeps each reply in the work store, so that a run that was stopped asks and pays for nothing twice.
"""

import email.utils
import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from r2a_core.config import EndpointParams
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.shards import WorkStore
from r2a_core.openai_api.reply import Reply, ReplyError, chat_reply, completion_reply, server_sentence

AGAIN = (408, 409, 425, 429)  # with every status from 500 on

NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")

LONGEST_WAIT = 600.0  # seconds


@dataclass(frozen=True)
class RetryableError:
    """A try that failed and may succeed later."""

    reason: str
    retry_after: float | None = None  # seconds that the server asks for


def wait_seconds(backoff: float, attempt: int, request: str, retry_after: float | None) -> float:
    """Seconds between the try number `attempt` (from 1 on) and the next.

    Doubled with each try; between 75% and 125% of that by a number drawn from the request, so that requests that failed
    together do not return together. Never sooner than the server asks.
    """
    digest = hashlib.blake2b(f"{request}\0{attempt}".encode(), digest_size=8).digest()
    spread = 0.75 + 0.5 * int.from_bytes(digest, "big") / 2**64
    own = min(backoff * 2 ** (attempt - 1), LONGEST_WAIT) * spread
    return own if retry_after is None else max(own, retry_after + own / 10)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply's Retry-After asks for, given as a number or as a date; None without a readable one."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, IndexError):
            return None
    return max(seconds, 0.0) if seconds == seconds else None


def failure_of(status: int, headers: Mapping[str, str], body: str, endpoint: EndpointParams) -> RetryableError:
    """A failure to be tried again, for the HTTP status of an error. Raises the error itself where that is no use.

    `body` holds no key. Errors: MissingPrerequisite for a refused key, no money left, or a longer wait than sensible;
    R2AError for a model that the server lacks and for what it takes for a bad request.
    """
    sentence = error_sentence(body)
    told = f": {sentence}" if sentence else ""
    where = f"the model {endpoint.model!r} at {endpoint.base_url}"
    if status in (401, 403):
        key = f"check the key in the environment variable {endpoint.key_env}"
        way_out = key if endpoint.key_env else "name the environment variable of a key in key_env"
        raise MissingPrerequisite(f"{endpoint.base_url} refuses access (HTTP {status}){told}", way_out)
    if status == 402 or (status == 429 and any(word in body for word in NO_MONEY)):
        raise MissingPrerequisite(f"the account at {endpoint.base_url} has no money left{told}", "top it up")
    if status == 404:
        raise R2AError(f"{where} was not found (HTTP 404){told}", "check `model` and `base_url` (often it ends in /v1)")
    if status < 500 and status not in AGAIN:
        raise R2AError(f"{where} does not take the request (HTTP {status}){told}", "correct what the server names")
    retry_after = retry_after_seconds(headers)
    if retry_after is not None and retry_after > LONGEST_WAIT:
        raise MissingPrerequisite(
            f"{where} asks to wait {retry_after:.0f} s before the next request{told}", "run again after that time"
        )
    return RetryableError(f"HTTP {status}{told}", retry_after)


def error_sentence(body: str) -> str:
    """The server's sentence in the body of an error, JSON or not."""
    try:
        return server_sentence(json.loads(body))
    except ValueError:
        return "" if body.lstrip().startswith("<") else server_sentence(body)


def redact(value: Any, key: str | None) -> Any:
    """`value` (JSON-able) without the key and without lone surrogates, which no UTF-8 file and no tokenizer takes."""
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace(key, "[key]") if key else whole
    if isinstance(value, Mapping):
        return {redact(name, key): redact(inner, key) for name, inner in value.items()}
    if isinstance(value, list):
        return [redact(inner, key) for inner in value]
    return value


__all__ = ["Client", "Reply", "Request", "ask_all", "progress_log"]

log = logging.getLogger(__name__)

REPLY_SUFFIX = ".reply.json"

PROGRESS_LINES = 20  # in a log

LISTEN_SECONDS = 0.5  # an interrupt that another thread gets is noticed after this time

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
        self.stopping = threading.Event()  # set: no further try, in any thread
        self._key = endpoint.key()
        nothing = openai.Omit()
        self._openai = openai.OpenAI(
            api_key=self._key or "none",  # never one from the environment that is not named
            base_url=endpoint.base_url,
            timeout=endpoint.timeout_seconds,
            max_retries=0,
            default_headers={"OpenAI-Organization": nothing, "OpenAI-Project": nothing},  # type: ignore[dict-item]
            http_client=openai.DefaultHttpxClient(trust_env=not endpoint.is_local),  # no proxy to this machine
        )

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
        """The model's next message. What is None is not sent; extra: fields that only some servers know."""
        body = {
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "response_format": None if response_format is None else dict(response_format),
        }
        return self._ask(self._openai.chat.completions.with_raw_response.create, body, extra, chat_reply)

    def complete(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float | None,
        seed: int | None = None,
        stop: Sequence[str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Reply:
        """The bare continuation of a prompt."""
        body = {
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed,
            "stop": None if stop is None else list(stop),
        }
        return self._ask(self._openai.completions.with_raw_response.create, body, extra, completion_reply)

    def _ask(self, create: Callable[..., Any], body: dict[str, Any], extra: Any, read: Callable[[Any], Reply]) -> Reply:
        """The reply to one request, tried up to endpoint.attempts times.

        Raises MissingPrerequisite when the last try failed too, and the errors of `failure_of`.
        """
        body = {"model": self.endpoint.model} | {name: value for name, value in body.items() if value is not None}
        name = json.dumps([body, dict(extra or {})], sort_keys=True)
        failure = RetryableError("stopped before the first try")
        for attempt in range(1, self.endpoint.attempts + 1):
            answer = self._try(create, body, extra, read)
            if isinstance(answer, Reply):
                return answer
            failure = answer
            if attempt < self.endpoint.attempts:
                wait = wait_seconds(self.endpoint.backoff_seconds, attempt, name, failure.retry_after)
                log.info("%s: %s; next try in %.1f s", self.endpoint.model, failure.reason, wait)
                if self.stopping.wait(wait):
                    break
        raise MissingPrerequisite(
            f"the model {self.endpoint.model!r} at {self.endpoint.base_url} gave no reply in {attempt} tries; "
            f"the last one: {failure.reason}",
            "check that the server runs; a slow one needs a larger timeout_seconds, a busy one less concurrency",
        )

    def _try(
        self, create: Callable[..., Any], body: dict[str, Any], extra: Any, read: Callable[[Any], Reply]
    ) -> Reply | RetryableError:
        import openai

        try:
            content = create(**body, extra_body=None if extra is None else dict(extra)).http_response.content
        except openai.APIStatusError as error:
            told = redact(error.response.text, self._key)
            return failure_of(error.status_code, error.response.headers, told, self.endpoint)
        except openai.APITimeoutError:
            return RetryableError(f"no word for {self.endpoint.timeout_seconds:g} s")
        except openai.APIConnectionError as error:
            return RetryableError(redact(f"{error} ({error.__cause__})", self._key))
        try:
            return read(redact(json.loads(content), self._key))
        except ValueError:
            return RetryableError("a reply that is no JSON")
        except ReplyError as problem:
            return RetryableError(str(problem))


@dataclass(frozen=True)
class Request:
    """One question to a server. Equal fingerprints mean equal requests: one of them is sent."""

    fingerprint: str  # of all that the reply depends on
    ask: Callable[[Client], Reply]


def ask_all(
    client: Client,
    requests: Sequence[Request],
    store: WorkStore,
    concurrency: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Reply]:
    """Replies in the order of `requests`, from the store or asked now, `concurrency` (the endpoint's) at a time.

    Each reply is kept as <fingerprint>.reply.json once it is there. progress(done, total) follows each new one. When a
    request fails for good, no further one is sent, those under way are waited for and kept, and the error is raised.
    """
    wanted = {request.fingerprint: request for request in requests}
    missing = [request for print_, request in wanted.items() if not store.has(print_, REPLY_SUFFIX)]
    workers = Workers(client, missing, store)
    done = len(wanted) - len(missing)
    for failure in workers.outcomes(min(concurrency or client.endpoint.concurrency, len(missing))):
        if failure is None:
            done += 1
            if progress is not None:
                progress(done, len(wanted))
    first = workers.first_failure
    if isinstance(first, R2AError):
        raise type(first)(
            f"{first.message}; {done} of {len(wanted)} replies are there and kept", f"{first.hint}; then run again"
        ) from None
    if first is not None:
        raise first
    return [load_reply(store, request.fingerprint) for request in requests]


def progress_log(name: str) -> Callable[[int, int], None]:
    """A `progress` that logs about PROGRESS_LINES lines under `name`."""

    def tell(done: int, total: int) -> None:
        if done == total or done % max(1, total // PROGRESS_LINES) == 0:
            log.info("%s: %d of %d replies", name, done, total)

    return tell


class Workers:
    """Threads that send requests and keep the replies. They are daemons: an interrupted run waits for no server."""

    def __init__(self, client: Client, requests: Sequence[Request], store: WorkStore) -> None:
        self.client, self.store, self.waiting = client, store, deque(requests)
        self.told: SimpleQueue[Exception | str | None] = SimpleQueue()  # None = a reply is kept; "" = a thread ended
        self.first_failure: Exception | None = None
        self.lock = threading.Lock()

    def outcomes(self, count: int) -> Iterator[Exception | None]:
        """What came of each request that was sent, as it comes: None or why it failed. `count` threads."""
        for _ in range(count):
            threading.Thread(target=self.work, daemon=True).start()
        running = count
        while running:
            try:
                outcome = self.told.get(timeout=LISTEN_SECONDS)
            except Empty:
                continue
            if isinstance(outcome, str):
                running -= 1
            else:
                yield outcome

    def work(self) -> None:
        """Sends requests until there are none left or one failed for good."""
        while self.waiting and not self.client.stopping.is_set():
            try:
                request = self.waiting.popleft()
            except IndexError:  # another thread was quicker
                break
            try:
                store_reply(self.store, request.fingerprint, request.ask(self.client))
                self.told.put(None)
            except Exception as error:
                with self.lock:
                    self.first_failure = self.first_failure or error
                self.client.stopping.set()
                self.told.put(error)
        self.told.put("")


def store_reply(store: WorkStore, print_: str, reply: Reply) -> None:
    """Writes a reply into the store."""
    text = json.dumps(reply.to_json(), ensure_ascii=False, sort_keys=True, indent=1) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    store.shard(print_, REPLY_SUFFIX, write)


def load_reply(store: WorkStore, print_: str) -> Reply:
    """A reply of the store. Raises R2AError when its file is damaged."""

    def absent(path: Path) -> None:
        raise R2AError(f"{path} went away while it was needed", "run again")

    path = store.shard(print_, REPLY_SUFFIX, absent)
    return Reply(**json.loads(path.read_text(encoding="utf-8")))
