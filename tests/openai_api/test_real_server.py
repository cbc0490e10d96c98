"""A real server: `transformers serve` on loopback with a random reasoner, against the same model run here."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from r2a_core.builtin.questions import arithmetic
from r2a_core.config import BuiltinDataset, EndpointModel, EndpointParams
from r2a_core.data.items import Item, items_frame
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards, read_shards
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import write_frame
from r2a_core.infra.shards import open_store
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.openai_api.client import Client
from r2a_core.trace import GENERATION_SCHEMA
from tests.servers import CANARY, KEY_ENV, RealServer, files_with, served_model
from tests.small_models import GREEDY as BASE_PARAMS
from tests.study import PARAMS, call, params_with, study_folder

INSTRUCTION = " Answer."
N_TOKENS = 24
GREEDY = BASE_PARAMS.model_copy(update={"max_new_tokens": N_TOKENS, "shard_items": 10})


@pytest.fixture(scope="module")
def items() -> list[Item]:
    return arithmetic(4, 0)


def entry(server: RealServer, **changes: Any) -> EndpointModel:
    """The server's model as an entry of `models` in params.yaml."""
    where = {"base_url": server.base_url, "model": server.model, "key_env": KEY_ENV}
    limits = {"timeout_seconds": 120.0, "concurrency": 2, "attempts": 2}
    endpoint = EndpointParams(**where, **limits, prompt_price=1.0, completion_price=10.0)  # type: ignore[arg-type]
    return served_model(endpoint, **{"send_bos": True, **changes})


def texts(folder: Path, setting: Any, items: list[Item], root: Path) -> list[str]:
    """The responses that the generate stage would write."""
    source = BuiltinDataset(kind="arithmetic", instruction=INSTRUCTION, n=4, seed=0)
    job = GenerationJob(folder, "cpu", "served", setting, source, GREEDY)
    with open_store(root, "generate", "x") as store:
        rows = read_shards([path for shard in plan_shards(job, items, {}) for path in finish_shard(job, store, shard)])
    return rows["response"].to_list()


@pytest.fixture(scope="module")
def expected(served_folder: Path, items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the model says when it runs here, by setting."""
    root = tmp_path_factory.mktemp("here")
    return {
        setting: texts(served_folder, setting, items, root / setting)
        for setting in ("with_reasoning", "without_reasoning")
    }


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, CANARY)


@pytest.mark.parametrize(
    ("api", "setting"),
    [("completions", "with_reasoning"), ("completions", "without_reasoning"), ("chat", "with_reasoning")],
)
def test_a_server_says_what_the_model_says_here(
    real_server: RealServer,
    endpoint_folder: Callable[..., Path],
    items: list[Item],
    expected: dict[str, list[str]],
    tmp_path: Path,
    api: str,
    setting: str,
) -> None:
    folder = endpoint_folder(entry(real_server, api=api), tmp_path / "served")
    said = texts(folder, setting, items, tmp_path / "work")
    assert said == expected[setting]
    assert len(set(said)) == len(items)  # the model says something else to each question


def test_counts_and_model_are_the_servers(real_server: RealServer, served_folder: Path) -> None:
    client = Client(entry(real_server).endpoint)
    reply = client.complete("How many", max_tokens=7, temperature=0.0)
    assert (reply.completion_tokens, reply.finish, reply.model) == (7, "length", real_server.model)
    chat = client.chat([{"role": "user", "content": "How many"}], max_tokens=7, temperature=0.0)
    ids = load_tokenizer(served_folder).hf.encode("How many <think>\n")
    assert (reply.prompt_tokens, chat.prompt_tokens, chat.completion_tokens) == (2, len(ids) + 1, 7)


def test_what_the_server_refuses_is_told_in_its_words(
    real_server: RealServer, endpoint_folder: Callable[..., Path], items: list[Item], tmp_path: Path
) -> None:
    client = Client(entry(RealServer(real_server.base_url, "another")).endpoint)
    with pytest.raises(R2AError, match=r"Server is pinned to .*; requested 'another'"):
        client.complete("x", max_tokens=1, temperature=0.0)
    chat = entry(real_server, api="chat", continues="continue_final_message")
    folder = endpoint_folder(chat, tmp_path / "served")
    with pytest.raises(R2AError, match="Unexpected fields"):  # this server continues no message
        texts(folder, "without_reasoning", items, tmp_path / "work")


def test_the_stage_in_a_study(
    real_server: RealServer,
    endpoint_folder: Callable[..., Path],
    items: list[Item],
    expected: dict[str, list[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = entry(real_server)
    params = params_with(
        models={"served": served.model_dump()},
        datasets={"arithmetic": PARAMS["datasets"]["arithmetic"] | {"n": 4, "instruction": INSTRUCTION}},
        generate={"temperature": 0.0, "max_new_tokens": N_TOKENS, "retry": True},
    )
    study_folder(tmp_path, params)
    data = tmp_path / "data"
    write_frame(data / "datasets" / "arithmetic.parquet", items_frame(items))
    endpoint_folder(served, data / "models" / "served")
    with caplog.at_level(logging.INFO):
        call(tmp_path, "generate", "served", "arithmetic", "with_reasoning")
    rows = pl.read_parquet(data / "generations" / "served" / "arithmetic" / "with_reasoning.parquet")
    assert rows.schema == pl.Schema(GENERATION_SCHEMA)
    assert rows["item_id"].to_list() == [item.item_id for item in items] * 2
    assert rows["run"].to_list() == [0] * 4 + [1] * 4  # a random model leaves the funnel each time
    assert rows["response"].to_list() == expected["with_reasoning"] * 2
    usage = json.loads((data / "metrics" / "generate-served-arithmetic-with_reasoning.json").read_text())
    assert (usage["responses"], usage["completion_tokens"], usage["models"]) == (8, 8 * N_TOKENS, [real_server.model])
    assert usage["cost"] == round((usage["prompt_tokens"] + 10 * 8 * N_TOKENS) / 1e6, 6)
    assert caplog.text.count("4 of 4 replies") == 2
    assert CANARY not in caplog.text
    assert files_with(CANARY, tmp_path) == []
