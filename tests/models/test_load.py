"""Loading a prepared model: what is loaded, and each folder that is refused, with a hint; none runs code or pickles."""

import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from r2a_core.activations.capture import CaptureJob
from r2a_core.config import LocalModel, Tags
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.models.load import choose_device, load_hf, load_model, load_tokenizer, resolve_tags
from r2a_core.models.pointer import ModelPointer, read_pointer, weights_digest
from r2a_core.models.prepare import prepare
from tests.small_models import one_layer_llama

TAGS = Tags(bos="<s>", eos="</s>", think_open="<think>", think_close="</think>")
WORDS = ["[UNK]", "<s>", "</s>", "<think>", "</think>", "Hm", "so"]
REBUILD = "dvc repro --force prepare_model"
Change = Callable[[Path], Any]


def words_tokenizer(vocabulary: dict[str, int], **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, tags included."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer.add_tokens([word for word in vocabulary if word.startswith("<")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>", **special)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of one layer, as a folder of kind `train`."""
    folder = tmp_path_factory.mktemp("original")
    words_tokenizer({word: number for number, word in enumerate(WORDS)}).save_pretrained(str(folder))
    one_layer_llama().save_pretrained(str(folder))
    ModelPointer("train", "float32", TAGS).write(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "mine"))


def config(**change: Any) -> Change:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return spoil


def text(name: str, content: str | bytes) -> Change:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def removed(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return spoil


def cut(name: str, size: int) -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def filled(name: str, value: float) -> Change:
    return weights(lambda tensors: tensors[name].view(-1)[-1:].fill_(value))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def index(content: Any) -> Change:
    return text("model.safetensors.index.json", json.dumps(content))


def pointer(**change: Any) -> Change:
    def spoil(folder: Path) -> None:
        values = json.loads((folder / "model.json").read_text()) | change
        (folder / "model.json").write_text(json.dumps(values))

    return spoil


NORM, UP = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
CANNOT = "the model mine cannot be loaded"
DAMAGED = "model.json is damaged"
CASES: dict[str, tuple[Change, str | list[str], str]] = {
    "no config": (removed("config.json"), CANNOT, REBUILD),
    "no weights": (removed("model.safetensors"), CANNOT, REBUILD),
    "pickled weights only": (pickled, [CANNOT, "safetensors"], REBUILD),
    "an empty config": (text("config.json", ""), CANNOT, REBUILD),
    "a config that is no JSON": (text("config.json", "{"), CANNOT, REBUILD),
    "a config that is a list": (text("config.json", "[]"), CANNOT, REBUILD),
    "a config without a type": (text("config.json", "{}"), CANNOT, REBUILD),
    "a config that is no text": (text("config.json", b"\xff\xfe\x00"), CANNOT, REBUILD),
    "an unknown architecture": (config(model_type="llama9000"), [CANNOT, "llama9000"], REBUILD),
    "an architecture that is a number": (config(model_type=5), CANNOT, REBUILD),
    "an architecture that writes no text": (config(model_type="vit"), CANNOT, REBUILD),
    "no heads": (config(num_attention_heads=0), CANNOT, REBUILD),
    "heads that do not divide the width": (config(num_attention_heads=3, head_dim=None), CANNOT, REBUILD),
    "a width in words": (config(hidden_size="eight"), CANNOT, REBUILD),
    "a negative width": (config(hidden_size=-8), CANNOT, REBUILD),
    "an unknown activation": (config(hidden_act="step"), CANNOT, REBUILD),
    "more layers than weights": (config(num_hidden_layers=2), "the weights lack model.layers.1", REBUILD),
    "another width": (config(intermediate_size=12), "has the shape (8, 8), config.json asks for", REBUILD),
    "another vocabulary": (config(vocab_size=9), "has the shape (7, 8), config.json asks for (9, 8)", REBUILD),
    "a smaller vocabulary": (config(vocab_size=5), "has the shape (7, 8), config.json asks for (5, 8)", REBUILD),
    "a missing matrix": (weights(lambda w: w.pop(UP)), f"the weights lack {UP} (1 in all)", REBUILD),
    "no matrix at all": (weights(lambda w: [w.pop(name) for name in list(w)]), "the weights lack", REBUILD),
    "a matrix of another shape": (weights(lambda w: w.update({NORM: torch.ones(9)})), "has the shape (9,)", REBUILD),
    "a NaN": (filled(UP, float("nan")), f"the weight {UP} has values that are not finite", "again"),
    "an infinity": (filled(NORM, float("inf")), f"the weight {NORM} has values that are not finite", "again"),
    "a minus infinity": (filled(NORM, float("-inf")), "has values that are not finite", "download or train"),
    "weights cut in their header": (cut("model.safetensors", 20), CANNOT, REBUILD),
    "weights cut in a matrix": (cut("model.safetensors", 1500), CANNOT, REBUILD),
    "empty weights": (cut("model.safetensors", 0), CANNOT, REBUILD),
    "weights that are a pickle": (text("model.safetensors", pickle.dumps({"a": 1})), CANNOT, REBUILD),
    "weights that promise 2 EB": (text("model.safetensors", b"\xff" * 7 + b"\x1f{}"), CANNOT, REBUILD),
    "an index outside the folder": (
        index({"weight_map": {NORM: "../other/model.safetensors"}}),
        "index names '../other/model.safetensors', which is no file of its folder",
        "an index that came with the weights",
    ),
    "an index with a whole path": (index({"weight_map": {NORM: "/tmp/m.safetensors"}}), "no file of its", "an index"),
    "an index of no files": (index({"weight_map": 5}), "model.safetensors.index.json is damaged", "download"),
    "an index without a map": (index([]), "model.safetensors.index.json is damaged", "download"),
    "a pointer that is gone": (removed("model.json"), "model.json does not exist", "run: dvc repro prepare_model"),
    "an empty pointer": (text("model.json", ""), DAMAGED, REBUILD),
    "a pointer that is a list": (text("model.json", "[]"), DAMAGED, REBUILD),
    "a pointer that is null": (text("model.json", "null"), DAMAGED, REBUILD),
    "a pointer that is no text": (text("model.json", b"\xff\xfe"), DAMAGED, REBUILD),
    "a pointer of brackets": (text("model.json", "[" * 100_000), DAMAGED, REBUILD),
    "an unknown kind": (pointer(kind="magic"), [DAMAGED, "kind is 'magic'"], REBUILD),
    "a kind that is a list": (pointer(kind=["train"]), [DAMAGED, "kind is ['train']"], REBUILD),
    "an unknown field": (pointer(weight=5), [DAMAGED, "weight"], REBUILD),
    "tags in another form": (pointer(tags=["<s>"]), DAMAGED, REBUILD),
    "a tag that is a number": (pointer(tags={"eos": 2}), [DAMAGED, "eos"], REBUILD),
    "an unknown tag": (pointer(tags={"stop": "x"}), [DAMAGED, "stop"], REBUILD),
    "a dtype that is a number": (pointer(dtype=32), [DAMAGED, "dtype"], REBUILD),
    "an unknown dtype": (pointer(dtype="int8"), "dtype is 'int8'", "use one of float32"),
    "no dtype": (pointer(dtype=None), "mine has no weights (kind train)", "take it out of stages that run a model"),
    "a hub model without a source": (pointer(kind="hub"), [DAMAGED, "source is missing"], REBUILD),
    "a local model without a source": (pointer(kind="local", source=""), [DAMAGED, "source is missing"], REBUILD),
    "a local model elsewhere": (
        pointer(kind="local", source="/none"),
        "/none has no config.json",
        "give a model folder",
    ),
    "a model of texts": (pointer(kind="texts"), "mine has no weights (kind texts)", "take it out"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_cannot_be_right_is_refused(refused, folder: Path, case: str) -> None:
    spoil, says, hint = CASES[case]
    spoil(folder)
    refused(lambda: load_model(folder, "cpu"), says, hint)


def test_a_hub_name_that_is_a_folder_here_is_not_read(
    refused, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    commit = "0123456789abcdef0123456789abcdef01234567"
    ModelPointer("hub", "float32", TAGS, "owner/name", commit).write(folder)
    refused(lambda: load_model(folder, "cpu"), "owner/name is a file or folder here", "rename it")


def test_unused_weights_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights(lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(8)}))(folder)
    load_model(folder, "cpu")
    assert "model.layers.0.self_attn.q_proj.bias (1 in all) of the weights is used nowhere" in caplog.text


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_local_folder_that_is_no_model(refused, folder: Path, tmp_path: Path, missing: str) -> None:
    (folder / missing).unlink()
    params = LocalModel(kind="local", path=str(folder), dtype="float32", tags=TAGS)
    refused(lambda: prepare(params, tmp_path / "m"), "has no config.json with *.safetensors", "Hugging Face format")


@pytest.mark.parametrize("path", ["", "no/such/folder", "x" * 300, "~nobody_of_that_name/m"])
def test_a_local_path_that_leads_nowhere(refused, tmp_path: Path, path: str) -> None:
    params = LocalModel(kind="local", path=path, dtype="float32", tags=TAGS)
    refused(lambda: prepare(params, tmp_path / "m"), "has no config.json with *.safetensors", "Hugging Face format")


def test_a_local_model_that_changed(refused, folder: Path, tmp_path: Path) -> None:
    ModelPointer("local", "float32", TAGS, str(folder), weights=weights_digest(str(folder))).write(tmp_path)
    filled(NORM, 2.0)(folder)
    refused(lambda: load_model(tmp_path, "cpu"), "are not those that were prepared", "put them back")


TOKENIZERS: dict[str, tuple[Change, str | list[str], str]] = {
    "no files": (removed("tokenizer.json", "tokenizer_config.json"), "the tokenizer of mine cannot be loaded", REBUILD),
    "an empty file": (text("tokenizer.json", ""), "the tokenizer of mine cannot be loaded", REBUILD),
    "no JSON": (text("tokenizer.json", "{"), "the tokenizer of mine cannot be loaded", REBUILD),
    "another JSON": (text("tokenizer.json", '{"model": {"type": "Magic"}}'), "tokenizer of mine cannot be", REBUILD),
    "cut off": (cut("tokenizer.json", 300), "the tokenizer of mine cannot be loaded", REBUILD),
    "a damaged config": (text("tokenizer_config.json", "{"), "the tokenizer of mine cannot be loaded", REBUILD),
    "an unknown tag": (pointer(tags={"eos": "</s>", "bos": "<bos>"}), "the tag bos = '<bos>'", "correct tags.bos"),
    "a tag of two tokens": (
        lambda folder: ModelPointer("train", "float32", TAGS.model_copy(update={"think_close": "Hm so"})).write(folder),
        "the tag think_close = 'Hm so' is 2 tokens, not one",
        "correct tags.think_close of this model",
    ),
    "a tag that is a part of a word": (
        lambda folder: ModelPointer("train", "float32", TAGS.model_copy(update={"think_open": "Hmm"})).write(folder),
        "the tag think_open = 'Hmm' is unknown to the tokenizer",
        "correct tags.think_open",
    ),
    "an empty tag": (
        lambda folder: ModelPointer("train", "float32", TAGS.model_copy(update={"eos": ""})).write(folder),
        "the tag eos = '' is 0 tokens, not one",
        "correct tags.eos",
    ),
    "the same tags": (
        lambda folder: ModelPointer("train", "float32", TAGS.model_copy(update={"think_open": "</think>"})).write(
            folder
        ),
        "two of the tags eos, think_open and think_close are the same",
        "correct the tags",
    ),
    "a BOS that is a tag": (
        lambda folder: ModelPointer("train", "float32", TAGS.model_copy(update={"bos": "<think>"})).write(folder),
        "the tag bos is the same as a tag of the reasoning",
        "correct the tags",
    ),
    "padding that is a tag": (
        lambda folder: words_tokenizer(
            {word: number for number, word in enumerate(WORDS)}, pad_token="</think>"
        ).save_pretrained(str(folder)),
        "the tokenizer's padding token is the same as a tag of the reasoning",
        "correct the tags",
    ),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_that_cannot_be_right_is_refused(refused, folder: Path, case: str) -> None:
    spoil, says, hint = TOKENIZERS[case]
    spoil(folder)
    refused(lambda: load_tokenizer(folder), says, hint)
    refused(lambda: load_model(folder, "cpu"), says, hint)


@pytest.mark.parametrize("vocabulary", [[*WORDS, "one", "two"], [*WORDS[:5], "", "", "", "", "", "Hm"]])
def test_a_tokenizer_larger_than_the_embedding(refused, folder: Path, vocabulary: list[str]) -> None:
    numbers = {word: number for number, word in enumerate(vocabulary) if word}
    words_tokenizer(numbers).save_pretrained(str(folder))
    found = f"the tokenizer has {max(numbers.values()) + 1} tokens, the embedding 7 rows"
    refused(lambda: load_model(folder, "cpu"), found, "use the tokenizer that came with the weights")


def test_a_model_without_bos_is_read(folder: Path) -> None:
    ModelPointer("train", "float32", TAGS.model_copy(update={"bos": None})).write(folder)
    assert load_tokenizer(folder).ids.bos is None
    assert read_pointer(folder).tags.bos is None


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


def test_a_model_of_texts_has_a_tokenizer_only(folder: Path) -> None:
    ModelPointer("texts", None, TAGS).write(folder)
    assert load_tokenizer(folder).ids.think_close == 4
    with pytest.raises(R2AError, match="mine has no weights") as caught:
        load_model(folder, "cpu")
    assert caught.value.hint


def test_padding_is_the_tokenizers_own_where_it_has_one(folder: Path) -> None:
    tokenizer = load_tokenizer(folder).hf
    assert resolve_tags(tokenizer, TAGS).pad == 2
    tokenizer.pad_token = "Hm"
    assert resolve_tags(tokenizer, TAGS).pad == 5


def test_devices_by_name() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(R2AError, match="'gpu', which is no device"):
        choose_device("gpu")
    with pytest.raises(MissingPrerequisite, match="cuda:99 is not on this machine"):
        choose_device("cuda:99")


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
def evil(tmp_path: Path) -> Path:
    """A random Llama whose config names a module beside it, which writes the file `canary` when it is imported."""
    folder = tmp_path / "evil"
    words_tokenizer({word: number for number, word in enumerate(WORDS[:5])}).save_pretrained(str(folder))
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 5, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2)).save_pretrained(str(folder))
    ModelPointer("train", "float32", TAGS).write(folder)
    (folder / "evil.py").write_text(CODE.format(canary=str(tmp_path / "canary")))
    names = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    change(folder / "config.json", auto_map=names)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]})
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_known_architecture_is_loaded_without_the_code(evil: Path, tmp_path: Path) -> None:
    loaded = load_model(evil, "cpu")
    assert type(loaded.model) is LlamaForCausalLM
    assert type(load_tokenizer(evil).hf) is PreTrainedTokenizerFast
    assert not (tmp_path / "canary").exists()


def test_an_architecture_of_its_own_is_refused(evil: Path, tmp_path: Path) -> None:
    change(evil / "config.json", model_type="evil", architectures=["EvilModel"])
    started = time.monotonic()
    with pytest.raises(R2AError, match="the model evil cannot be loaded") as caught:
        load_model(evil, "cpu")
    assert caught.value.hint
    with pytest.raises(R2AError, match="the config of evil cannot be loaded"):
        assert CaptureJob(evil, None, "cpu").sizes  # type: ignore[arg-type]
    assert time.monotonic() - started < 12  # nobody was asked whether to run it
    assert not (tmp_path / "canary").exists()


def test_a_tokenizer_of_its_own_is_refused(evil: Path, tmp_path: Path) -> None:
    (evil / "tokenizer.json").unlink()
    change(evil / "tokenizer_config.json", tokenizer_class="EvilTokenizer")
    change(evil / "config.json", model_type="evil")
    with pytest.raises(R2AError, match="the tokenizer of evil cannot be loaded"):
        load_tokenizer(evil)
    assert not (tmp_path / "canary").exists()


def test_the_code_would_have_been_seen(evil: Path, tmp_path: Path) -> None:
    """The same evil, read with consent: the canary is what the tests above look for."""
    change(evil / "config.json", model_type="evil")
    AutoModelForCausalLM.from_pretrained(evil, trust_remote_code=True)
    assert (tmp_path / "canary").read_text() == "run"


def test_a_pickle_is_not_opened(evil: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.write_text, (tmp_path / "canary", "run")

    (evil / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Payload()}, evil / "pytorch_model.bin")
    with pytest.raises(R2AError, match="the model evil cannot be loaded"):
        load_model(evil, "cpu")
    assert not (tmp_path / "canary").exists()
