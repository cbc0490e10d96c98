"""How a model behind an OpenAI-compatible endpoint is asked for a response: part of `models` in params.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from r2a_core.remote.endpoint import EndpointParams


@dataclass(frozen=True)
class ServedModel:
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
    max_tokens: Annotated[int, Field(gt=0)] | None  # tokens of a response; null = generate.max_new_tokens
