"""What keeps a model out of the study: each refusal is a sentence with a way out.

a model's files, config, layers or weights -> R2AError where they cannot be right; whatever transformers raises ->
MissingPrerequisite. Code that comes with a model never runs.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r2a_core.infra.errors import MissingPrerequisite, R2AError, first_line
from r2a_core.models.pointer import ModelPointer

log = logging.getLogger(__name__)

QUANTISED = ("quantization_config", "compression_config")  # keys of config.json


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


def check_names(report: dict[str, Any], name: str, hint: str) -> None:
    """Raises R2AError when weights are missing or have another shape than config.json says; logs those without use.

    report: transformers' loading info, the names of such weights.
    """
    if absent := sorted(report["missing_keys"]):
        raise R2AError(f"{name}: the weights lack {absent[0]} ({len(absent)} in all)", hint)
    if unlike := sorted(report["mismatched_keys"]):
        key, stored, wanted = unlike[0]
        raise R2AError(
            f"{name}: the weight {key} has the shape {tuple(stored)}, config.json asks for {tuple(wanted)}", hint
        )
    if unused := sorted(report["unexpected_keys"]):
        log.warning("%s: %s (%d in all) of the weights is used nowhere", name, unused[0], len(unused))
