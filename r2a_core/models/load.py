"""A prepared model folder -> model, tokenizer and tag ids, checked before the first forward pass.

data/models/<name>/, as r2a_core.models.pointer describes it -> LoadedModel, LoadedTokenizer. Only safetensors are read,
and code that comes with a model never runs.
"""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from r2a_core.config import Dtype, Tags
from r2a_core.infra.environment import chosen
from r2a_core.infra.errors import MissingPrerequisite, R2AError, first_line
from r2a_core.infra.memory import no_collection
from r2a_core.models.adapter import adapter_folder, merge_adapter
from r2a_core.models.pointer import (
    ModelPointer,
    check_files,
    from_pretrained_args,
    read_pointer,
    resolve_hub,
)
from r2a_core.tokenizer import LoadedTokenizer, TagIds

log = logging.getLogger(__name__)

# Where this package is installed, transformers uses it to fetch and run code of the Hub that a config.json names or an
# architecture prefers. Without it, models run transformers' own code alone.
sys.modules["kernels"] = None  # type: ignore[assignment]

QUANTISED = ("quantization_config", "compression_config")  # keys of config.json

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, in eval mode on its device."""

    model: Any  # transformers PreTrainedModel
    tokenizer: LoadedTokenizer

    @property
    def ids(self) -> TagIds:
        return self.tokenizer.ids


def load_tokenizer(folder: Path) -> LoadedTokenizer:
    """Load the tokenizer of a prepared model, its tags resolved to single tokens. Errors as in `load_model`."""
    return tokenizer_of(read_pointer(folder), folder)


@no_collection()
def tokenizer_of(pointer: ModelPointer, folder: Path) -> LoadedTokenizer:
    """Load the tokenizer that a pointer names. Errors as in `load_model`, about `folder`."""
    check_files(pointer, folder)
    place = from_pretrained_args(pointer, folder, weights=False)
    with transformers_errors(f"the tokenizer of {folder.name}", pointer):
        hf = read_tokenizer(place)
        ends = generation_ends(place)
    try:
        ids = resolve_tags(hf, pointer.tags)
    except R2AError as error:
        raise R2AError(f"{folder}: {error.message}", error.hint) from None
    tags = (ids.bos, ids.eos, ids.think_open, ids.think_close)  # they mean what params.yaml says
    known = set(hf.get_vocab().values())
    others = tuple(token for token in ends if token in known and token not in tags)
    return LoadedTokenizer(hf, pointer.tags, replace(ids, other_ends=others))


def read_tokenizer(place: dict[str, Any]) -> Any:
    """Read the tokenizer that the published tokenizer.json describes; place: see `from_pretrained_args`.

    AutoTokenizer puts the rules of its own class for the architecture in place of the file's (Qwen2's, for one). It is
    used only for models without that file.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils.hub import cached_file

    where_from = {name: value for name, value in place.items() if name != "pretrained_model_name_or_path"}
    name = place["pretrained_model_name_or_path"]
    described = cached_file(name, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **where_from)
    if described is not None:
        return PreTrainedTokenizerFast.from_pretrained(**place)
    return AutoTokenizer.from_pretrained(**place, trust_remote_code=False)


def generation_ends(place: dict[str, Any]) -> list[int]:
    """Reads which tokens end a text from a model's generation_config.json; none where it has no such file."""
    from transformers.utils.hub import cached_file

    where_from = {name: value for name, value in place.items() if name != "pretrained_model_name_or_path"}
    name = place["pretrained_model_name_or_path"]
    absent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}  # no error
    described = cached_file(name, "generation_config.json", **absent, **where_from)
    found = None if described is None else json.loads(Path(described).read_text(encoding="utf-8")).get("eos_token_id")
    return [] if found is None else found if isinstance(found, list) else [found]


def load_model(folder: Path, device: str = "auto") -> LoadedModel:
    """Load a prepared model onto `device` (auto: CUDA where present), with its architecture's default attention.

    That is SDPA, or eager where it has softcap or sinks, which SDPA lacks, whatever config.json asks for. The model's
    own generation defaults (temperature, penalties) are dropped, since the study's params say how tokens are chosen.
    Only safetensors are read, and code that comes with a model is never run.

    Raises MissingPrerequisite when weights or the device are missing, R2AError for models that cannot be right: tags
    that are not single tokens, embeddings smaller than the vocabulary, absent or non-finite weights, layers without
    softmax attention, a local folder that has changed since it was prepared. The model raises it at texts beyond its
    `rotary_limit`.
    """
    return model_of(read_pointer(folder), folder, device)


