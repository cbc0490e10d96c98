"""Random models of a few layers, alone and as prepared model folders."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.models.pointer import ModelPointer

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}


def random_model(kind: str, seed: int, dtype: torch.dtype = torch.float32, **sizes: Any) -> Any:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**SIZES, **sizes})
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def save_random_model(folder: Path, kind: str, seed: int, **sizes: Any) -> None:
    """A random model with the built-in tokenizer, as a prepared model folder."""
    tokenizer = build_tokenizer()
    more = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, "initializer_range": 0.3}
    random_model(kind, seed, **{**more, **sizes}).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    ModelPointer("train", "float32", Tags()).write(folder)


def contents(data: Path, folders: Iterable[str]) -> dict[str, bytes]:
    """The files of these folders of a study's data."""
    files = [path for name in folders for path in (data / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(data)): path.read_bytes() for path in files}
