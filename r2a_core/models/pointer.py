"""What a prepared model folder stands for, and where its files lie.

data/models/<name>/model.json, the pointer every kind of model has:
    {"kind": "train" | "hub" | "local" | "gguf" | "texts" | "endpoint", "source": hub id, path or null,
     "revision": commit or null, "weights": digest of the files or null, "dtype": ..., "tags": {...}}
and, where there is one, "served": how the server is asked (endpoint; config.ServedModel, no key), "gguf": where the
file is (config.GgufSource) and "adapter": what is merged into the weights (models.adapter.AdapterPointer).
A model trained from a base has the pointer of its base, and its adapter in adapter/. Weights and tokenizer lie in the
same folder (train; texts and endpoint: tokenizer only), in the Hub cache (hub), at `source` (local) or in the user's
cache (gguf). The digest is that of params.yaml, over all files of `source` (local), or of all other files of the
folder (train, texts, endpoint). Paths that params.yaml gives relative to the project are relative to the folder here.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import ConfigDict

from r2a_core.config import Dtype, GgufSource, ServedModel, Tags, adapter
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import folder_digest, write_text_whole
from r2a_core.infra.hub import hub_access
from r2a_core.infra.pins import check_pin
from r2a_core.models.adapter import AdapterPointer
from r2a_core.models.gguf import unpacked

POINTER = "model.json"

KINDS = ("train", "hub", "local", "gguf", "texts", "endpoint")

WITHOUT_WEIGHTS = ("texts", "endpoint")

HUB_TIMEOUT = 20.0  # seconds


@dataclass(frozen=True)
class ModelPointer:
    """What a prepared model folder stands for."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # of a file that is read

    kind: str
    dtype: str | None
    tags: Tags
    source: str | None = None
    revision: str | None = None
    weights: str | None = None
    served: ServedModel | None = None
    gguf: GgufSource | None = None
    adapter: AdapterPointer | None = None

    def write(self, folder: Path) -> None:
        pointer = self.with_paths(lambda path: path if is_anywhere(path) else os.path.relpath(path, folder))
        values = adapter(ModelPointer).dump_python(pointer, mode="json")
        for key in ("served", "gguf", "adapter"):
            if values[key] is None:
                del values[key]
        text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
        write_text_whole(folder / POINTER, text + "\n")

    def with_paths(self, change: Callable[[str], str]) -> "ModelPointer":
        """Returns the pointer with every path in it changed."""
        pointer = self
        if pointer.kind == "local":
            pointer = replace(pointer, source=change(str(pointer.source)))
        if pointer.gguf is not None and pointer.gguf.path is not None:
            pointer = replace(pointer, gguf=pointer.gguf.model_copy(update={"path": change(pointer.gguf.path)}))
        if pointer.adapter is not None and pointer.adapter.path is not None:
            pointer = replace(pointer, adapter=replace(pointer.adapter, path=change(pointer.adapter.path)))
        return pointer

    @property
    def has_weights(self) -> bool:
        """Whether the model can be run here. The others have texts, or give some over the network."""
        return self.kind not in WITHOUT_WEIGHTS

    @property
    def hint(self) -> str:
        """What to do when the files cannot be loaded."""
        if self.kind == "hub":
            return (
                "connect to the Hugging Face Hub, or fill its cache beforehand: "
                f"hf download {self.source} --revision {self.revision}; for gated models: hf auth login"
            )
        if self.kind == "local":
            return f"check that {self.source} is a model folder with config.json and safetensors weights"
        if self.kind == "gguf":
            return "check that the file's entry in params.yaml suits it; tags may need tokens renamed (rename)"
        return "rebuild it with: dvc repro --force prepare_model"


def is_anywhere(path: str) -> bool:
    """Tells a path that means the same from every folder: an absolute one, or below a home."""
    return os.path.isabs(path) or path.startswith("~")


def read_pointer(folder: Path) -> ModelPointer:
    """Returns the pointer of a prepared model.

    Raises MissingPrerequisite when there is none, R2AError when it is damaged.
    """
    path = folder / POINTER
    if not path.is_file():
        raise MissingPrerequisite(f"{path} does not exist", "run: dvc repro prepare_model")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["kind"] not in KINDS:
            raise ValueError(f"kind is {values['kind']!r}")
        pointer = adapter(ModelPointer).validate_python(values)
        if values["kind"] in ("hub", "local") and not values.get("source"):
            raise ValueError("source is missing")
        if values["kind"] == "local" and not values.get("weights"):
            raise ValueError("weights is missing")
        if (pointer.gguf is None) == (pointer.kind == "gguf"):
            raise ValueError("gguf belongs to kind gguf, and only there")
        if (pointer.served is None) == (pointer.kind == "endpoint"):
            raise ValueError("served belongs to kind endpoint, and only there")
        root = folder.absolute()
        return pointer.with_paths(lambda path: path if is_anywhere(path) else os.path.normpath(root / path))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise R2AError(f"{path} is damaged: {reason}", "rebuild it with: dvc repro --force prepare_model") from None


