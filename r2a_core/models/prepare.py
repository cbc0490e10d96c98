"""One entry of `models` in params.yaml -> a prepared model folder, the uniform input of every later stage.

Kinds: train (a built-in model, weights written), hub (revision pinned, a pointer file only), local (a folder of this
machine, a pointer file only), texts (no weights: only imported texts go through it, tokenised by the built-in
tokenizer), endpoint (no weights: an OpenAI-compatible server gives its texts, tokenised likewise).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.builtin.train import train_reasoner
from r2a_core.config import (
    EndpointModel,
    HubModel,
    LocalModel,
    ModelParams,
    Tags,
    TextsModel,
    TrainedModel,
)
from r2a_core.infra.files import disk_errors
from r2a_core.models.pointer import POINTER, ModelPointer, check_local, files_digest, resolve_hub


def prepare(
    params: ModelParams, out_dir: Path, progress: Callable[[int, int, float], None] | None = None
) -> ModelPointer:
    """Writes the model folder of one entry, in the place of one prepared before. The folder has the model's name.

    Raises R2AError for a local folder that params.yaml does not pin to what it holds, MissingPrerequisite when the Hub
    or a folder cannot be reached, or the disk is full or not to be written.
    """
    if (out_dir / POINTER).is_file():
        (out_dir / POINTER).unlink()  # first: a folder without it is never taken for a model
        shutil.rmtree(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    match params:
        case TrainedModel():
            with disk_errors(None, out_dir / POINTER):
                train_reasoner(params.recipe, out_dir, progress)
            pointer = ModelPointer("train", params.dtype, params.tags, weights=files_digest(out_dir))
        case HubModel():
            revision = resolve_hub(params.hub_id, params.revision)
            pointer = ModelPointer("hub", params.dtype, params.tags, params.hub_id, revision)
        case LocalModel():
            check_local(params.path, params.sha256, out_dir.name)
            pointer = ModelPointer("local", params.dtype, params.tags, params.path, weights=params.sha256)
        case TextsModel():
            save_tokenizer(params.tags, out_dir)
            pointer = ModelPointer("texts", None, params.tags, weights=files_digest(out_dir))
        case EndpointModel():
            save_tokenizer(params.tags, out_dir)
            digest = files_digest(out_dir)
            pointer = ModelPointer("endpoint", None, params.tags, weights=digest, served=params)
    pointer.write(out_dir)
    return pointer


def save_tokenizer(tags: Tags, out_dir: Path) -> None:
    """Writes the built-in tokenizer of a model without weights."""
    with disk_errors(None, out_dir / POINTER):
        tokenizer_with(tags).save_pretrained(str(out_dir))


def tokenizer_with(tags: Tags) -> Any:
    """Returns the built-in tokenizer, with the tags that it lacks as tokens of their own."""
    from tokenizers import AddedToken

    tokenizer = build_tokenizer()
    wanted = [tag for tag in (tags.bos, tags.eos, tags.think_open, tags.think_close) if tag is not None]
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in wanted if tag not in tokenizer.get_vocab()])
    return tokenizer
