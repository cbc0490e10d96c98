"""Which failures of a request are worth another try, how long to wait before it, and the sentences for the others."""

import email.utils
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r2a_core.errors import MissingPrerequisite, R2AError
from r2a_core.remote.endpoint import EndpointParams
from r2a_core.remote.reply import server_sentence

AGAIN = (408, 409, 425, 429)  # with every status from 500 on
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
LONGEST_WAIT = 600.0  # seconds


@dataclass(frozen=True)
class Failure:
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


def failure_of(status: int, headers: Mapping[str, str], body: str, endpoint: EndpointParams) -> Failure:
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
    return Failure(f"HTTP {status}{told}", retry_after)


def error_sentence(body: str) -> str:
    """The server's sentence in the body of an error, JSON or not."""
    try:
        return server_sentence(json.loads(body))
    except ValueError:
        return "" if body.lstrip().startswith("<") else server_sentence(body)


def cleaned(value: Any, key: str | None) -> Any:
    """`value` (JSON-able) without the key and without lone surrogates, which no UTF-8 file and no tokenizer takes."""
    if isinstance(value, str):
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace(key, "[key]") if key else whole
    if isinstance(value, Mapping):
        return {cleaned(name, key): cleaned(inner, key) for name, inner in value.items()}
    if isinstance(value, list):
        return [cleaned(inner, key) for inner in value]
    return value
