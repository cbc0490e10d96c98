"""A Ray cluster of two nodes on the loopback interface, and a random tiny model whose shards run on it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import ResourceParams, Tags
from r2a_core.infra.ray import ONLY_LOOPBACK
from r2a_core.models.pointer import ModelPointer

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ[ONLY_LOOPBACK] = "0"  # before Ray is imported, which reads it then

NODE = {
    "num_cpus": 1,
    "num_gpus": 0,
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80 * 2**20,
    "include_dashboard": False,
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """ray.cluster_utils.Cluster: a head and a second node, one CPU each, real processes that listen on 127.0.0.1."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


@pytest.fixture
def node() -> dict[str, Any]:
    """Options of one more node of the cluster."""
    return NODE


@pytest.fixture(scope="session")
def on_cluster(cluster: Any) -> ResourceParams:
    """Params that run shards on both nodes of the cluster."""
    return ResourceParams("ray", cluster.address, workers=2, start_seconds=300.0)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of a random model of two layers."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("random")
    tokenizer = build_tokenizer()
    torch.manual_seed(5)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **sizes, **heads)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    ModelPointer("train", "float32", Tags()).write(folder)
    return folder