def resolve_hub(hub_id: str, revision: str) -> str:
    """Returns the commit (40 hex digits) that `revision`, a branch, tag or commit, names now.

    A full commit is its own answer and needs no network. Raises MissingPrerequisite when the Hub
    does not tell.
    """
    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    commit = ask_hub(hub_id, revision)
    if commit is None:
        raise MissingPrerequisite(f"{hub_id}: the Hub names no commit for {revision!r}", "give a branch, tag or commit")
    return commit


def ask_hub(hub_id: str, revision: str) -> str | None:
    """Returns the commit of a revision by one request.

    Raises MissingPrerequisite soon: a download would try for minutes.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    with hub_access(hub_id, "connect this machine, or take the model out of run.models"):
        if constants.HF_HUB_OFFLINE:
            raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
        return HfApi().model_info(hub_id, revision=revision, timeout=HUB_TIMEOUT).sha


def check_local(path: str, pinned: str | None, name: str) -> None:
    """Checks a local model folder against the pin of params.yaml, models.<name>.sha256 (see `check_pin`).

    Raises MissingPrerequisite when the folder lacks config or weights.
    """
    try:
        folder = Path(path).expanduser()
        whole = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    except (OSError, RuntimeError):  # a name that the file system refuses, a home of nobody
        folder, whole = Path(path), False
    if not whole:
        raise MissingPrerequisite(
            f"{path} has no config.json with *.safetensors weights", "give a model folder in Hugging Face format"
        )
    check_pin(folder, pinned, f"models.{name}.sha256")


def files_digest(folder: Path) -> str:
    """Returns the digest over the files of a prepared folder but its pointer."""
    return folder_digest(folder, without=(POINTER,))


def check_files(pointer: ModelPointer, folder: Path) -> None:
    """Raises R2AError when a model's files are not those that were prepared: one bit can change a number."""
    if pointer.weights is None:
        return
    if pointer.kind == "local":
        check_local(str(pointer.source), pointer.weights, folder.name)
    elif pointer.kind != "hub" and pointer.weights != files_digest(folder):
        raise R2AError(
            f"{folder} is damaged: its files do not match the digest in {POINTER}",
            "delete the folder, then rebuild it with: dvc repro prepare_model",
        )


def from_pretrained_args(pointer: ModelPointer, folder: Path, weights: bool) -> dict[str, Any]:
    """Arguments of from_pretrained for the place of a pointer's files: with `weights`, or the tokenizer alone.

    Only kind `hub` may use the network, and only for what its cache lacks at the pinned commit.
    """
    if pointer.kind in ("train", *WITHOUT_WEIGHTS):
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
    if pointer.gguf is not None:
        assert pointer.dtype is not None
        place = unpacked(pointer.gguf, cast(Dtype, pointer.dtype))
        return {"pretrained_model_name_or_path": str(place), "local_files_only": True}
    source = str(pointer.source)
    if pointer.kind == "local":
        return {"pretrained_model_name_or_path": str(Path(source).expanduser()), "local_files_only": True}
    if Path(source).exists():
        raise R2AError(
            f"{source} is a file or folder here, which transformers would read in place of the Hub's model",
            "rename it, or start the stage elsewhere",
        )
    revision = str(pointer.revision)
    cached = is_cached(source, revision, weights)
    if not cached:
        ask_hub(source, revision)
    return {"pretrained_model_name_or_path": source, "revision": revision, "local_files_only": cached}


def is_cached(hub_id: str, revision: str, weights: bool) -> bool:
    """Tells whether the Hub cache holds the tokenizer, or the config and all weight files, of a commit."""
    from huggingface_hub import try_to_load_from_cache

    def cached(name: str) -> Path | None:
        found = try_to_load_from_cache(hub_id, name, revision=revision)
        return Path(found) if isinstance(found, str) else None

    if not weights:
        return cached("tokenizer.json") is not None and cached("tokenizer_config.json") is not None
    if cached("config.json") is None:
        return False
    index = cached("model.safetensors.index.json")
    if index is None:
        return cached("model.safetensors") is not None
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all(cached(name) is not None for name in names)
