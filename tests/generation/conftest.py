"""A random reasoner of two layers over bytes, as a prepared model folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from r2a_core.config import Tags
from r2a_core.models.load import LoadedModel, load_model, resolve_tags
from r2a_core.models.pointer import ModelPointer
from r2a_core.tokenizer import LoadedTokenizer
from tests.small_models import byte_tokenizer, two_layers


def random_model(tokenizer: Any, twins: bool) -> Any:
    """Random weights that make the next token depend on all before it, and the end come after a dozen tokens or so.

    twins: every second token's logit is that of the token before it but for 1e-7, so that rounding alone decides.
    """
    model = two_layers(Qwen2ForCausalLM, Qwen2Config, len(tokenizer))
    with torch.no_grad():
        head = model.lm_head.weight
        head *= 0.6
        head[tokenizer.eos_token_id] *= 2
        if twins:
            head[1:256:2] = head[0:256:2] * (1 + 1e-7)
    return model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Writes (once) the folder of a random reasoner, with or without twin tokens."""
    folders: dict[bool, Path] = {}

    def write(twins: bool = False) -> Path:
        if twins not in folders:
            folder = tmp_path_factory.mktemp("twins" if twins else "random")
            hf = byte_tokenizer()
            random_model(hf, twins).save_pretrained(str(folder))
            hf.save_pretrained(str(folder))
            ModelPointer("train", "float32", Tags()).write(folder)
            folders[twins] = folder
        return folders[twins]

    return write


@pytest.fixture(scope="session")
def loaded(model_folder: Callable[[bool], Path]) -> LoadedModel:
    return load_model(model_folder(False), "cpu")


@pytest.fixture(scope="session")
def twins(model_folder: Callable[[bool], Path]) -> LoadedModel:
    return load_model(model_folder(True), "cpu")


@pytest.fixture(scope="session")
def tokenizer() -> LoadedTokenizer:
    """The byte tokenizer with its tags."""
    hf = byte_tokenizer()
    return LoadedTokenizer(hf, Tags(), resolve_tags(hf, Tags()))
