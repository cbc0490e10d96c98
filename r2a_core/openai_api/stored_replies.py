"""Many requests to one server, each answered once: replies are kept in the work store.

Client, Requests -> Replies, from <fingerprint>.reply.json or asked now, so that a run that was stopped asks and pays
for nothing twice.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from multiprocessing.pool import ThreadPool
from pathlib import Path

from r2a_core.infra.errors import R2AError
from r2a_core.infra.shards import WorkStore
from r2a_core.openai_api.client import Client
from r2a_core.openai_api.reply import Reply

log = logging.getLogger(__name__)

REPLY_SUFFIX = ".reply.json"

PROGRESS_LINES = 20  # in a log

LISTEN_SECONDS = 0.5  # the main thread notices an interrupt after this time


@dataclass(frozen=True)
class Request:
    """One question to a server. Equal fingerprints mean equal requests: one of them is sent."""

    fingerprint: str  # of all that the reply depends on
    ask: Callable[[Client], Reply]


def ask_all(client: Client, requests: Sequence[Request], store: WorkStore, name: str) -> list[Reply]:
    """Returns the replies in the order of `requests`, from the store or asked now, endpoint.concurrency at a time.

    Each reply is stored as <fingerprint>.reply.json as soon as it is there; progress is logged under `name`. When a
    request fails for good, no further one is sent, those under way are waited for and stored, and the error is raised.
    An interrupt waits for no server: the threads are daemons.
    """
    wanted = {request.fingerprint: request for request in requests}
    missing = [request for fingerprint, request in wanted.items() if not store.has(fingerprint, REPLY_SUFFIX)]
    failures: list[Exception] = []
    stored = count(len(wanted) - len(missing) + 1)

    def ask(request: Request) -> None:
        if failures:
            return
        try:
            store_reply(store, request.fingerprint, request.ask(client))
        except Exception as error:
            failures.append(error)
            return
        done = next(stored)
        if done == len(wanted) or done % max(1, len(wanted) // PROGRESS_LINES) == 0:
            log.info("%s: %d of %d replies", name, done, len(wanted))

    with ThreadPool(max(1, min(client.endpoint.concurrency, len(missing)))) as pool:
        asked = pool.map_async(ask, missing, chunksize=1)
        while not asked.ready():
            asked.wait(LISTEN_SECONDS)
    if not failures:
        return [load_reply(store, request.fingerprint) for request in requests]
    first = failures[0]
    if not isinstance(first, R2AError):
        raise first
    kept = sum(store.has(fingerprint, REPLY_SUFFIX) for fingerprint in wanted)
    raise type(first)(
        f"{first.message}; {kept} of {len(wanted)} replies are there and kept", f"{first.hint}; then run again"
    ) from None


def store_reply(store: WorkStore, fingerprint: str, reply: Reply) -> None:
    """Writes a reply into the store."""
    text = json.dumps(asdict(reply), ensure_ascii=False, sort_keys=True, indent=1) + "\n"

    def write(path: Path) -> None:
        path.write_text(text, encoding="utf-8")

    store.shard(fingerprint, REPLY_SUFFIX, write)


def load_reply(store: WorkStore, fingerprint: str) -> Reply:
    """Reads a stored reply. Raises R2AError when its file is damaged or gone."""

    def absent(path: Path) -> None:
        raise R2AError(f"{path} went away while it was needed", "run again")

    path = store.shard(fingerprint, REPLY_SUFFIX, absent)
    return Reply(**json.loads(path.read_text(encoding="utf-8")))
