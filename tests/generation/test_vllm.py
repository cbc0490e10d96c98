"""The back end vLLM through a stand-in for its module (stand_in_vllm.py)."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import torch

from r2a_core.config import Backends, BuiltinDataset
from r2a_core.data.items import Item
from r2a_core.generation import vllm as vllm_engine
from r2a_core.generation.sampling import request_seed
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards, read_shards
from r2a_core.generation.usage import shards_usage
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.shards import open_store
from tests.small_models import GREEDY as BASE_PARAMS

ITEMS = [Item(f"q{number}", f"{number * 37 % 11} {'and ' * (number % 3)}?", None, "open") for number in range(6)]
SOURCE = BuiltinDataset(kind="arithmetic", instruction=" Answer.", n=6, seed=0)
PARAMS = BASE_PARAMS.model_copy(update={"seed": 3, "retry": True})
TRANSFORMERS = Backends(default="transformers")
VLLM = Backends(default="vllm")


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in as the module vllm, on a machine that seems to have a GPU."""
    spec = importlib.util.spec_from_file_location("vllm", Path(__file__).with_name("stand_in_vllm.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vllm", module)
    spec.loader.exec_module(module)
    monkeypatch.setenv("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    monkeypatch.setattr(vllm_engine, "choose_device", lambda name: torch.device("cuda" if name == "auto" else name))
    return module


def run(folder: Path, root: Path, backend: Backends, device: str = "auto", **params: Any) -> pl.DataFrame:
    """What the generate stage does."""
    config = PARAMS.model_copy(update={"backend": backend, **params})
    job = GenerationJob(folder, device, "random", "without_reasoning", SOURCE, config)
    with open_store(root, "generate", "x") as store:
        paths = [path for shard in plan_shards(job, ITEMS, {}) for path in finish_shard(job, store, shard)]
        rows, usage = read_shards(paths), shards_usage(paths, job.imports)
    assert (usage.responses, usage.cost, usage.models) == (rows.height, None, ())
    assert usage.prompt_tokens == sum(len(ids) for ids in rows["prompt_ids"])
    assert usage.completion_tokens == sum(len(ids) for ids in rows["response_ids"])
    return rows


@pytest.mark.parametrize("keeps_stop_token", [True, False])
def test_vllm_gives_the_same_greedy_rows(
    model_folder: Callable[..., Path], vllm: ModuleType, tmp_path: Path, keeps_stop_token: bool
) -> None:
    vllm.LLM.keeps_stop_token = keeps_stop_token
    rows = run(model_folder(), tmp_path / "vllm", VLLM)
    assert len(vllm.LLM.made) == 1  # one engine for all shards and retries
    expected = run(model_folder(), tmp_path / "here", TRANSFORMERS, "cpu")
    assert rows.equals(expected)
    assert {"stop", "length"} == set(rows["finish"])


def test_what_vllm_is_told(
    model_folder: Callable[..., Path], vllm: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model_folder(), tmp_path, VLLM, temperature=0.6, retry=False)
    (made,) = vllm.LLM.made
    folder = str(model_folder())
    assert (made["model"], made["tokenizer"], made["revision"]) == (folder, folder, None)
    assert (made["dtype"], made["trust_remote_code"], made["load_format"]) == ("float32", False, "safetensors")
    assert (made["max_model_len"], made["generation_config"]) == (4096 + 20, "vllm")
    seeds = [params.seed for params in vllm.LLM.asked]
    assert seeds == [request_seed(3, item.item_id, 0) for item in ITEMS]
    assert len({*seeds, *(request_seed(4, item.item_id, 1) for item in ITEMS)}) == 2 * len(ITEMS)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert {params.temperature for params in vllm.LLM.asked} == {0.6}
    assert {params.max_tokens for params in vllm.LLM.asked} == {20}
    assert not any(params.detokenize for params in vllm.LLM.asked)
    monkeypatch.setattr(vllm_engine, "PROMPT_TOKENS", -8)
    with pytest.raises(R2AError, match=r"the prompt of q0 has .* tokens, the engine holds 12"):
        run(model_folder(), tmp_path / "small", VLLM)


def test_another_back_end_makes_other_shards(model_folder: Callable[..., Path], tmp_path: Path) -> None:
    prints = []
    for backend in (TRANSFORMERS, VLLM, Backends(default="transformers", models={"another": "vllm"})):
        config = PARAMS.model_copy(update={"backend": backend})
        job = GenerationJob(model_folder(), "cpu", "random", "with_reasoning", SOURCE, config)
        prints.append([shard.fingerprint for shard in plan_shards(job, ITEMS, {})])
    assert not set(prints[0]) & set(prints[1])
    assert prints[0] == prints[2]


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_vllm_needs_the_first_gpu_and_its_module(
    model_folder: Callable[..., Path], vllm: ModuleType, tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingPrerequisite, match=f"needs a GPU, and the first one it sees; the device is {device}"):
        run(model_folder(), tmp_path, VLLM, device)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingPrerequisite, match=r"\.\[vllm\]"):
        run(model_folder(), tmp_path, VLLM)
