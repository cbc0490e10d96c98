"""OpenAI-compatible servers of models and judges: address, key, prices, and how a model is asked."""

import ipaddress
import os
import re
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from r2a_core.config.values import Count, NonNegative, Positive, Record, Text, refused
from r2a_core.infra.errors import MissingPrerequisite

MILLION = 10**6  # tokens a price is for


class EndpointParams(Record):
    """An OpenAI-compatible server and how requests are sent. Unsafe or malformed addresses are refused."""

    base_url: Text  # up to and with /v1, say
    model: Text  # as the server names it
    key_env: Text | None  # environment variable that holds the key; null = the server wants none
    timeout_seconds: Positive  # s, longest wait for one reply
    concurrency: Count  # requests at a time
    attempts: Count  # tries of one request
    prompt_price: NonNegative | None = None  # money per million tokens; null = unknown
    completion_price: NonNegative | None = None  # money per million tokens, reasoning included

    @field_validator("base_url")
    @classmethod
    def plain_address(cls, base_url: str) -> str:
        """Refuses what is not an http(s) address, or holds a login or a query."""
        try:
            parts = urlsplit(base_url)
            plain = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        except ValueError:  # half a bracket
            plain = False
        if not plain or "@" in base_url:
            raise refused(
                "is no plain http(s) address",
                "for example https://api.deepseek.com or http://127.0.0.1:8000/v1; keys belong in the environment",
            )
        return base_url

    @field_validator("key_env")
    @classmethod
    def variable_name(cls, key_env: str | None) -> str | None:
        """Refuses what may be the key itself."""
        if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", key_env):
            raise refused(
                "is not the name of an environment variable",
                "give the variable's name, such as DEEPSEEK_API_KEY; a key itself belongs in no file",
            )
        return key_env

    @model_validator(mode="after")
    def encrypted_key(self) -> Self:
        """Refuses to send a key over http to another machine."""
        if self.key_env is not None and self.base_url.startswith("http:") and not self.is_local:
            raise refused(
                f"would send the key of {self.key_env} to {self.base_url} over unencrypted http",
                "use https, or a tunnel to 127.0.0.1 (ssh -L 8000:localhost:8000 HOST)",
            )
        return self

    @property
    def is_local(self) -> bool:
        """Checks whether the server is on this machine."""
        host = str(urlsplit(self.base_url).hostname)
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def key(self) -> str | None:
        """Returns the key. Raises MissingPrerequisite when the variable is absent or holds none."""
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
        """Returns the cost of so many tokens; None where a price or a count is unknown."""
        if self.prompt_price is None or self.completion_price is None or prompt_tokens is None:
            return None
        if completion_tokens is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / MILLION


class ServedModel(Record):
    """A model that runs elsewhere.

    Api `completions` sends the study's own prompt and takes the bare continuation. Api `chat` sends question and
    instruction as the user's message and leaves the rest to the server's chat template; a response without reasoning
    then needs a server that continues an assistant's message, and `continues` tells how it is asked to.
    """

    endpoint: EndpointParams
    api: Literal["completions", "chat"]
    send_bos: bool  # completions: the prompt's BOS as text; false where the server puts it in by itself
    # chat: `prefix: true` in the message (DeepSeek) | continue_final_message (vLLM, SGLang) | last_message: an
    # assistant's message at the end is continued anyway (OpenRouter) | null: the server cannot
    continues: Literal["prefix", "continue_final_message", "last_message"] | None
    send_seed: bool  # a seed drawn from generate.seed, item and run; false where the server refuses the field
    max_tokens: Count | None  # tokens of a response; null = generate.max_new_tokens
