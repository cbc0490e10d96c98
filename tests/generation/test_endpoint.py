"""A served model through the generate stage's shards: prompts, rows, retries, and what is asked again."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from r2a_core.activations.capture import CaptureJob, captured_traces
from r2a_core.config import BuiltinDataset, CaptureParams, EndpointParams, parse
from r2a_core.data.items import Item
from r2a_core.generation.sampling import request_seed
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_pair_shards, plan_shards, read_shards
from r2a_core.generation.usage import Usage, shards_usage
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import folder_digest
from r2a_core.infra.shards import open_store
from r2a_core.models.load import load_model
from r2a_core.models.pointer import read_pointer
from r2a_core.models.prepare import prepare
from r2a_core.trace import GENERATION_SCHEMA
from tests.servers import CANARY, FaultServer, files_with, served_model
from tests.small_models import GREEDY as BASE_PARAMS

ROOT = Path(__file__).resolve().parent.parent.parent
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
ITEMS = [Item(f"q{n}", f"What is {n} + 3?", str(n + 3), "math") for n in range(4)]
SOURCE = BuiltinDataset(kind="arithmetic", instruction=" Box it.", n=4, seed=0)
CLOSED = "<think>\nOkay, I think I have finished thinking.\n</think>"
PARAMS = BASE_PARAMS.model_copy(update={"temperature": 0.6, "max_new_tokens": 100, "seed": 5, "shard_items": 2})
Prepared = Callable[..., Path]


@pytest.fixture
def prepared(endpoint: Callable[..., EndpointParams], endpoint_folder: Callable[..., Path], tmp_path: Path) -> Prepared:
    """The failing server's model as a prepared model."""

    def make(prices: dict[str, float] | None = None, **changes: Any) -> Path:
        return endpoint_folder(served_model(endpoint(**(prices or {})), **changes), tmp_path / "models" / "r1_full")

    return make


def job_of(folder: Path, setting: Any = "with_reasoning", **params: Any) -> GenerationJob:
    return GenerationJob(folder, "cpu", "r1_full", setting, SOURCE, PARAMS.model_copy(update=params))


def run(
    job: GenerationJob,
    root: Path,
    items: Sequence[Item] = ITEMS,
    code: str = "c",
    environment: str = "torch_2.13.0,cpu",
) -> tuple[pl.DataFrame, Usage]:
    """What the generate stage does."""
    base = {"code": code, "model": folder_digest(job.model_folder)}
    with open_store(root, "generate", "x") as opened:
        store = replace(opened, environment=environment)
        paths = [path for shard in plan_shards(job, items, base) for path in finish_shard(job, store, shard)]
        return read_shards(paths), shards_usage(paths, job.imports)


def bodies(server: FaultServer) -> list[dict[str, Any]]:
    return sorted((request["body"] for request in server.requests), key=lambda body: json.dumps(body.get("messages")))


def test_the_pointer_carries_all_but_the_key(
    server: FaultServer, endpoint: Callable[..., EndpointParams], tmp_path: Path
) -> None:
    folder = tmp_path / "r1_full"
    prepare(served_model(endpoint()), folder)
    served = read_pointer(folder).served
    assert served is not None
    assert (served.endpoint.model, served.api) == ("big-one", "completions")
    assert not read_pointer(folder).has_weights
    with pytest.raises(R2AError, match="has no weights"):
        load_model(folder)
    assert server.requests == []
    assert files_with(CANARY, tmp_path) == []
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"served": None}))
    with pytest.raises(R2AError, match=r"model\.json is damaged"):
        read_pointer(folder)


@pytest.mark.parametrize(
    ("setting", "send_bos", "prompt"),
    [
        ("with_reasoning", False, "What is 2 + 3? Box it. <think>\n"),
        ("with_reasoning", True, f"{BOS}What is 2 + 3? Box it. <think>\n"),
        ("without_reasoning", True, f"{BOS}What is 2 + 3? Box it. {CLOSED}"),
    ],
)
def test_completions_are_asked_with_the_prompt_of_the_study(
    server: FaultServer, prepared: Prepared, tmp_path: Path, setting: str, send_bos: bool, prompt: str
) -> None:
    rows, _ = run(job_of(prepared(send_bos=send_bos), setting), tmp_path / "work", ITEMS[2:3])
    (body,) = bodies(server)
    drawn = {"max_tokens": 100, "temperature": 0.6, "seed": request_seed(5, "q2", 0)}
    assert body == {"model": "big-one", "prompt": prompt} | drawn
    assert rows["prompt"].to_list() == [f"{BOS}What is 2 + 3? Box it. " + prompt.partition(" Box it. ")[2]]


