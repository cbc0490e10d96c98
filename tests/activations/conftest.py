"""Tiny random models of every attention kind."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

CONFIGS = json.loads((Path(__file__).parent / "tiny_configs.json").read_text())
SIZES = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 16384,
    "pad_token_id": 0,
}


@cache
def build(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{**SIZES, **CONFIGS[kind]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for name, weight in model.named_parameters():
        if "norm" not in name:  # wide weights, so that attention is far from uniform
            torch.nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def tiny_model() -> Callable[[str], Any]:
    """Builds (once) a random model of 2 layers, 6 heads and 2 KV heads, float32, eager attention."""
    return build
