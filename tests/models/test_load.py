"""Loading a prepared model: what is loaded, and each folder that is refused, with a hint; none runs code or pickles."""

import importlib.util
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from r2a_core.activations.capture import CaptureJob, forward
from r2a_core.config import LocalModel, Tags
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.pins import content_digest
from r2a_core.models.load import choose_device, load_hf, load_model
from r2a_core.models.pointer import ModelPointer
from r2a_core.models.prepare import prepare
from r2a_core.models.tokenizers import load_tokenizer, resolve_tags
from tests.random_models import save_random_model
from tests.small_models import GREEDY, one_layer_llama

TAGS = Tags(bos="<s>", eos="</s>", think_open="<think>", think_close="</think>")
WORDS = ["[UNK]", "<s>", "</s>", "<think>", "</think>", "Hm", "so"]
NORM = "model.norm.weight"
REFUSED = json.loads(Path(__file__).with_name("refused_folders.json").read_text(encoding="utf-8"))


def words_tokenizer(words: list[str], **special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, tags included; "" leaves an id out."""
    vocabulary = {word: number for number, word in enumerate(words) if word}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    tokenizer.add_tokens([word for word in vocabulary if word.startswith("<")])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>", **special)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of one layer, as a folder of kind `train`."""
    folder = tmp_path_factory.mktemp("original")
    words_tokenizer(WORDS).save_pretrained(str(folder))
    one_layer_llama().save_pretrained(str(folder))
    ModelPointer("train", "float32", TAGS).write(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "mine"))


def spoil(folder: Path, kind: str, *how: Any) -> None:
    """Spoils a model folder as an entry of refused_folders.json says."""
    weights = folder / "model.safetensors"
    match kind, *how:
        case "merge", name, values:
            (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))
        case "write", name, content, *times:
            (folder / name).write_bytes(content.encode("latin-1") * (times[0] if times else 1))
        case "remove", *names:
            for name in names:
                (folder / name).unlink()
        case "cut", name, size:
            (folder / name).write_bytes((folder / name).read_bytes()[:size])
        case "pad", word:
            words_tokenizer(WORDS, pad_token=word).save_pretrained(str(folder))
        case "pickle", *_:
            torch.save(load_file(weights), folder / "pytorch_model.bin")
            weights.unlink()
        case "fill", name, value:
            tensors = load_file(weights)
            tensors[name].view(-1)[-1:].fill_(value)
            save_file(tensors, weights, {"format": "pt"})
        case "tensors", *shapes:  # null takes a tensor out; no shapes: takes out all
            tensors = load_file(weights)
            for name, shape in (shapes[0] if shapes else dict.fromkeys(tensors)).items():
                tensors[name] = torch.ones(shape or 0)
            tensors = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
            save_file(tensors, weights, {"format": "pt"})
        case _:
            raise ValueError(kind)


@pytest.mark.parametrize("case", REFUSED["models"])
def test_a_model_that_cannot_be_right_is_refused(refused, folder: Path, case: str) -> None:
    change, says, hint = REFUSED["models"][case]
    spoil(folder, *change)
    refused(lambda: load_model(folder, "cpu"), says, hint)


@pytest.mark.parametrize("case", REFUSED["tokenizers"])
def test_a_tokenizer_that_cannot_be_right_is_refused(refused, folder: Path, case: str) -> None:
    change, says, hint = REFUSED["tokenizers"][case]
    spoil(folder, *change)
    refused(lambda: load_tokenizer(folder), says, hint)
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
    spoil(folder, "tensors", {"model.layers.0.self_attn.q_proj.bias": [8]})
    load_model(folder, "cpu")
    assert "model.layers.0.self_attn.q_proj.bias (1 in all) of the weights is used nowhere" in caplog.text


@pytest.mark.parametrize("path", ["mine", "", "no/such/folder", "x" * 300, "~nobody_of_that_name/m"])
def test_a_local_path_that_leads_to_no_model(refused, folder: Path, tmp_path: Path, path: str) -> None:
    (folder / "model.safetensors").unlink()
    params = local(folder if path == "mine" else Path(path))
    refused(lambda: prepare(params, tmp_path / "m"), "has no config.json with *.safetensors", "Hugging Face format")


def local(folder: Path, **values: Any) -> LocalModel:
    return LocalModel(kind="local", path=str(folder), dtype="float32", tags=TAGS, **values)


def test_a_local_model_is_prepared_once_it_is_pinned(refused, folder: Path, tmp_path: Path) -> None:
    found, out = content_digest(folder), tmp_path / "m"
    line = f"models.m.sha256: {found}"
    refused(lambda: prepare(local(folder), out), "models.m.sha256 is null", line)
    refused(lambda: prepare(local(folder, sha256="0" * 64), out), "is not what models.m.sha256 says", line)
    assert not (out / "model.json").exists()
    assert prepare(local(folder, sha256=found), out).weights == found


