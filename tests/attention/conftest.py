"""Tiny random models of every attention kind, and a tokenizer of bytes."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

CONFIGS = json.loads((Path(__file__).parent.parent / "activations" / "tiny_configs.json").read_text())
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


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
