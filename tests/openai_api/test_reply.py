"""Replies as servers send them: where the thinking is, and what is no reply."""

from typing import Any

import pytest

from r2a_core.openai_api.reply import ReplyError, chat_reply, completion_reply, server_sentence


def raw(message: dict[str, Any] | None, finish: str | None = "stop", **rest: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}], **rest}


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "A.", "reasoning_content": "hm"}, "A.", "hm"),
        ({"content": "A.", "reasoning": "hm"}, "A.", "hm"),
        ({"content": "A.", "reasoning_content": "one", "reasoning": "two"}, "A.", "one"),
        ({"content": "A.", "reasoning_content": None, "reasoning": "hm"}, "A.", "hm"),
        ({"content": None, "reasoning": "cut off"}, "", "cut off"),
        ({"content": "<think>\nhm</think>\n\nA."}, "\n\nA.", "\nhm"),
        ({"content": "hm</think>A."}, "A.", "hm"),
        ({"content": " <think>cut off"}, "", "cut off"),
        ({"content": "A."}, "A.", None),
        ({"content": ""}, "", None),
        ({"content": "a</think>b</think>c"}, "a</think>b</think>c", None),
        ({"content": "x</think>y", "reasoning": "hm"}, "x</think>y", "hm"),
        ({"content": [{"type": "text", "text": "A"}, {"type": "text", "text": "."}]}, "A.", None),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "A."},
                ]
            },
            "A.",
            "hm",
        ),
        ({"content": None, "refusal": "No."}, "No.", None),
    ],
)
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


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ([], "no JSON object"),
        ("text", "no JSON object"),
        ({}, "without choices"),
        ({"choices": []}, "without choices"),
        ({"choices": None, "error": {"message": "overloaded"}}, "overloaded"),
        ({"choices": [{}]}, "without a message"),
        (raw(None), "without a message"),
        (raw({"content": None}), "without content"),
        (raw({"content": "x"}, "insufficient_system_resource"), "broken off"),
    ],
)
def test_what_is_no_reply(reply: Any, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        chat_reply(reply)


def test_a_completion_is_the_bare_continuation() -> None:
    reply = completion_reply({"choices": [{"text": "hm</think>A.", "finish_reason": "stop"}], "model": "m"})
    assert (reply.text, reply.reasoning, reply.finish) == ("hm</think>A.", None, "stop")
    with pytest.raises(ReplyError, match="without text"):
        completion_reply(raw({"content": "chat"}))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"error": {"message": "Bad\n thing", "code": 1}}, "Bad thing"),
        ({"error": "Bad"}, "Bad"),
        ({"detail": "Bad"}, "Bad"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ({"message": "Bad"}, "Bad"),
        ({}, ""),
        (None, ""),
    ],
)
def test_the_sentence_of_a_server(body: Any, sentence: str) -> None:
    assert server_sentence(body) == sentence
