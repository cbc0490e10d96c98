"""A random reasoner of two layers over bytes, as a prepared model folder."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from r2a_core.config import Tags
from r2a_core.models.load import LoadedModel, load_model
from r2a_core.models.pointer import ModelPointer
from tests.small_models import byte_tokenizer, two_layers


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Writes (once) the folder of a random reasoner whose next token depends on all before it and whose end comes soon.

    twins: every second token's logit is that of the token before it but for 1e-7, so that rounding alone decides.
    """

    @cache
    def write(twins: bool = False) -> Path:
        folder = tmp_path_factory.mktemp("model")
        tokenizer = byte_tokenizer()
        model = two_layers(Qwen2ForCausalLM, Qwen2Config, len(tokenizer))
        with torch.no_grad():
            head = model.lm_head.weight
            head *= 0.6
            head[tokenizer.eos_token_id] *= 2
            if twins:
                head[1:256:2] = head[0:256:2] * (1 + 1e-7)
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        ModelPointer("train", "float32", Tags()).write(folder)
        return folder

    return write


@pytest.fixture(scope="session")
def loaded(model_folder: Callable[[bool], Path]) -> LoadedModel:
    return load_model(model_folder(False), "cpu")


@pytest.fixture(scope="session")
def twins(model_folder: Callable[[bool], Path]) -> LoadedModel:
    return load_model(model_folder(True), "cpu")