@pytest.mark.parametrize("edited", ["weights", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_local_model_that_changed(refused, folder: Path, tmp_path: Path, edited: str) -> None:
    prepare(local(folder, sha256=content_digest(folder)), tmp_path / "m")
    load_model(tmp_path / "m", "cpu")
    if edited == "weights":
        spoil(folder, "fill", NORM, 2.0)
    else:
        (folder / edited).write_text((folder / edited).read_text().replace("\n", "\n "))
    for load in (load_tokenizer, load_model):
        line = f"models.m.sha256: {content_digest(folder)}"
        refused(lambda load=load: load(tmp_path / "m"), "is not what models.m.sha256 says", line)


@pytest.mark.parametrize("vocabulary", [[*WORDS, "one", "two"], [*WORDS[:5], "", "", "", "", "", "Hm"]])
def test_a_tokenizer_larger_than_the_embedding(refused, folder: Path, vocabulary: list[str]) -> None:
    words_tokenizer(vocabulary).save_pretrained(str(folder))
    found = f"the tokenizer has {len(vocabulary)} tokens, the embedding 7 rows"
    refused(lambda: load_model(folder, "cpu"), found, "use the tokenizer that came with the weights")


def test_the_model_is_that_of_the_folder(original: Path) -> None:
    loaded = load_model(original, "cpu")
    stored = load_file(original / "model.safetensors")
    assert torch.equal(loaded.model.model.embed_tokens.weight, stored["model.embed_tokens.weight"])
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32
    assert loaded.model.config._attn_implementation == "sdpa"
    ids = loaded.ids
    assert (ids.bos, ids.eos, ids.think_open, ids.think_close, ids.pad) == (1, 2, 3, 4, 2)
    defaults = loaded.model.generation_config
    assert (defaults.do_sample, defaults.repetition_penalty) != (True, 2.0)


def test_dtype_and_tags_are_those_of_the_pointer(folder: Path) -> None:
    ModelPointer("train", "bfloat16", TAGS.model_copy(update={"bos": None})).write(folder)
    assert load_model(folder, "cpu").model.dtype == torch.bfloat16
    assert load_tokenizer(folder).ids.bos is None
    ModelPointer("texts", None, TAGS).write(folder)
    assert load_tokenizer(folder).ids.think_close == 4


def test_a_local_folder_is_loaded_from_where_it_lies(original: Path, tmp_path: Path) -> None:
    prepare(local(original, sha256=content_digest(original)), tmp_path)
    assert load_model(tmp_path, "cpu").model.num_parameters() > 0
    assert load_tokenizer(tmp_path).ids.eos == 2


def test_a_transformers_folder_is_loaded_without_preparing_it(
    original: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.json").unlink()
    loaded, prepared = load_hf(str(folder), TAGS, "float32", "cpu"), load_model(original, "cpu")
    assert loaded.ids == prepared.ids
    assert all(map(torch.equal, loaded.model.parameters(), prepared.model.parameters()))
    assert load_hf(str(folder), TAGS, "bfloat16", "cpu").model.dtype == torch.bfloat16
    assert not (folder / "model.json").exists()
    with pytest.raises(R2AError, match=r"mine: the tag eos = '<end>' is unknown") as caught:
        load_hf(str(folder), Tags(bos="<s>", eos="<end>"), "float32", "cpu")
    assert caught.value.hint == "correct tags.eos of this model"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MissingPrerequisite, match="someone/mine is not in the local Hub cache"):
        load_hf("someone/mine", TAGS, "float32", "cpu")  # a name that is no folder is a Hub id


def test_what_else_ends_a_text_is_read_from_the_generation_config(folder: Path) -> None:
    path = folder / "generation_config.json"
    # the tags eos and </think>, a word, and an id of no token
    path.write_text(json.dumps({"eos_token_id": [2, 4, 5, 999]}), encoding="utf-8")
    ids = load_tokenizer(folder).ids
    assert (ids.ends, ids.think_close) == ((2, 5), 4)
    assert load_model(folder, "cpu").ids == ids
    for written, ends in (({"eos_token_id": 5}, (2, 5)), ({}, (2,))):
        path.write_text(json.dumps(written), encoding="utf-8")
        assert load_tokenizer(folder).ids.ends == ends


def test_padding_is_the_tokenizers_own_where_it_has_one(folder: Path) -> None:
    tokenizer = load_tokenizer(folder).hf
    assert resolve_tags(tokenizer, TAGS).pad == 2
    tokenizer.pad_token = "Hm"
    assert resolve_tags(tokenizer, TAGS).pad == 5


def test_devices_by_name() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "", "meta", "xpu", "cuda:-1"):
        with pytest.raises(R2AError, match=f"{name!r}, which is no device"):
            choose_device(name)
    for name in ("cuda:99", "cpu:7", "mps:9"):
        with pytest.raises(MissingPrerequisite, match=f"{name} is not on this machine"):
            choose_device(name)


@pytest.mark.parametrize("wanted", ["flash_attention_2", "eager", {"": "flash_attention_2"}])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_model_has_its_default_attention_whatever_its_config_says(folder: Path, key: str, wanted: Any) -> None:
    spoil(folder, "merge", "config.json", {key: wanted})
    assert load_model(folder, "cpu").model.config._attn_implementation == "sdpa"


def test_transformers_finds_no_package_that_fetches_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert importlib.util.find_spec("kernels") is None
    with pytest.raises(ImportError):
        importlib.import_module("kernels")


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
def evil(folder: Path, tmp_path: Path) -> Path:
    """A Llama whose config names a module beside it, which writes the file `canary` when it is imported."""
    (folder / "evil.py").write_text(CODE.format(canary=str(tmp_path / "canary")))
    names = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    spoil(folder, "merge", "config.json", {"auto_map": names})
    tokenizer = {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]}
    spoil(folder, "merge", "tokenizer_config.json", {"auto_map": tokenizer})
    return folder


