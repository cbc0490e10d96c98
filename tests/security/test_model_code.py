"""A model folder that brings code of its own: the code is not run, whether or not transformers could do without it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from r2a_core.activations.capture import CaptureJob
from r2a_core.config import Tags
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import load_model, load_tokenizer
from r2a_core.models.pointer import ModelPointer
from tests.small_models import one_layer_llama

TAGS = Tags(bos="<s>", eos="</s>", think_open="<think>", think_close="</think>")
WORDS = ["[UNK]", "<s>", "</s>", "<think>", "</think>"]
CODE = """
from pathlib import Path
Path({canary!r}).write_text("run")
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
class EvilTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random Llama whose config names a module beside it, which writes the file `canary` when it is imported."""
    folder = tmp_path / "evil"
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.add_tokens(WORDS[1:])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(str(folder))
    one_layer_llama().save_pretrained(str(folder))
    ModelPointer("train", "float32", TAGS).write(folder)
    (folder / "evil.py").write_text(CODE.format(canary=str(tmp_path / "canary")))
    names = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    change(folder / "config.json", auto_map=names)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]})
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_known_architecture_is_loaded_without_the_code(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder, "cpu")
    assert type(loaded.model) is LlamaForCausalLM
    assert type(load_tokenizer(folder).hf) is PreTrainedTokenizerFast
    assert not (tmp_path / "canary").exists()


def test_an_architecture_of_its_own_is_refused(folder: Path, tmp_path: Path) -> None:
    change(folder / "config.json", model_type="evil", architectures=["EvilModel"])
    started = time.monotonic()
    with pytest.raises(R2AError, match="the model evil cannot be loaded") as caught:
        load_model(folder, "cpu")
    assert caught.value.hint
    with pytest.raises(R2AError, match="the config of evil cannot be loaded"):
        assert CaptureJob(folder, None, "cpu").sizes  # type: ignore[arg-type]
    assert time.monotonic() - started < 12  # nobody was asked whether to run it
    assert not (tmp_path / "canary").exists()


def test_a_tokenizer_of_its_own_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    change(folder / "tokenizer_config.json", tokenizer_class="EvilTokenizer")
    change(folder / "config.json", model_type="evil")
    with pytest.raises(R2AError, match="the tokenizer of evil cannot be loaded"):
        load_tokenizer(folder)
    assert not (tmp_path / "canary").exists()


def test_the_code_would_have_been_seen(folder: Path, tmp_path: Path) -> None:
    """The same folder, read with consent: the canary is what the tests above look for."""
    change(folder / "config.json", model_type="evil")
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    assert (tmp_path / "canary").read_text() == "run"


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.write_text, (tmp_path / "canary", "run")

    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(R2AError, match="the model evil cannot be loaded"):
        load_model(folder, "cpu")
    assert not (tmp_path / "canary").exists()
