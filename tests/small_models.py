"""Models, tokenizers and params that several tests build on: small, random, and the same every time."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from r2a_core.activations.store import ActivationReader, shard_name
from r2a_core.activations.writer import Record, write_index, write_shard
from r2a_core.config import CaptureConfig, GenerateParams, Tags

GREEDY = GenerateParams(
    temperature=0.0,
    max_new_tokens=20,
    seed=0,
    runs=1,
    retry=False,
    without_mode="finished",
    limit=None,
    batch_size=4,
    tie_margin=1e-3,
    shard_items=4,
)


def byte_tokenizer() -> Any:
    """Bytes and the tags; ids 0..255 are the bytes in the order of their printable characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tags = Tags()
    tokenizer.add_special_tokens([AddedToken(str(tag), normalized=False) for tag in (tags.bos, tags.eos)])
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in (tags.think_open, tags.think_close)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=tags.bos, eos_token=tags.eos)


def one_layer_llama() -> Any:
    """A random Llama over seven words."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=7,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config)


def two_layers(kind: Any, config: Any, vocab_size: int) -> Any:
    """A random model of a transformers class, its weights large enough that a token depends on all before it."""
    torch.manual_seed(0)
    sizes = config(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    model = kind(sizes).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(weight, std=0.5)
    return model


EVERY_KIND = json.loads((Path(__file__).parent / "tiny_configs.json").read_text(encoding="utf-8"))


@cache
def tiny_model(kind: str) -> Any:
    """A random model of a kind of EVERY_KIND: 2 layers, 6 heads and 2 KV heads, float32, eager attention."""
    torch.manual_seed(0)
    sizes = {
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
    config = AutoConfig.for_model(**{**sizes, **EVERY_KIND[kind]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    for name, weight in model.named_parameters():
        if "norm" not in name:  # wide weights, so that attention is far from uniform
            torch.nn.init.normal_(weight, std=0.3)
    return model


def kept(rows: Any, dtype: Any = "float32", layers: tuple[int, ...] | None = None, **more: Any) -> CaptureConfig:
    """What is kept of a forward pass: queries of `rows`, keys, and nothing else but what is named."""
    streams = {"residual_layers": (), "z_layers": (), "stream_rows": "answer", **more}
    return CaptureConfig(rows=rows, dtype=dtype, layers=layers, **streams)


def stored_reader(folder: Path, *shards: list[Record]) -> ActivationReader:
    """Writes these shards into a folder and opens it."""
    paths = [folder / shard_name(number) for number in range(len(shards))]
    for path, records in zip(paths, shards, strict=True):
        write_shard(path, records, "print")
    write_index(folder / "index.parquet", paths)
    return ActivationReader(folder)
