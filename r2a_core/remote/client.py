"""Requests to an OpenAI-compatible server: models too large for this machine, and judges.

messages or a prompt -> Reply. What fails for a time (429, 5xx, timeouts, broken connections, half replies) is tried
again with growing waits; what cannot succeed ends at once in a sentence. `ask_all` sends many requests at a time and
keeps each reply in the work store, so that a run that was stopped asks and pays for nothing twice.
"""

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from r2a_core.errors import MissingPrerequisite, R2AError
from r2a_core.remote.endpoint import EndpointParams
from r2a_core.remote.reply import BadReply, Reply, chat_reply, completion_reply
from r2a_core.remote.retries import Failure, cleaned, failure_of, wait_seconds
from r2a_core.store import WorkStore

__all__ = ["Client", "EndpointParams", "Reply", "Request", "ask_all", "progress_log"]
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
        failure = Failure("stopped before the first try")
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
    ) -> Reply | Failure:
        import openai

        try:
            content = create(**body, extra_body=None if extra is None else dict(extra)).http_response.content
        except openai.APIStatusError as error:
            told = cleaned(error.response.text, self._key)
            return failure_of(error.status_code, error.response.headers, told, self.endpoint)
        except openai.APITimeoutError:
            return Failure(f"no word for {self.endpoint.timeout_seconds:g} s")
        except openai.APIConnectionError as error:
            return Failure(cleaned(f"{error} ({error.__cause__})", self._key))
        try:
            return read(cleaned(json.loads(content), self._key))
        except ValueError:
            return Failure("a reply that is no JSON")
        except BadReply as problem:
            return Failure(str(problem))


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
    return [kept_reply(store, request.fingerprint) for request in requests]


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
                keep(self.store, request.fingerprint, request.ask(self.client))
                self.told.put(None)
            except Exception as error:
                with self.lock:
                    self.first_failure = self.first_failure or error
                self.client.stopping.set()
                self.told.put(error)
        self.told.put("")


def keep(store: WorkStore, print_: str, reply: Reply) -> None:
    """Writes a reply into the store."""
    text = json.dumps(reply.to_json(), ensure_ascii=False, sort_keys=True, indent=1) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    store.shard(print_, REPLY_SUFFIX, write)


def kept_reply(store: WorkStore, print_: str) -> Reply:
    """A reply of the store. Raises R2AError when its file is damaged."""

    def absent(path: Path) -> None:
        raise R2AError(f"{path} went away while it was needed", "run again")

    path = store.shard(print_, REPLY_SUFFIX, absent)
    return Reply(**json.loads(path.read_text(encoding="utf-8")))
