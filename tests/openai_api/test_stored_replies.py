"""Many requests to a server that fails: what is kept, what is asked again after a failure, a kill or an interrupt."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import EndpointParams
from r2a_core.infra.errors import R2AError
from r2a_core.infra.shards import open_store
from r2a_core.openai_api.client import Client
from r2a_core.openai_api.stored_replies import Request, ask_all
from tests.servers import CANARY, FaultServer, files_with, running

Endpoint = Callable[..., EndpointParams]
ROOT = Path(__file__).resolve().parents[2]


def questions(numbers: range) -> list[Request]:
    """Questions q0, q1, ..."""

    def one(number: int) -> Request:
        messages = [{"role": "user", "content": f"<q{number}>"}]
        return Request(f"print-{number}", lambda client: client.chat(messages, max_tokens=9, temperature=0.0))

    return [one(number) for number in numbers]


def run(endpoint: EndpointParams, root: Path, numbers: range) -> list[str]:
    with open_store(root, "ask", "x") as store:
        return [str(reply.raw["n"]) for reply in ask_all(Client(endpoint), questions(numbers), store, "x")]


def numbered(*numbers: int) -> list[dict[str, object]]:
    """Replies that name their question."""
    message = {"message": {"content": "x"}, "finish_reason": "stop"}
    return [
        {"match": f"<q{n}>", "times": -1, "raw": json.dumps({"choices": [message], "n": n}), "sleep": 0.02 * (n % 3)}
        for n in numbers
    ]


def asked(server: FaultServer) -> list[str]:
    return sorted(request["body"]["messages"][0]["content"] for request in server.requests)


def test_replies_come_in_the_order_of_the_requests(server: FaultServer, endpoint: Endpoint, tmp_path: Path) -> None:
    server.plan(*numbered(*range(12)), hold=0.05)
    assert run(endpoint(), tmp_path, range(12)) == [str(n) for n in range(12)]
    assert server.most_at_a_time == 3
    assert run(endpoint(), tmp_path, range(12)) == [str(n) for n in range(12)]
    assert len(server.requests) == 12  # the second run asked for nothing
    with open_store(tmp_path, "ask", "twice") as store:
        replies = ask_all(Client(endpoint()), [*questions(range(2)), *questions(range(2))], store, "x")
    assert replies[:2] == replies[2:]
    assert len(server.requests) == 14  # equal requests are asked once


def test_a_failure_keeps_what_is_there_and_says_so(server: FaultServer, endpoint: Endpoint, tmp_path: Path) -> None:
    server.plan({"match": "<q4>", "status": 400, "body": '{"error": {"message": "no"}}'}, *numbered(*range(20)))
    with pytest.raises(R2AError, match=r"HTTP 400\): no; 4 of 20 replies are there and kept") as caught:
        run(endpoint(concurrency=1), tmp_path, range(20))
    assert caught.value.hint.endswith("then run again")
    assert asked(server) == sorted(f"<q{n}>" for n in range(5))  # none after the failure
    server.plan(*numbered(*range(20)))
    assert run(endpoint(), tmp_path, range(20)) == [str(n) for n in range(20)]
    assert asked(server) == sorted(f"<q{n}>" for n in range(4, 20))


def test_requests_under_way_are_kept_when_another_fails(
    server: FaultServer, endpoint: Endpoint, tmp_path: Path
) -> None:
    slow = {"match": "<q1>", "sleep": 1.5, "raw": numbered(1)[0]["raw"]}
    server.plan(slow, {"match": "<q0>", "sleep": 1.0, "status": 400}, *numbered(*range(9)))
    with pytest.raises(R2AError, match="of 9 replies"):
        run(endpoint(concurrency=2), tmp_path, range(9))
    server.plan(*numbered(*range(9)))
    run(endpoint(), tmp_path, range(9))
    assert "<q1>" not in asked(server)
    assert "<q0>" in asked(server)


SCRIPT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with it ignored
sys.path.insert(0, sys.argv[3])
from r2a_core.config import EndpointParams
from tests.openai_api.test_stored_replies import run
where = {"base_url": sys.argv[1], "model": "big-one", "key_env": "R2A_TEST_KEY"}
endpoint = EndpointParams(**where, timeout_seconds=60.0, concurrency=2, attempts=2)
run(endpoint, Path(sys.argv[2]), range(30))
"""


def test_after_a_kill_only_the_unfinished_are_asked(server: FaultServer, endpoint: Endpoint, tmp_path: Path) -> None:
    server.plan(*numbered(*range(30)), hold=0.1)
    params = endpoint(concurrency=2)
    command = [sys.executable, "-c", SCRIPT, params.base_url, str(tmp_path / "work"), str(ROOT)]
    log = tmp_path / "log"
    kept = tmp_path / "work" / "ask" / "x"
    with log.open("w") as stream, running(command, stderr=stream, cwd=ROOT) as process:
        while len(list(kept.glob("*.sha256")) if kept.is_dir() else []) < 8:
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = {path.name.partition(".")[0] for path in kept.glob("*.sha256")}
    assert 8 <= len(finished) < 30
    server.plan(*numbered(*range(30)))
    assert run(params, tmp_path / "work", range(30)) == [str(n) for n in range(30)]
    assert asked(server) == sorted(f"<q{n}>" for n in range(30) if f"print-{n}" not in finished)
    assert files_with(CANARY, tmp_path) == []


def test_an_interrupt_waits_for_no_server(server: FaultServer, endpoint: Endpoint, tmp_path: Path) -> None:
    server.plan(*numbered(0, 1), {"sleep": 60, "times": -1})
    command = [sys.executable, "-c", SCRIPT, endpoint().base_url, str(tmp_path / "work"), str(ROOT)]
    with running(command, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        while len(server.requests) < 4:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)  # s; the server is silent for 60, and the client would wait as long
    assert process.returncode != 0
    kept = tmp_path / "work" / "ask" / "x"
    assert sorted(path.name for path in kept.glob("*.json")) == ["print-0.reply.json", "print-1.reply.json"]


def test_what_is_kept_holds_no_key_and_is_named_once_damaged(
    server: FaultServer, endpoint: Endpoint, tmp_path: Path
) -> None:
    told: dict[str, Any] = {
        "choices": [{"message": {"content": f"key {CANARY}"}, "finish_reason": "stop"}],
        "n": CANARY,
    }
    told |= {"usage": {"prompt_tokens": 10**30}, "model": "\x1b]0;m\x07", "deep": json.loads("[" * 90 + "]" * 90)}
    server.plan({"raw": json.dumps(told), "times": -1})
    for _ in range(2):  # asked, then read again
        assert run(endpoint(), tmp_path, range(2)) == ["[key]", "[key]"]
    assert len(server.requests) == 2
    assert files_with(CANARY, tmp_path) == []
    assert len(files_with("key [key]", tmp_path)) == 2
    path = tmp_path / "ask" / "x" / "print-1.reply.json"
    path.write_text(path.read_text().replace("stop", "length"))
    with pytest.raises(R2AError, match=r"print-1\.reply\.json is damaged"):
        run(endpoint(), tmp_path, range(2))
