"""Responses of a model behind an OpenAI-compatible endpoint.

questions -> requests -> replies, each kept in the work store -> token ids by the built-in tokenizer. A reply is kept
under a fingerprint of its request alone, so that no edit of code and no change of prices buys it again.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from r2a_core.config import GenerateParams, ServedModel
from r2a_core.data.items import Item
from r2a_core.generation.decode import GenerationRequest
from r2a_core.generation.sampling import request_seed
from r2a_core.generation.usage import Usage, served_usage
from r2a_core.infra.errors import R2AError
from r2a_core.infra.shards import WorkStore, fingerprint
from r2a_core.openai_api.client import Client
from r2a_core.openai_api.reply import Reply
from r2a_core.openai_api.stored_replies import Request, ask_all
from r2a_core.prompt_texts import THINKING
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import Setting

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EndpointBackend:
    """A served model and what all its prompts share."""

    name: str
    served: ServedModel
    tokenizer: LoadedTokenizer
    setting: Setting
    instruction: str
    config: GenerateParams

    @cached_property
    def client(self) -> Client:
        return Client(self.served.endpoint)

    def respond(
        self, items: Sequence[Item], requests: Sequence[GenerationRequest], store: WorkStore
    ) -> tuple[list[tuple[int, ...]], Usage]:
        """Returns the token ids of one response per request, final EOS included, and what the server counted."""
        asked = [self.request(item, request) for item, request in zip(items, requests, strict=True)]
        replies = ask_all(self.client, asked, replace(store, environment=""), self.name)  # no upgrade pays twice
        usage = served_usage(replies, self.served)
        log.info("%s: %s", self.name, usage.sentence)
        return [self.response_ids(reply) for reply in replies], usage

    def request(self, item: Item, request: GenerationRequest) -> Request:
        """Returns what is sent for one response, and its fingerprint."""
        body = self.completions_body(request) if self.served.api == "completions" else self.chat_body(item)
        body |= {
            "max_tokens": self.served.max_tokens or self.config.max_new_tokens,
            "temperature": self.config.temperature,
        }
        if self.served.send_seed:
            body["seed"] = request_seed(self.config.seed, request.item_id, request.run)
        endpoint = self.served.endpoint
        digest = fingerprint(
            base_url=endpoint.base_url,
            model=endpoint.model,
            body=body,
            item=request.item_id,
            run=request.run,
            seed=self.config.seed,
        )
        ask = Client.complete if self.served.api == "completions" else Client.chat
        return Request(digest, lambda client: ask(client, **body))

    def completions_body(self, request: GenerationRequest) -> dict[str, Any]:
        """Returns the study's prompt as text."""
        ids = list(request.prompt_ids)
        if ids[:1] == [self.tokenizer.ids.bos]:
            del ids[0]
        bos = (self.tokenizer.tags.bos or "") if self.served.send_bos else ""
        return {"prompt": bos + self.tokenizer.hf.decode(ids, clean_up_tokenization_spaces=False)}

    def chat_body(self, item: Item) -> dict[str, Any]:
        """Returns the question as a message and, without reasoning, the closed thinking as the start of the answer."""
        messages: list[Mapping[str, Any]] = [{"role": "user", "content": f"{item.question}{self.instruction}"}]
        if self.setting == "with_reasoning":
            return {"messages": messages}
        check_continues(self.served, self.name, self.setting)
        tags = self.tokenizer.tags
        start: dict[str, Any] = {
            "role": "assistant",
            "content": f"{tags.think_open}{THINKING[self.config.without_mode]}{tags.think_close}",
        }
        if self.served.continues == "prefix":
            start["prefix"] = True
        body: dict[str, Any] = {"messages": [*messages, start]}
        if self.served.continues == "continue_final_message":
            body["extra"] = {"add_generation_prompt": False, "continue_final_message": True}
        return body

    def response_ids(self, reply: Reply) -> tuple[int, ...]:
        """Tokenises a reply as the continuation of the study's prompt, EOS included where the model ended."""
        ids = reply_ids(self.tokenizer, self.continuation(reply))
        if reply.finish == "stop" and (not ids or ids[-1] not in self.tokenizer.ids.ends):
            ids.append(self.tokenizer.ids.eos)
        return tuple(ids)

    def continuation(self, reply: Reply) -> str:
        """Returns the thinking, closing tag and answer, as far as the prompt does not hold them."""
        tags = self.tokenizer.tags
        if self.served.api == "completions":
            return reply.text
        thinking, closed = reply.reasoning, THINKING[self.config.without_mode].strip()
        if self.setting == "without_reasoning" and (thinking or "").strip() == closed:
            thinking = None  # the server gave the start of the answer back
        if thinking is not None:
            thinking = thinking.removeprefix("\n") if self.setting == "with_reasoning" else thinking
            return f"{thinking}{tags.think_close}{reply.text}" if reply.text else thinking
        opened = reply.text.lstrip()
        return opened.removeprefix(f"{tags.think_open}\n") if opened.startswith(tags.think_open) else reply.text


def reply_ids(tokenizer: LoadedTokenizer, content: str) -> list[int]:
    """Tokenises a reply: `</think>` and a final token that ends texts are tags, all else is plain text.

    Servers send no special tokens, so what spells one are words, unlike in a text imported from a file. White space
    behind the EOS is no part of a text.
    """
    stripped = content.rstrip()
    end = next((text for text in tokenizer.end_texts if stripped.endswith(text)), None)
    parts = (content if end is None else stripped.removesuffix(end)).split(tokenizer.tags.think_close)
    ids = plain_ids(tokenizer, parts[0])
    for part in parts[1:]:
        ids += [tokenizer.ids.think_close, *plain_ids(tokenizer, part)]
    return ids if end is None else [*ids, tokenizer.end_texts[end]]


def check_continues(served: ServedModel, name: str, setting: Setting) -> None:
    """Raises R2AError where the server has no way to answer without reasoning."""
    if served.api == "chat" and setting == "without_reasoning" and served.continues is None:
        raise R2AError(
            f"{name}: this chat server continues no message, so it cannot be made to answer without reasoning",
            "take api: completions, or say in `continues` how the server does it, or take without_reasoning out of "
            "run.settings",
        )