def test_no_code_of_a_model_folder_runs(evil: Path, tmp_path: Path) -> None:
    assert type(load_model(evil, "cpu").model) is LlamaForCausalLM
    assert type(load_tokenizer(evil).hf) is PreTrainedTokenizerFast
    spoil(evil, "merge", "config.json", {"model_type": "evil", "architectures": ["EvilModel"]})
    started = time.monotonic()
    with pytest.raises(R2AError, match="the model mine cannot be loaded"):
        load_model(evil, "cpu")
    with pytest.raises(R2AError, match="the config of mine cannot be loaded"):
        assert CaptureJob(evil, "cpu", None).sizes  # type: ignore[arg-type]
    assert time.monotonic() - started < 12  # nobody was asked whether to run it
    assert not (tmp_path / "canary").exists()
    AutoModelForCausalLM.from_pretrained(evil, trust_remote_code=True)  # with consent the canary would have sung
    assert (tmp_path / "canary").read_text() == "run"


def test_no_code_of_a_tokenizer_runs(evil: Path, tmp_path: Path) -> None:
    (evil / "tokenizer.json").unlink()
    spoil(evil, "merge", "tokenizer_config.json", {"tokenizer_class": "EvilTokenizer"})
    spoil(evil, "merge", "config.json", {"model_type": "evil"})
    with pytest.raises(R2AError, match="the tokenizer of mine cannot be loaded"):
        load_tokenizer(evil)
    assert not (tmp_path / "canary").exists()


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return Path.write_text, (tmp_path / "canary", "run")

    (folder / "model.safetensors").unlink()
    torch.save({NORM: Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(R2AError, match="the model mine cannot be loaded"):
        load_model(folder, "cpu")
    assert not (tmp_path / "canary").exists()


EXPERTS = {"num_experts_per_tok": 1, "head_dim": 8}
LINEAR = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}


@pytest.mark.parametrize(
    ("kind", "sizes", "found"),
    [
        ("mamba", {}, "MambaForCausalLM has layers of the type linear_attention"),
        ("qwen3_next", {**EXPERTS, **LINEAR, "num_experts": 2}, "Qwen3NextForCausalLM has layers of the type linear_"),
        ("minimax", {**EXPERTS, "num_local_experts": 2}, "MiniMaxForCausalLM has layers of the type linear_attention"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "Lfm2ForCausalLM has layers of the type conv"),
        ("rwkv", {}, "RwkvForCausalLM has layers with a recurrent state"),
    ],
)
def test_layers_without_softmax_attention_are_refused_by_name(refused, tmp_path: Path, kind, sizes, found) -> None:
    save_random_model(tmp_path, kind, 0, num_hidden_layers=2, **sizes)
    refused(lambda: load_model(tmp_path, "cpu"), found, "choose a model whose layers all have it")


LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
TURNING = {
    "phi3": {"rope_parameters": LONG, "original_max_position_embeddings": 40, "pad_token_id": 0},
    "llama": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
}


@pytest.mark.parametrize("kind", TURNING)
def test_rotary_positions_that_depend_on_the_length_are_used_up_to_where_they_do(refused, tmp_path: Path, kind) -> None:
    save_random_model(tmp_path, kind, 0, num_hidden_layers=2, max_position_embeddings=40, **TURNING[kind])
    loaded = load_model(tmp_path, "cpu")
    prompts = [tuple(range(5, 5 + length)) for length in (8, 30, 12, 25)]
    requests = [GenerationRequest(str(number), 0, prompt) for number, prompt in enumerate(prompts)]
    short, too_long = (GREEDY.model_copy(update={"max_new_tokens": tokens}) for tokens in (10, 11))
    alone = [generate(loaded, [request], short)[0] for request in requests]
    assert generate(loaded, requests, short) == alone
    found = f"a text of 41 tokens: beyond 40 the rotary scaling of {type(loaded.model).__name__} changes"
    refused(lambda: generate(loaded, requests, too_long), found, "lower max_new_tokens")
    forward(loaded.model, range(40))
    refused(lambda: forward(loaded.model, range(41)), found, "lower max_new_tokens")