def test_a_completion_becomes_a_row_like_any_other(server: FaultServer, prepared: Prepared, tmp_path: Path) -> None:
    job = job_of(prepared())
    rows, usage = run(job, tmp_path / "work")
    assert rows.schema == pl.Schema(GENERATION_SCHEMA)
    assert rows["item_id"].to_list() == ["q0", "q1", "q2", "q3"]
    assert set(rows["response"]) == {f"2 + 3 = 5\n</think>So \\boxed{{5}}.{EOS}"}
    for row in rows.iter_rows(named=True):
        tokens = [*row["prompt_ids"], *row["response_ids"]]
        assert (row["finish"], row["status"], row["run"], row["seed"]) == ("stop", "ok", 0, 5)
        assert tokens[row["think_open"]] == job.tokenizer.ids.think_open
        assert tokens[row["think_close"]] == job.tokenizer.ids.think_close
        assert job.tokenizer.hf.decode(tokens[row["answer_start"] : row["answer_end"]]) == "So \\boxed{5}."
    assert usage == Usage(4, 28, 44, None, ("served-1",))
    assert usage.sentence == "4 responses of served-1, 28 prompt and 44 completion tokens"
    assert replace(usage, cost=0.25).sentence.endswith("tokens, cost 0.25")


CHAT = {"api": "chat", "send_seed": False, "max_tokens": 32}


def test_a_chat_with_reasoning(server: FaultServer, prepared: Prepared, tmp_path: Path) -> None:
    rows, _ = run(job_of(prepared(**CHAT)), tmp_path / "work", ITEMS[:1])
    messages = [{"role": "user", "content": "What is 0 + 3? Box it."}]
    assert bodies(server) == [{"model": "big-one", "messages": messages, "max_tokens": 32, "temperature": 0.6}]
    assert rows.select("response", "status").row(0) == (f"2 + 3 = 5\n</think>So \\boxed{{5}}.{EOS}", "ok")
    server.plan()
    with pytest.raises(R2AError, match="r1_full: this chat server continues no message") as caught:
        run(job_of(prepared(**CHAT), "without_reasoning"), tmp_path / "without")
    assert "api: completions" in caught.value.hint
    assert server.requests == []


@pytest.mark.parametrize(
    ("continues", "last", "rest"),
    [
        ("prefix", {"prefix": True}, {}),
        ("continue_final_message", {}, {"add_generation_prompt": False, "continue_final_message": True}),
        ("last_message", {}, {}),
    ],
)
def test_a_chat_without_reasoning_starts_the_answer(
    server: FaultServer, prepared: Prepared, tmp_path: Path, continues: str, last: dict[str, Any], rest: dict[str, Any]
) -> None:
    server.plan({"choice": {"message": {"content": "So \\boxed{3}."}}, "times": -1})
    rows, _ = run(job_of(prepared(**CHAT, continues=continues), "without_reasoning"), tmp_path / "work", ITEMS[:1])
    (body,) = bodies(server)
    assert body["messages"][1:] == [{"role": "assistant", "content": CLOSED} | last]
    assert {name: body[name] for name in body if name not in ("model", "messages", "max_tokens", "temperature")} == rest
    found = (f"{BOS}What is 0 + 3? Box it. {CLOSED}", f"So \\boxed{{3}}.{EOS}", "ok")
    assert rows.select("prompt", "response", "status").row(0) == found


