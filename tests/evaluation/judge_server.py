"""A judge on the loopback that answers as a test tells it to, and open items with well-formed responses."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import polars as pl

from r2a_core.config import EndpointParams, JudgeParams
from r2a_core.data.items import Item
from r2a_core.generation.rows import generation_row
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import GENERATION_SCHEMA, Setting

JUDGE = "judge-2024-05-13"
Answer = tuple[int, Any]  # HTTP status, JSON


def grade(score: Any, strengths: str = "to the point", weaknesses: str = "none") -> str:
    return json.dumps({"strengths": strengths, "weaknesses": weaknesses, "score": score})


def said(text: str | None, model: str | None = JUDGE, finish: str = "stop", **message: Any) -> Answer:
    """A reply of the judge; message: further fields."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return 200, {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


def answer_of(body: dict[str, Any]) -> str:
    """The answer that stands in a request for a judgement."""
    message = body["messages"][-1]["content"]
    return message.split("[begin answer ")[1].split("]\n", 1)[1].split("\n[end answer ")[0]


@dataclass
class JudgeServer:
    """What was asked, in order of arrival, and what is answered: `answer` gets a request's body."""

    port: int
    answer: Callable[[dict[str, Any]], Answer]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def times(self, text: str) -> int:
        """How often the judge was asked about this answer."""
        return sum(answer_of(body) == text for body in self.asked)

    def params(self, **changes: Any) -> JudgeParams:
        return JudgeParams(endpoint=EndpointParams(**self.endpoint()), **self.how(changes))

    def section(self, **changes: Any) -> dict[str, Any]:
        """The section `judge` of params.yaml."""
        return {"endpoint": self.endpoint(), **self.how(changes)}

    def endpoint(self) -> dict[str, Any]:
        where = {"base_url": f"http://127.0.0.1:{self.port}/v1", "model": JUDGE, "key_env": None}
        limits = {"timeout_seconds": 20.0, "concurrency": 4, "attempts": 3}
        return where | limits | {"prompt_price": 5.0, "completion_price": 15.0}

    def how(self, changes: dict[str, Any]) -> dict[str, Any]:
        usual = {"reported_model": None, "reply_format": "json_object", "max_tokens": 50, "temperature": 0.0, "seed": 7}
        return usual | {"repeats": 1, "attempts": 3} | changes


@contextmanager
def serving() -> Iterator[JudgeServer]:
    """A running server."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                found.asked.append(body)
                status, reply = found.answer(body)
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = JudgeServer(server.server_address[1], lambda body: said(grade(5)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


AREAS = {"code": "coding & analysis", "poem": "creative tasks", "plan": "reasoning & planning"}


def open_item(name: str, checklist: tuple[str, ...] = ("Is it right?",)) -> Item:
    """An item whose area its name tells: code-1, poem-2, plan-3."""
    extra = {"primary_tag": "-", "checklist": list(checklist), "history": [], "later": []}
    return Item(name, f"Question {name}.", None, "open", AREAS[name.split("-")[0]], "", json.dumps(extra))


def responses(
    tokenizer: LoadedTokenizer, setting: Setting, answers: dict[str, str | None], run: int = 0
) -> pl.DataFrame:
    """Generations to open items by item id, in this order; None: the response was not finished."""
    return responses_to(tokenizer, setting, [open_item(name) for name in answers], answers, run)


def responses_to(
    tokenizer: LoadedTokenizer, setting: Setting, items: Sequence[Item], answers: dict[str, str | None], run: int = 0
) -> pl.DataFrame:
    """Generations to these items."""
    rows = []
    for item in items:
        answer = answers[item.item_id]
        thinking = "Some thoughts." if setting == "with_reasoning" else ""
        ids = [*plain_ids(tokenizer, thinking), tokenizer.ids.think_close] if thinking else []
        ids += plain_ids(tokenizer, answer or "cut")
        ids += [tokenizer.ids.eos] if answer else []
        prompt = prompt_ids(tokenizer, item.question, "", setting)
        rows.append(generation_row(tokenizer, item, run, prompt, ids, 0, lambda given: bool(given.strip())))
    return pl.DataFrame(rows, schema=GENERATION_SCHEMA)
