"""Servers on loopback, each a process of its own: one that fails on demand, and `transformers serve`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import EndpointModel, EndpointParams, ModelParams, Tags, parse
from r2a_core.models.pointer import ModelPointer
from r2a_core.models.prepare import prepare

HERE = Path(__file__).parent
KEY_ENV = "R2A_TEST_KEY"
CANARY = "sk-canary-5f0c9e77d1aa4e6b"  # stands for a key: may turn up in no file, log or error
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %} <think>\n{% endif %}"
)


def call(url: str, body: Any = None) -> Any:
    """A JSON request past any proxy; body None = GET."""
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30) as reply:
        return json.load(reply)


@dataclass(frozen=True)
class FaultServer:
    """The process of fault_server.py."""

    port: int

    def plan(self, *faults: dict[str, Any], **rest: Any) -> None:
        """What happens to the next requests; forgets those before."""
        call(f"http://127.0.0.1:{self.port}/_plan", {"faults": faults} | rest)

    @property
    def requests(self) -> list[dict[str, Any]]:
        return call(f"http://127.0.0.1:{self.port}/_seen")["requests"]

    @property
    def most_at_a_time(self) -> int:
        return call(f"http://127.0.0.1:{self.port}/_seen")["most_at_a_time"]


@contextmanager
def running(
    command: Sequence[str], environment: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A process with the key in its environment; it does not outlive the block."""
    process = subprocess.Popen(command, env=os.environ | {KEY_ENV: CANARY} | (environment or {}), **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def fault_process() -> Iterator[FaultServer]:
    with running([sys.executable, str(HERE / "fault_server.py")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield FaultServer(int(process.stdout.readline()))


@pytest.fixture
def server(fault_process: FaultServer, monkeypatch: pytest.MonkeyPatch) -> FaultServer:
    """The failing server without a plan; the environment holds a key for it."""
    fault_process.plan()
    monkeypatch.setenv(KEY_ENV, CANARY)
    return fault_process


@pytest.fixture
def endpoint(server: FaultServer) -> Callable[..., EndpointParams]:
    """The failing server as params."""

    def make(**changes: Any) -> EndpointParams:
        values = {
            "base_url": f"http://127.0.0.1:{server.port}/v1",
            "model": "big-one",
            "key_env": KEY_ENV,
            "timeout_seconds": 10.0,
            "concurrency": 3,
            "attempts": 3,
            "prompt_price": None,
            "completion_price": None,
        }
        return EndpointParams(**(values | changes))

    return make


def served_model(endpoint: EndpointParams, **changes: Any) -> EndpointModel:
    """A models entry of kind endpoint."""
    rest = {"api": "completions", "send_bos": False, "continues": None, "send_seed": True, "max_tokens": None}
    model = parse(ModelParams, {"kind": "endpoint", "endpoint": vars(endpoint)} | rest | changes, "models.r1_full")
    assert isinstance(model, EndpointModel)
    return model


def files_with(text: str, folder: Path) -> Sequence[Path]:
    """Files below a folder that hold a text anywhere."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random reasoner of two layers that says words of the built-in tokenizer, as a prepared model folder.

    It has a chat template that builds the study's prompt. Llama's, as the server would put the rules of Qwen2's own
    tokenizer in place of the built-in one's.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from r2a_core.builtin.tokenizer import build_tokenizer
    from tests.small_models import two_layers

    folder = tmp_path_factory.mktemp("served")
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    model = two_layers(LlamaForCausalLM, LlamaConfig, len(tokenizer))
    with torch.no_grad():
        head = model.lm_head.weight
        for token in range(len(tokenizer)):
            piece = tokenizer.decode([token])
            if not (piece.isascii() and piece.strip().isalpha() and len(piece) > 2):
                head[token] = 0
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    ModelPointer("train", "float32", Tags()).write(folder)
    return folder


@dataclass(frozen=True)
class RealServer:
    """A running `transformers serve`."""

    base_url: str
    model: str


@pytest.fixture(scope="session")
def real_server(served_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """`transformers serve` with the random reasoner."""
    pytest.importorskip("fastapi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    script = str(Path(sys.executable).with_name("transformers"))
    command = [script, "serve", str(served_folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream, running(command, environment, stdout=stream, stderr=stream) as process:
        for _ in range(300):
            try:
                call(f"http://127.0.0.1:{port}/health")
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        else:
            pytest.fail(log.read_text())
        yield RealServer(f"http://127.0.0.1:{port}/v1", str(served_folder))


@pytest.fixture(scope="session")
def endpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[EndpointModel, Path], Path]:
    """Prepares a model of kind endpoint at a path; the tokenizer, the same for all, is built once."""
    first = tmp_path_factory.mktemp("prepared") / "r1_full"
    where = {"base_url": "http://127.0.0.1:1/v1", "model": "big-one", "key_env": None}
    nowhere = EndpointParams(**where, timeout_seconds=1.0, concurrency=1, attempts=1)
    prepare(served_model(nowhere), first)

    def make(params: EndpointModel, folder: Path) -> Path:
        shutil.copytree(first, folder, dirs_exist_ok=True)
        ModelPointer("endpoint", None, params.tags, served=params).write(folder)
        return folder

    return make
