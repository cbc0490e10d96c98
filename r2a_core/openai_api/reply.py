"""One reply of an OpenAI-compatible server, read from its raw JSON.

Servers put a model's thinking into `reasoning_content` (DeepSeek, vLLM, SGLang, transformers) or `reasoning` (newer
vLLM, OpenRouter), into parts of the content (Mistral), or leave it in the content between its tags.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from r2a_core.infra.errors import printable

MOST_TOKENS = 10**9  # that a count is believed to be

TRANSIENT_FINISHES = ("insufficient_system_resource", "error", "abort")


class ReplyError(Exception):
    """A reply without what was asked for: worth another try."""


@dataclass(frozen=True)
class Reply:
    """What a server answered to one request."""

    text: str  # without the reasoning, where the server keeps that apart
    reasoning: str | None
    finish: str  # stop | length | another reason of the server's
    prompt_tokens: int | None
    completion_tokens: int | None
    model: str | None  # as the server names it
    raw: dict[str, Any]  # the whole reply


def chat_reply(raw: Any) -> Reply:
    """Reads a reply of /chat/completions. Raises ReplyError when it has no choice or no message."""
    choice = first_choice(raw)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise ReplyError("a choice without a message")
    text, thought = content_text(message.get("content"))
    for name in ("reasoning_content", "reasoning"):
        if thought is None and isinstance(message.get(name), str):
            thought = message[name]
    if text is None and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    if text is None and not thought:
        raise ReplyError("a message without content")
    if thought is None and text is not None:
        text, thought = without_thinking(text)
    return reply_of(raw, choice, text or "", thought)


def completion_reply(raw: Any) -> Reply:
    """Reads a reply of /completions, the bare continuation. Raises ReplyError when it has no choice or no text."""
    choice = first_choice(raw)
    if not isinstance(choice.get("text"), str):
        raise ReplyError("a choice without text")
    return reply_of(raw, choice, choice["text"], None)


def first_choice(raw: Any) -> Mapping[str, Any]:
    """Returns the first choice of a reply.

    Raises ReplyError without one, with the server's sentence where it gives one.
    """
    if not isinstance(raw, Mapping):
        raise ReplyError("a reply that is no JSON object")
    choices = raw.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        error = server_sentence(raw)
        raise ReplyError(f"a reply without choices{': ' + error if error else ''}")
    return choices[0]


def reply_of(raw: Mapping[str, Any], choice: Mapping[str, Any], text: str, reasoning: str | None) -> Reply:
    """Returns the reply with its counts. Raises ReplyError where the server broke off."""
    finish = plain(choice.get("finish_reason"))
    if finish in TRANSIENT_FINISHES:
        raise ReplyError(f"a reply broken off by the server ({finish})")
    counts = raw.get("usage")
    usage = counts if isinstance(counts, Mapping) else {}
    model = raw.get("model")
    return Reply(
        text=text,
        reasoning=reasoning,
        finish=finish,
        prompt_tokens=as_count(usage.get("prompt_tokens")),
        completion_tokens=as_count(usage.get("completion_tokens")),
        model=plain(model) if isinstance(model, str) else None,
        raw=dict(raw),
    )


def as_count(value: Any) -> int | None:
    """Returns a count of tokens; None for what can be none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def plain(value: Any) -> str:
    """Returns what a server names or says as one line of at most 400 characters that a terminal takes for text."""
    return " ".join(printable(str(value)).split())[:400]


def content_text(content: Any) -> tuple[str | None, str | None]:
    """Returns the text and thinking of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content, None
    if not isinstance(content, list):
        return None, None
    texts, thoughts = [], []
    for part in content:
        if isinstance(part, Mapping) and part.get("type") == "text":
            if not isinstance(part.get("text"), str):
                raise ReplyError("a part of a message without text")
            texts.append(part["text"])
        elif isinstance(part, Mapping) and part.get("type") == "thinking":
            inner, _ = content_text(part.get("thinking"))
            thoughts.append(inner or "")
    return "".join(texts), "".join(thoughts) if thoughts else None


def without_thinking(text: str) -> tuple[str, str | None]:
    """Splits off the thinking before an answer, where `text` opens with thinking that is closed once.

    The opening tag is often part of the prompt, and then missing here.
    """
    head, close, answer = text.partition("</think>")
    if not close:
        stripped = text.lstrip()
        return ("", stripped.removeprefix("<think>")) if stripped.startswith("<think>") else (text, None)
    if "</think>" in answer:
        return text, None
    return answer, head.lstrip().removeprefix("<think>") if head.lstrip().startswith("<think>") else head


def server_sentence(body: Any) -> str:
    """Returns what a server says went wrong, on one line; empty when it says nothing."""
    if isinstance(body, Mapping):
        for name in ("error", "message", "detail"):
            if body.get(name):
                return server_sentence(body[name])
        return ""
    if isinstance(body, list):
        return server_sentence(body[0]["msg"]) if body and isinstance(body[0], Mapping) and "msg" in body[0] else ""
    return plain(body) if body is not None else ""


def total(counts: Iterable[int | None]) -> int | None:
    """Returns the sum of token counts; None where one of them is unknown."""
    values = list(counts)
    return None if any(value is None for value in values) else sum(value for value in values if value is not None)