def load_hf(source: str, tags: Tags, dtype: Dtype, device: str = "auto", revision: str = "main") -> LoadedModel:
    """Load a transformers model as `load_model` does, without preparing it: a folder or, where none is, a Hub id.

    revision: branch, tag or commit of the Hub's repository; a folder has none. Raises as `load_model`, and
    MissingPrerequisite when the Hub cannot be reached.
    """
    if Path(source).expanduser().is_dir():
        return model_of(ModelPointer("local", dtype, tags, source), Path(source), device)
    return model_of(ModelPointer("hub", dtype, tags, source, resolve_hub(source, revision)), Path(source), device)


@no_collection()
def model_of(pointer: ModelPointer, folder: Path, device: str) -> LoadedModel:
    """Load the model that a pointer names. Raises as `load_model`, about `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    dtype = pointer.dtype
    if not pointer.has_weights or dtype is None:
        raise R2AError(f"{folder.name} has no weights (kind {pointer.kind})", "take it out of stages that run a model")
    if dtype not in DTYPES:
        raise R2AError(f"{folder.name}: dtype is {dtype!r}", f"use one of {', '.join(DTYPES)}")
    target = choose_device(device)
    tokenizer = tokenizer_of(pointer, folder)
    place = from_pretrained_args(pointer, folder, weights=True)
    check_weight_files(place, folder.name)
    with transformers_errors(f"the model {folder.name}", pointer):
        check_config(place, folder.name)
        config = AutoConfig.from_pretrained(**place, trust_remote_code=False)
        config._attn_implementation = None  # whatever config.json says, flash attention for one
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **place,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused below
        )
    check_files(pointer, folder)  # again: what was read is what was prepared
    model, report = loaded
    if absent := sorted(report["missing_keys"]):
        raise R2AError(f"{folder.name}: the weights lack {absent[0]} ({len(absent)} in all)", pointer.hint)
    if unlike := sorted(report["mismatched_keys"]):
        name, stored, wanted = unlike[0]
        raise R2AError(
            f"{folder.name}: the weight {name} has the shape {tuple(stored)}, config.json asks for {tuple(wanted)}",
            pointer.hint,
        )
    if unused := sorted(report["unexpected_keys"]):
        log.warning("%s: %s (%d in all) of the weights is used nowhere", folder.name, unused[0], len(unused))
    if pointer.adapter is not None:
        with transformers_errors(f"the adapter of {folder.name}", pointer):
            model = merge_adapter(model, adapter_folder(pointer.adapter, folder))
    check_layers(model, folder.name)
    model = bounded(model).to(target).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.ids.eos, pad_token_id=tokenizer.ids.pad)
    check_weights(model, tokenizer.hf, folder.name)
    return LoadedModel(model, tokenizer)


@contextmanager
def transformers_errors(what: str, pointer: ModelPointer) -> Iterator[None]:
    """Turns whatever transformers raises when files are absent or of the wrong form into a sentence with a way out.

    That is any exception: a value in config.json may end in a division by zero, and tokenizers raises a bare Exception.
    """
    from torch import OutOfMemoryError

    try:
        yield
    except (R2AError, OutOfMemoryError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: "
        raise MissingPrerequisite(f"{what} cannot be loaded: {kind}{first_line(error)[:300]}", pointer.hint) from None


def check_weight_files(place: dict[str, Any], name: str) -> None:
    """Raises R2AError when the index of a local model's weights names a file outside its folder."""
    index = Path(place["pretrained_model_name_or_path"]) / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        outside = sorted(str(file) for file in files if Path(file).name != file)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise R2AError(f"{name}: {index} is damaged: {error}", "download the model again") from None
    if outside:
        raise R2AError(
            f"{name}: the weights' index names {outside[0]!r}, which is no file of its folder",
            "use an index that came with the weights",
        )


def check_config(place: dict[str, Any], name: str) -> None:
    """Raises R2AError when config.json names code on the Hub, such as an attention kernel, or quantised weights."""
    from transformers import PreTrainedConfig

    def search(values: Any) -> None:
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            if any(word in str(key) for word in ("implementation", "kernel")) and "/" in json.dumps(value):
                said = f"{name}: config.json names code on the Hub, which is never run: {key} is {value!r}"
                raise R2AError(said, f"take {key} out of config.json")
            if key in QUANTISED and value:
                hint = "use the model before it was quantised, or a GGUF file of it (kind gguf), which is dequantised"
                raise R2AError(f"{name}: config.json has {key}: quantised weights are not read", hint)
            if isinstance(value, (dict, list)):
                search(value)

    config, _ = PreTrainedConfig.get_config_dict(**place)
    search(config)


def choose_device(name: str) -> Any:
    """Returns the torch device of a name.

    Raises MissingPrerequisite for CUDA or MPS where there is none, R2AError for other names.
    """
    import torch

    try:
        device = torch.device(chosen(name))
        counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
        count = counts[device.type]
    except (RuntimeError, KeyError):
        hint = "use auto, cpu, cuda, cuda:1 or mps"
        raise R2AError(f"R2A_DEVICE is {name!r}, which is no device that models run on", hint) from None
    if (device.index or 0) >= count:
        raise MissingPrerequisite(f"the device {name} is not on this machine", "use R2A_DEVICE=cpu, or see make doctor")
    return device


