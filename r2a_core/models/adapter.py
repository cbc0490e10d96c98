"""A LoRA adapter in PEFT format, merged into a model's weights when it is loaded.

    adapter_config.json, adapter_model.safetensors: in a folder of this machine, a repository of the Hub, or adapter/ of
    a prepared model that was trained as one

Only safetensors are read, and of the config only what says which weights change and how.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2a_core.infra.errors import MissingPrerequisite, R2AError, first_line
from r2a_core.infra.hub import hub_access
from r2a_core.infra.pins import check_pin, content_digest

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

OF_ITS_BASE = "use the adapter with the base model it was trained on"

OWN = "adapter"  # folder in a prepared model's

UNDERSTOOD = (
    *(
        "r",
        "lora_alpha",
        "target_modules",
        "exclude_modules",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
    ),
    *("layers_to_transform", "layers_pattern", "fan_in_fan_out", "bias", "lora_bias", "modules_to_save"),
    *("trainable_token_indices", "target_parameters"),
)

WITHOUT_EFFECT = (  # on merged weights
    *("peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "auto_mapping"),
    *("inference_mode", "lora_dropout", "ensure_weight_tying", "qalora_group_size", "megatron_core"),
)


@dataclass(frozen=True)
class AdapterPointer:
    """Where an adapter lies: `path` or `hub_id`, or, with neither, in the prepared model's own folder."""

    path: str | None = None
    hub_id: str | None = None
    revision: str | None = None  # commit of hub_id
    sha256: str | None = None  # of the folder, see infra.pins; None for the Hub's


def adapter_folder(pointer: AdapterPointer, folder: Path, key: str = "adapter") -> Path:
    """Returns the folder of an adapter, downloaded when it is the Hub's and absent.

    folder: the prepared model's; key: of its params, for a message.
    Raises MissingPrerequisite when a file is absent, R2AError when it is a pickle or has changed.
    """
    if pointer.hub_id is not None:
        from huggingface_hub import snapshot_download

        with hub_access(pointer.hub_id, "connect this machine, or take the model out of run.models"):
            place = Path(snapshot_download(pointer.hub_id, revision=pointer.revision, allow_patterns=[CONFIG, WEIGHTS]))
    else:
        place = folder / OWN if pointer.path is None else Path(pointer.path).expanduser()
        if not place.is_dir():
            raise MissingPrerequisite(f"the adapter {place} does not exist", "put it there, or correct its place")
    for name in (CONFIG, WEIGHTS):
        if not (place / name).is_file():
            pickled = name == WEIGHTS and (place / "adapter_model.bin").is_file()
            raise MissingPrerequisite(
                f"the adapter {pointer.hub_id or place} has no {name}"
                + (", only a pickle, which is not opened" if pickled else ""),
                "give an adapter in PEFT format whose weights are saved as safetensors",
            )
    if pointer.path is not None:
        check_pin(place, pointer.sha256, f"models.{folder.name}.{key}.sha256")
    elif pointer.hub_id is None and content_digest(place) != pointer.sha256:
        raise R2AError(
            f"{place} is damaged: its files do not match the digest in model.json",
            "delete the model's folder, then rebuild it with: dvc repro prepare_model",
        )
    return place


def merge_adapter(model: Any, place: Path) -> Any:
    """Merges the adapter of a folder into a transformers model, which is changed and returned.

    Raises R2AError for a config that asks for more than a change of weights, and for weights that do not fit.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    found, config = read_weights(place / WEIGHTS), lora_config(place / CONFIG)
    rows = model.get_input_embeddings().weight.shape[0]
    check_tokens(config.trainable_token_indices, rows, place / CONFIG)
    try:
        changed = get_peft_model(model, config)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
    ) as error:  # modules it lacks or cannot change
        raise R2AError(f"{place / CONFIG} does not fit the model: {first_line(error)[:300]}", OF_ITS_BASE) from None
    wanted = get_peft_model_state_dict(changed, save_embedding_layers=False)
    for says, names in (("lacks", wanted.keys() - found.keys()), ("has", found.keys() - wanted.keys())):
        for name in sorted(names)[:1]:
            raise R2AError(f"{place / WEIGHTS} {says} {name}", OF_ITS_BASE)
    for name, tensor in sorted(found.items()):
        if tensor.shape != wanted[name].shape:
            shapes = f"the shape {tuple(tensor.shape)}, config and model ask for {tuple(wanted[name].shape)}"
            raise R2AError(f"{place / WEIGHTS}: {name} has {shapes}", OF_ITS_BASE)
    set_peft_model_state_dict(changed, found)
    # peft froze them; of frozen weights torch makes a copy for every row where the input is a slice, as of last tokens.
    return changed.merge_and_unload().requires_grad_(True)


def read_weights(path: Path) -> dict[str, Any]:
    """Reads adapter_model.safetensors, tensors by name. Raises R2AError when it is damaged or a value is not finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except SafetensorError as error:
        raise R2AError(
            f"{path} is no safetensors file: {first_line(error)}", "copy it again; a pickle is not opened"
        ) from None
    for name, tensor in sorted(found.items()):
        if not tensor.isfinite().all():
            raise R2AError(f"{path}: {name} has values that are not finite", "copy or train the adapter again")
    return found


def check_tokens(indices: Any, rows: int, path: Path) -> None:
    """Raises R2AError unless trainable_token_indices are rows of the embedding: a list, or lists by module."""
    lists = indices.values() if isinstance(indices, dict) else [indices or []]
    for index in (each for numbers in lists for each in numbers):
        if not isinstance(index, int) or not 0 <= index < rows:
            raise R2AError(f"{path} changes token {index!r} of a model of {rows} tokens", OF_ITS_BASE)


def lora_config(path: Path) -> Any:
    """Reads adapter_config.json -> peft.LoraConfig. Raises R2AError when it is damaged, or no plain LoRA."""
    from peft import LoraConfig

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["peft_type"] != "LORA":
            raise ValueError(f"peft_type is {values['peft_type']!r}, not LORA")
        defaults = LoraConfig().to_dict()
        for key, value in values.items():
            plain = key in UNDERSTOOD or key in WITHOUT_EFFECT or not value or value == defaults.get(key)
            if not plain and (key, value) != ("init_lora_weights", "gaussian"):
                raise ValueError(f"{key} is {str(value)[:60]!r}, which is more than a change of weights")
        for key in ("r", "lora_alpha"):
            if isinstance(values.get(key, 1), bool) or not isinstance(values.get(key, 1), (int, float)):
                raise ValueError(f"{key} is {str(values[key])[:60]!r}, not a number")
        return LoraConfig(**{key: values[key] for key in UNDERSTOOD if key in values})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise R2AError(f"{path} cannot be used: {reason}", "give a LoRA adapter in PEFT format") from None
