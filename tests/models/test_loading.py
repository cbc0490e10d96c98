"""Loading a prepared model: what is loaded, and each way in which it may not be right, as a sentence with a way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from r2a_core.config import Tags
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.models.load import choose_device, load_hf, load_model, load_tokenizer, resolve_tags
from r2a_core.models.pointer import ModelPointer, weights_digest
from tests.small_models import one_layer_llama

TAGS = Tags(bos="<s>", eos="</s>", think_open="<think>", think_close="</think>")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of one layer and a tokenizer of words, as a folder of kind `train`."""
    folder = tmp_path_factory.mktemp("original")
    words = ["[UNK]", "<s>", "</s>", "<think>", "</think>", "Hm", "so"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>").save_pretrained(
        str(folder)
    )
    model = one_layer_llama()
    model.generation_config.update(do_sample=True, temperature=0.1, repetition_penalty=2.0)
    model.save_pretrained(str(folder))
    ModelPointer("train", "float32", TAGS).write(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "mine"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_the_model_is_that_of_the_folder(original: Path) -> None:
    loaded = load_model(original, "cpu")
    stored = load_file(original / "model.safetensors")
    assert torch.equal(loaded.model.model.embed_tokens.weight, stored["model.embed_tokens.weight"])
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "sdpa"
    ids = loaded.ids
    assert (ids.bos, ids.eos, ids.think_open, ids.think_close, ids.pad) == (1, 2, 3, 4, 2)
    defaults = loaded.model.generation_config
    assert (defaults.do_sample, defaults.repetition_penalty) != (True, 2.0)


def test_the_dtype_is_that_of_the_pointer(original: Path, folder: Path) -> None:
    ModelPointer("train", "bfloat16", TAGS).write(folder)
    half = load_model(folder, "cpu")
    assert half.model.dtype == torch.bfloat16
    assert load_model(original, "cpu").model.dtype == torch.float32


def test_a_local_folder_is_loaded_from_where_it_lies(original: Path, tmp_path: Path) -> None:
    ModelPointer("local", "float32", TAGS, str(original), weights=weights_digest(str(original))).write(tmp_path)
    assert load_model(tmp_path, "cpu").model.num_parameters() > 0
    assert load_tokenizer(tmp_path).ids.eos == 2


def test_a_transformers_folder_is_loaded_without_preparing_it(original: Path, folder: Path) -> None:
    (folder / "model.json").unlink()
    loaded, prepared = load_hf(str(folder), TAGS, "float32", "cpu"), load_model(original, "cpu")
    assert loaded.ids == prepared.ids
    assert all(map(torch.equal, loaded.model.parameters(), prepared.model.parameters()))
    assert load_hf(str(folder), TAGS, "bfloat16", "cpu").model.dtype == torch.bfloat16
    assert not (folder / "model.json").exists()
    with pytest.raises(R2AError, match=r"mine: the tag eos = '<end>' is unknown") as caught:
        load_hf(str(folder), Tags(bos="<s>", eos="<end>"), "float32", "cpu")
    assert caught.value.hint == "correct tags.eos of this model"


def test_a_name_that_is_no_folder_is_a_hub_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingPrerequisite, match="someone/mine is not in the local Hub cache"):
        load_hf("someone/mine", TAGS, "float32", "cpu")


def test_local_weights_that_changed_are_refused(folder: Path, tmp_path: Path) -> None:
    ModelPointer("local", "float32", TAGS, str(folder), weights=weights_digest(str(folder))).write(tmp_path)
    change_weights(folder, lambda weights: weights["model.norm.weight"].add_(1))
    with pytest.raises(R2AError, match="are not those that were prepared"):
        load_model(tmp_path, "cpu")


def test_a_model_of_texts_has_a_tokenizer_only(folder: Path) -> None:
    ModelPointer("texts", None, TAGS).write(folder)
    assert load_tokenizer(folder).ids.think_close == 4
    with pytest.raises(R2AError, match="mine has no weights") as caught:
        load_model(folder, "cpu")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"think_open": "<reason>"}, "think_open = '<reason>' is unknown to the tokenizer"),
        ({"think_close": "Hm so"}, "think_close = 'Hm so' is 2 tokens, not one"),
        ({"bos": ""}, "bos = '' is 0 tokens"),
        ({"think_open": "</think>"}, "the same"),
    ],
)
def test_tags_that_are_no_single_tokens(folder: Path, change: dict[str, str], message: str) -> None:
    ModelPointer("train", "float32", TAGS.model_copy(update=change)).write(folder)
    with pytest.raises(R2AError, match=message) as caught:
        load_model(folder, "cpu")
    assert "correct" in caught.value.hint


def test_a_model_without_bos_has_none(folder: Path) -> None:
    ModelPointer("train", "float32", TAGS.model_copy(update={"bos": None})).write(folder)
    assert load_tokenizer(folder).ids.bos is None


def test_padding_is_the_tokenizers_own_where_it_has_one(folder: Path) -> None:
    tokenizer = load_tokenizer(folder).hf
    assert resolve_tags(tokenizer, TAGS).pad == 2
    tokenizer.pad_token = "Hm"
    assert resolve_tags(tokenizer, TAGS).pad == 5


def test_a_vocabulary_larger_than_the_embedding(folder: Path) -> None:
    tokenizer = load_tokenizer(folder).hf
    tokenizer.add_tokens(["one", "two"])
    tokenizer.save_pretrained(str(folder))
    with pytest.raises(R2AError, match="the tokenizer has 9 tokens, the embedding 7 rows") as caught:
        load_model(folder, "cpu")
    assert "tokenizer that came with the weights" in caught.value.hint


def test_weights_that_are_not_finite(folder: Path) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.0.mlp.up_proj.weight"][3, 2] = torch.nan

    change_weights(folder, spoil)
    with pytest.raises(R2AError, match=r"mlp\.up_proj\.weight has values that are not finite"):
        load_model(folder, "cpu")


def test_weights_that_are_missing(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.pop("model.layers.0.self_attn.q_proj.weight"))
    with pytest.raises(R2AError, match=r"the weights lack .*q_proj\.weight \(1 in all\)") as caught:
        load_model(folder, "cpu")
    assert "prepare_model" in caught.value.hint


def test_weights_of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 12}))
    with pytest.raises(
        R2AError, match=r"down_proj\.weight has the shape \(8, 8\), config\.json asks for \(8, 12\)"
    ) as caught:
        load_model(folder, "cpu")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_files_that_are_gone(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(MissingPrerequisite, match="the model mine cannot be loaded") as caught:
        load_model(folder, "cpu")
    assert caught.value.hint == "rebuild it with: dvc repro --force prepare_model"


def test_a_file_that_is_cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MissingPrerequisite, match="the model mine cannot be loaded"):
        load_model(folder, "cpu")


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingPrerequisite):
        load_model(folder, "cpu")


def test_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(MissingPrerequisite, match="the tokenizer of mine cannot be loaded"):
        load_tokenizer(folder)


def test_devices_by_name() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(R2AError, match="'gpu', which is no device"):
        choose_device("gpu")
    with pytest.raises(MissingPrerequisite, match="cuda:99 is not on this machine"):
        choose_device("cuda:99")
