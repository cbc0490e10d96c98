"""A prepared model folder -> model, tokenizer and tag ids, checked before the first forward pass.

data/models/<name>/, as r2a_core.models.pointer describes it -> LoadedModel. Only safetensors are read, and code that
comes with a model never runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2a_core.config import Dtype, Tags
from r2a_core.infra.environment import chosen
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.memory import no_collection
from r2a_core.models.adapter import adapter_folder, merge_adapter
from r2a_core.models.architecture import bounded
from r2a_core.models.checks import (
    check_config,
    check_layers,
    check_names,
    check_weight_files,
    check_weights,
    transformers_errors,
)
from r2a_core.models.pointer import (
    ModelPointer,
    check_files,
    from_pretrained_args,
    read_pointer,
    resolve_hub,
)
from r2a_core.models.tokenizers import tokenizer_of
from r2a_core.tokenizer import LoadedTokenizer, TagIds

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run, in eval mode on its device."""

    model: Any  # transformers PreTrainedModel
    tokenizer: LoadedTokenizer

    @property
    def ids(self) -> TagIds:
        return self.tokenizer.ids


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
    from transformers import GenerationConfig

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
        model, report = read_model(place, dtype)
    check_files(pointer, folder)  # again: what was read is what was prepared
    check_names(report, folder.name, pointer.hint)
    if pointer.adapter is not None:
        with transformers_errors(f"the adapter of {folder.name}", pointer):
            model = merge_adapter(model, adapter_folder(pointer.adapter, folder))
    check_layers(model, folder.name)
    model = bounded(model).to(target).eval()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.ids.eos, pad_token_id=tokenizer.ids.pad)
    check_weights(model, tokenizer.hf, folder.name)
    return LoadedModel(model, tokenizer)


def read_model(place: dict[str, Any], dtype: str) -> Any:
    """Read config and weights -> the model, and transformers' report of weights that do not fit it.

    place: see `from_pretrained_args`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(**place, trust_remote_code=False)
    config._attn_implementation = None  # whatever config.json says, flash attention for one
    return AutoModelForCausalLM.from_pretrained(
        **place,
        config=config,
        dtype=getattr(torch, dtype),
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported, and refused by check_names
    )


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
