"""Replies as servers send them: where the thinking is, and what is no reply."""

import json
from pathlib import Path
from typing import Any

import pytest

from r2a_core.openai_api.reply import ReplyError, chat_reply, completion_reply, server_sentence

CASES = json.loads(Path(__file__).with_name("replies.json").read_text(encoding="utf-8"))


def raw(message: dict[str, Any] | None, finish: str | None = "stop", **rest: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}], **rest}


@pytest.mark.parametrize(("message", "text", "reasoning"), CASES["messages"])
def test_text_and_reasoning(message: dict[str, Any], text: str, reasoning: str | None) -> None:
    reply = chat_reply(raw(message))
    assert (reply.text, reply.reasoning) == (text, reasoning)


def test_counts_model_and_finish() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    reply = chat_reply(raw({"content": "x"}, "length", usage=usage, model="m-0528"))
    assert (reply.prompt_tokens, reply.completion_tokens, reply.finish, reply.model) == (3, 4, "length", "m-0528")
    assert reply.raw["usage"] == usage
    reply = chat_reply(raw({"content": "x"}, "stop", usage={"prompt_tokens": "3", "completion_tokens": True}))
    assert (reply.prompt_tokens, reply.completion_tokens, reply.model) == (None, None, None)
    reply = chat_reply(
        raw({"content": "x"}, usage={"prompt_tokens": 10**30, "completion_tokens": -1}, model="m\x1b[2J")
    )
    assert (reply.prompt_tokens, reply.completion_tokens, reply.model) == (None, None, "m�[2J")


@pytest.mark.parametrize(("reply", "says"), CASES["no_replies"])
def test_what_is_no_reply(reply: Any, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        chat_reply(reply)


def test_a_completion_is_the_bare_continuation() -> None:
    reply = completion_reply({"choices": [{"text": "hm</think>A.", "finish_reason": "stop"}], "model": "m"})
    assert (reply.text, reply.reasoning, reply.finish) == ("hm</think>A.", None, "stop")
    with pytest.raises(ReplyError, match="without text"):
        completion_reply(raw({"content": "chat"}))


@pytest.mark.parametrize(("body", "sentence"), CASES["errors"])
def test_the_sentence_of_a_server(body: Any, sentence: str) -> None:
    assert server_sentence(body) == sentence
