"""Where a model or judge is served: one record of params.yaml, checked, without the key.

A key stays in the environment: the record holds the name of its variable only.
"""

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field

from r2a_core.errors import MissingPrerequisite, R2AError

MILLION = 10**6  # tokens a price is for


@dataclass(frozen=True)
class EndpointParams:
    """An OpenAI-compatible server and how it is asked. Raises R2AError for an address that is unsafe or is none."""

    base_url: str  # up to and with /v1, say
    model: str  # as the server names it
    key_env: str | None  # environment variable that holds the key; null = the server wants none
    timeout_seconds: Annotated[float, Field(gt=0)]  # longest silence of the server
    concurrency: Annotated[int, Field(gt=0)]  # requests at a time
    attempts: Annotated[int, Field(gt=0)]  # tries of one request
    backoff_seconds: Annotated[float, Field(ge=0)]  # wait after the first failure, doubled after each further one
    prompt_price: Annotated[float, Field(ge=0)] | None = None  # money per million tokens
    completion_price: Annotated[float, Field(ge=0)] | None = None  # money per million tokens, reasoning included

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.username is not None or parts.password is not None or "@" in self.base_url:
            raise R2AError(
                "params.yaml: a base_url holds a user name or password",
                "take it out, and give the key in the environment variable that key_env names",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise R2AError(
                f"params.yaml: the base_url {re.split('[?#]', self.base_url)[0]!r} is no plain http(s) address",
                "for example https://api.deepseek.com or http://127.0.0.1:8000/v1",
            )
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", self.key_env):
            raise R2AError(
                "params.yaml: a key_env is not the name of an environment variable",
                "give the variable's name, such as DEEPSEEK_API_KEY; a key itself belongs in no file",
            )
        if self.key_env is not None and parts.scheme == "http" and not is_loopback(parts.hostname):
            raise R2AError(
                f"params.yaml: {self.base_url} would get the key of {self.key_env} over unencrypted http",
                "use https, or a tunnel to 127.0.0.1 (ssh -L 8000:localhost:8000 HOST)",
            )

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(str(urlsplit(self.base_url).hostname))

    def key(self) -> str | None:
        """The key. Raises MissingPrerequisite when the variable is absent or holds none."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise MissingPrerequisite(
                f"the environment variable {self.key_env} is not set, {self.base_url} asks for a key",
                f"export {self.key_env}=... in the shell that runs dvc",
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise MissingPrerequisite(
                f"{self.key_env} holds characters that no key has", "set it to the key alone, without spaces"
            )
        return key

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Money for so many tokens; None where a price or a count is unknown."""
        known = (self.prompt_price, self.completion_price, prompt_tokens, completion_tokens)
        if any(value is None for value in known):
            return None
        prompt_price, completion_price, prompt, completion = known
        return (prompt * prompt_price + completion * completion_price) / MILLION  # type: ignore[operator]


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
