"""A judge played by the server of tests/servers.py, and open items with well-formed responses."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from r2a_core.config import EndpointParams, JudgeParams
from r2a_core.data.items import Item
from r2a_core.generation.rows import generation_row
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import GENERATION_SCHEMA, Setting
from tests.servers import FaultServer

JUDGE = "judge-2024-05-13"
AREAS = {"code": "coding & analysis", "poem": "creative tasks", "plan": "reasoning & planning"}


def grade(score: Any, strengths: str = "to the point") -> str:
    return json.dumps({"strengths": strengths, "weaknesses": "none", "score": score})


def said(
    text: str | None, match: str = "", times: int = -1, model: str | None = JUDGE, finish: str = "stop", **message: Any
) -> dict[str, Any]:
    """A reply of the judge to messages that hold `match`, for FaultServer.plan; message: further fields."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    reply = {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
    return {"match": match, "times": times, "raw": json.dumps(reply)}


def failed(status: int, match: str = "", times: int = -1, **error: Any) -> dict[str, Any]:
    """An HTTP error in place of a reply."""
    return {"match": match, "times": times, "status": status, "body": json.dumps({"error": error})}


def asked(server: FaultServer) -> list[dict[str, Any]]:
    """The requests since the last plan."""
    return [request["body"] for request in server.requests]


def answers_asked(server: FaultServer) -> list[str]:
    """The answers that these requests show to the judge."""
    messages = [body["messages"][-1]["content"] for body in asked(server)]
    return [text.split("[begin answer ")[1].split("]\n", 1)[1].split("\n[end answer ")[0] for text in messages]


def judge_section(server: FaultServer, key_env: str | None = None, **changes: Any) -> dict[str, Any]:
    """The section `judge` of params.yaml."""
    where = {"base_url": f"http://127.0.0.1:{server.port}/v1", "model": JUDGE, "key_env": key_env}
    limits = {"timeout_seconds": 20.0, "concurrency": 4, "attempts": 3, "prompt_price": 5.0, "completion_price": 15.0}
    usual = {"reported_model": None, "reply_format": "json_object", "max_tokens": 50, "temperature": 0.0, "seed": 7}
    return {"endpoint": where | limits, "repeats": 1, "attempts": 3} | usual | changes


def judge_params(server: FaultServer, **changes: Any) -> JudgeParams:
    section = judge_section(server, **changes)
    endpoint = EndpointParams(**section.pop("endpoint"))
    return JudgeParams(endpoint=endpoint, **section)


def open_item(name: str, checklist: tuple[str, ...] = ("Is it right?",)) -> Item:
    """An item whose area its name tells: code-1, poem-2, plan-3."""
    extra = {"primary_tag": "-", "checklist": list(checklist), "history": [], "later": []}
    return Item(name, f"Question {name}.", None, "open", AREAS[name.split("-")[0]], "", json.dumps(extra))


def responses(
    tokenizer: LoadedTokenizer, setting: Setting, answers: dict[str, str | None], items: Sequence[Item] = ()
) -> pl.DataFrame:
    """Generations by item id, to these items or to open ones in this order; None: the response was not finished."""
    rows = []
    for item in items or [open_item(name) for name in answers]:
        answer = answers[item.item_id]
        ids = plain_ids(tokenizer, answer or "cut") + ([tokenizer.ids.eos] if answer else [])
        if setting == "with_reasoning":
            ids = [*plain_ids(tokenizer, "Some thoughts."), tokenizer.ids.think_close, *ids]
        prompt = prompt_ids(tokenizer, item.question, "", setting)
        rows.append(generation_row(tokenizer, item, 0, prompt, ids, 0, lambda given: bool(given.strip())))
    return pl.DataFrame(rows, schema=GENERATION_SCHEMA)
