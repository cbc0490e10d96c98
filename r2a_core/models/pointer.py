"""What a prepared model folder stands for, and where its files lie.

data/models/<name>/model.json, the pointer every kind of model has:
    {"kind": "train" | "hub" | "local" | "texts" | "endpoint", "source": hub id, path or null,
     "revision": commit or null, "weights": digest of the files or null, "dtype": ..., "tags": {...}}
and, for kind `endpoint` only, "served": how the server is asked (config.ServedModel; no key).
Weights and tokenizer lie in the same folder (train; texts and endpoint: tokenizer only), in the Hub cache (hub) or at
`source` (local). The digest is of config and weights (local), or of all other files of the folder (train, texts,
endpoint).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from r2a_core.config import ServedModel, Tags, adapter
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import TEMPORARY, folder_digest, sha256, write_text_whole
from r2a_core.infra.hub import hub_access
from r2a_core.infra.shards import fingerprint

POINTER = "model.json"

KINDS = ("train", "hub", "local", "texts", "endpoint")

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

    def write(self, folder: Path) -> None:
        values = adapter(ModelPointer).dump_python(self, mode="json")
        if self.served is None:
            del values["served"]
        text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
        write_text_whole(folder / POINTER, text + "\n")

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
        return "rebuild it with: dvc repro --force prepare_model"


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
        if (pointer.served is None) == (pointer.kind == "endpoint"):
            raise ValueError("served belongs to kind endpoint, and only there")
        return pointer
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


def weights_digest(path: str) -> str:
    """Returns the digest over config and weights of a local model folder.

    Raises MissingPrerequisite when they are absent.
    """
    return fingerprint(files={file.name: sha256(file) for file in weight_files(path)})


def weight_files(path: str) -> list[Path]:
    """Returns the config and weights of a local model folder. Raises MissingPrerequisite when they are absent."""
    try:
        folder = Path(path).expanduser()
        weights = sorted(folder.glob("*.safetensors")) if (folder / "config.json").is_file() else []
    except (OSError, RuntimeError):  # a name that the file system refuses, a home of nobody
        folder, weights = Path(path), []
    if not weights:
        raise MissingPrerequisite(
            f"{path} has no config.json with *.safetensors weights", "give a model folder in Hugging Face format"
        )
    return [folder / "config.json", *weights]


def files_digest(folder: Path) -> str:
    """Returns the digest over the files of a prepared folder but its pointer, and what a killed run left of one."""
    return folder_digest(folder, without=(POINTER, f"{TEMPORARY}{POINTER}"))


def check_whole(pointer: ModelPointer, folder: Path) -> None:
    """Raises R2AError when the files beside a pointer are not those that were prepared: one bit can change a number."""
    if pointer.kind in ("train", *WITHOUT_WEIGHTS) and pointer.weights not in (None, files_digest(folder)):
        raise R2AError(
            f"{folder} is damaged: its files do not match the digest in {POINTER}",
            "delete the folder, then rebuild it with: dvc repro prepare_model",
        )


def check_unchanged(pointer: ModelPointer, name: str) -> None:
    """Raises R2AError when the folder of a local model has no weights, or not those that were prepared."""
    if pointer.kind != "local":
        return
    weight_files(str(pointer.source))
    if pointer.weights is not None and weights_digest(str(pointer.source)) != pointer.weights:
        raise R2AError(
            f"{name}: the weights in {pointer.source} are not those that were prepared",
            "put them back, or prepare the model again: dvc repro --force prepare_model",
        )


def from_pretrained_args(pointer: ModelPointer, folder: Path, weights: bool) -> dict[str, Any]:
    """Arguments of from_pretrained for the place of a pointer's files: with `weights`, or the tokenizer alone.

    Only kind `hub` may use the network, and only for what its cache lacks at the pinned commit.
    """
    if pointer.kind in ("train", *WITHOUT_WEIGHTS):
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True}
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