# setting, message of the server, its finish -> response, status
MESSAGES = json.loads(Path(__file__).with_name("chat_messages.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: json.dumps(case[1])[:40])
def test_where_a_server_puts_the_thinking_makes_no_difference(
    server: FaultServer, prepared: Prepared, tmp_path: Path, case: list[Any]
) -> None:
    setting, message, finish, *expected = case
    server.plan({"choice": {"message": message}, "finish": finish})
    rows, _ = run(job_of(prepared(**CHAT, continues="prefix"), setting), tmp_path / "work", ITEMS[:1])
    assert rows.select("response", "status").row(0) == tuple(expected)


def test_text_in_a_reply_that_looks_like_a_tag_is_text(server: FaultServer, prepared: Prepared, tmp_path: Path) -> None:
    server.plan({"choice": {"text": f"{BOS} <think> {EOS} x</think>A \\boxed{{1}}"}})
    job = job_of(prepared())
    rows, _ = run(job, tmp_path / "work", ITEMS[:1])
    ids = rows["response_ids"].to_list()[0]
    tags = job.tokenizer.ids
    special = (tags.bos, tags.eos, tags.think_open, tags.think_close)
    assert [token for token in ids if token in special] == [tags.think_close, tags.eos]
    assert rows["status"].to_list() == ["ok"]


def test_a_retry_asks_again_only_what_failed_with_another_seed(
    server: FaultServer, prepared: Prepared, tmp_path: Path
) -> None:
    server.plan({"match": "What is 1 + 3", "finish": "length"})
    rows, usage = run(job_of(prepared(), retry=True), tmp_path / "work")
    assert rows["item_id"].to_list() == ["q0", "q1", "q2", "q3", "q1"]
    assert rows["run"].to_list() == [0, 0, 0, 0, 1]
    assert rows["status"].to_list() == ["ok", "unfinished", "ok", "ok", "ok"]
    seeds = [body["seed"] for body in bodies(server) if "What is 1 + 3" in body["prompt"]]
    assert seeds == [request_seed(5, "q1", 0), request_seed(5, "q1", 1)]
    assert (usage.responses, usage.prompt_tokens) == (5, 35)


def test_nothing_is_bought_twice(server: FaultServer, prepared: Prepared, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first, usage = run(job_of(prepared()), work, ITEMS[:2])
    assert len(server.requests) == 2
    assert usage.cost is None
    priced = prepared({"prompt_price": 1.0, "completion_price": 100.0, "concurrency": 1, "attempts": 9})
    again, usage = run(job_of(priced), work, ITEMS[:2], code="edited", environment="torch_2.14,cpu")
    assert again.equals(first)
    assert usage.cost == round(2 * (7 * 1.0 + 11 * 100.0) / 1e6, 6)
    assert len(server.requests) == 2  # other prices, waits, code and libraries: the same requests
    more, _ = run(job_of(priced), work, ITEMS)
    assert more.head(2).equals(first)
    assert len(server.requests) == 4  # two more questions
    run(job_of(priced, temperature=0.0), work, ITEMS[:1])
    run(job_of(priced, seed=6), work, ITEMS[:1])
    run(job_of(prepared(send_bos=True)), work, ITEMS[:1])
    assert len(server.requests) == 7  # what changes a request is asked for


def test_what_is_written_is_the_same_bytes_and_holds_no_key(
    server: FaultServer, prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"match": "What is 0 + 3", "choice": {"text": f"{CANARY}</think>\\boxed{{1}}"}}
    server.plan({"status": 500, "body": CANARY, "times": 2}, echo, hold=0.3)
    texts = []
    for number, concurrency in enumerate((1, 4)):
        job = job_of(prepared({"concurrency": concurrency}), shard_items=1)
        assert len(plan_shards(job, ITEMS, {})) == 1  # all questions are asked at a time, whatever the shard size
        rows, usage = run(job, tmp_path / f"work{number}")
        assert server.most_at_a_time == concurrency
        rows.write_parquet(tmp_path / f"{number}.parquet")
        texts.append(((tmp_path / f"{number}.parquet").read_bytes(), usage.text))
        server.plan(echo, hold=0.3)
    assert "[key]</think>" in rows["response"][0]
    assert texts[0] == texts[1]
    assert "4 of 4 replies" in caplog.text
    assert CANARY not in caplog.text
    assert files_with(CANARY, tmp_path) == []


def test_a_served_model_answers_no_pairs_and_has_no_activations(
    server: FaultServer, prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_of(prepared())
    assert list(plan_pair_shards(job, [Item("p-clean", "x?", "5", "comparison")], {"p"}, {})) == []
    assert "r1_full has no weights to patch" in caplog.text
    assert server.requests == []
    rows, _ = run(job, tmp_path / "work")
    params = parse(CaptureParams, yaml.safe_load((ROOT / "params.yaml").read_text())["capture"], "capture")
    assert captured_traces(CaptureJob(job.model_folder, "cpu", params), rows, "x") == []
    assert "none of 4 traces captured, r1_full has no weights" in caplog.text