def resolve_tags(tokenizer: Any, tags: Tags) -> TagIds:
    """Returns the token ids of the tags. Raises R2AError naming the tag that is not one token of its own."""

    def single(name: str, tag: str) -> int:
        ids = tokenizer.encode(tag, add_special_tokens=False)
        if len(ids) != 1 or tokenizer.decode(ids, clean_up_tokenization_spaces=False) != tag:
            found = f"is {len(ids)} tokens, not one" if len(ids) != 1 else "is unknown to the tokenizer"
            raise R2AError(f"the tag {name} = {tag!r} {found}", f"correct tags.{name} of this model")
        return ids[0]

    eos, think_open, think_close = (single(name, getattr(tags, name)) for name in ("eos", "think_open", "think_close"))
    if len({eos, think_open, think_close}) < 3:
        raise R2AError("two of the tags eos, think_open and think_close are the same", "correct the tags of this model")
    bos = None if tags.bos is None else single("bos", tags.bos)
    pad = eos if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    for name, token in (("the tag bos", bos), ("the tokenizer's padding token", pad)):
        if token in (think_open, think_close):
            raise R2AError(f"{name} is the same as a tag of the reasoning", "correct the tags of this model")
    return TagIds(bos, eos, think_open, think_close, pad)


def check_weights(model: Any, tokenizer: Any, name: str) -> None:
    """Raises R2AError when the embedding lacks rows for the vocabulary or a weight is not finite."""
    import torch

    rows = model.get_input_embeddings().weight.shape[0]
    needed = max(tokenizer.get_vocab().values()) + 1
    if needed > rows:
        raise R2AError(
            f"{name}: the tokenizer has {needed} tokens, the embedding {rows} rows",
            "use the tokenizer that came with the weights",
        )
    for key, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise R2AError(
                f"{name}: the weight {key} has values that are not finite", "download or train the model again"
            )


def check_layers(model: Any, name: str) -> None:
    """Raises R2AError for state-space and hybrid models: what their layers carry along has no attention to measure."""
    types = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    others = sorted(types - {"full_attention", "sliding_attention", "chunked_attention"})
    if others or model._is_stateful:
        what = f"layers of the type {others[0]}" if others else "layers with a recurrent state"
        raise R2AError(
            f"{name}: {type(model).__name__} has {what}, the study needs softmax attention in every layer",
            "choose a model whose layers all have it (Llama, Qwen2, Qwen3, Mistral, Gemma, gpt-oss), "
            "or have texts alone from a server (kind endpoint)",
        )


def rotary_limit(config: Any) -> int | None:
    """Returns the tokens beyond which rotary positions depend on the length of the text; None = never.

    That is so with the scalings `dynamic` and `longrope`: at some length they turn all keys of a text, those in a cache
    excepted, and with them the keys of other texts in the batch.
    """
    text = config.get_text_config()
    found = getattr(text, "rope_parameters", None) or {}
    limits = []
    for each in (found, *found.values()):  # of all layers, or by layer type
        kind = each.get("rope_type") if isinstance(each, dict) else None
        if kind == "longrope":
            limits.append(each["original_max_position_embeddings"])
        elif kind == "dynamic":
            limits.append(text.max_position_embeddings)
    return min(limits, default=None)


def bounded(model: Any) -> Any:
    """Returns the model, which now raises R2AError at a text beyond its `rotary_limit`."""
    limit = rotary_limit(model.config)

    def check(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs["position_ids"] if "position_ids" in kwargs else args[1]
        last = int(positions.max())
        if limit is not None and last >= limit:
            raise beyond_limit(type(model).__name__, last + 1, limit)

    if limit is not None:
        for module in model.modules():
            if hasattr(module, "rope_type"):
                module.register_forward_pre_hook(check, with_kwargs=True)
    return model


def beyond_limit(name: str, n_tokens: int, limit: int) -> R2AError:
    """Returns the error of a text that is too long for rotary positions that do not depend on its length."""
    return R2AError(
        f"a text of {n_tokens} tokens: beyond {limit} the rotary scaling of {name} changes with the length of the text",
        "lower max_new_tokens or shorten the prompts, or give the model's config.json the scaling yarn, linear or none",
    )


def head_size(text: Any) -> int:
    """Numbers in one head's query, key or value, from the text part of a transformers config."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def kv_bytes(model: Any) -> int:
    """Bytes of the keys and values of one token in one layer."""
    text = model.config.get_text_config()
    return 2 * n_kv_heads(text) * head_size(text) * model.dtype.itemsize


def n_kv_heads(text: Any) -> int:
    """Heads of keys and values in a layer, from the text part of a transformers config: all heads without GQA."""
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads
