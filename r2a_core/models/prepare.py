"""One entry of `models` in params.yaml -> a prepared model folder, the uniform input of every later stage.

Kinds: train (a built-in model, weights written), hub (revision pinned, a pointer file only), local (a folder of this
machine, a pointer file only), texts (no weights: only imported texts go through it, tokenised by the built-in
tokenizer), endpoint (no weights: an OpenAI-compatible server gives its texts, tokenised likewise).
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from r2a_core.config import Revision, parse, shown
from r2a_core.errors import R2AError
from r2a_core.models.pointer import POINTER, ModelPointer, files_digest, resolve_hub, weights_digest
from r2a_core.models.served import ServedModel
from r2a_core.models.tags import Tags
from r2a_core.models.tokenizer import build_tokenizer
from r2a_core.models.training import TrainingRecipe, train_reasoner
from r2a_core.store import disk_errors

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainedModel:
    """A built-in reasoner that the pipeline trains."""

    kind: Literal["train"]
    recipe: TrainingRecipe
    dtype: Dtype = "float32"
    tags: Tags = field(default_factory=Tags)


@dataclass(frozen=True)
class HubModel:
    """A model of the Hugging Face Hub."""

    kind: Literal["hub"]
    hub_id: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
    revision: Revision  # branch, tag or commit; a commit is pinned
    dtype: Dtype
    tags: Tags


@dataclass(frozen=True)
class LocalModel:
    """A model folder of this machine, in Hugging Face format."""

    kind: Literal["local"]
    path: str
    dtype: Dtype
    tags: Tags


@dataclass(frozen=True)
class TextsModel:
    """A model known by its texts alone."""

    kind: Literal["texts"]
    tags: Tags = field(default_factory=Tags)


@dataclass(frozen=True)
class EndpointModel(ServedModel):
    """A model behind an OpenAI-compatible endpoint."""

    kind: Literal["endpoint"]
    tags: Tags = field(default_factory=Tags)

    @property
    def served(self) -> ServedModel:
        """How it is asked, without what every model has."""
        return ServedModel(**{each.name: getattr(self, each.name) for each in fields(ServedModel)})


ModelParams = TrainedModel | HubModel | LocalModel | TextsModel | EndpointModel
RECORDS: dict[str, type] = {
    "train": TrainedModel,
    "hub": HubModel,
    "local": LocalModel,
    "texts": TextsModel,
    "endpoint": EndpointModel,
}


def model_params(values: Any, section: str) -> ModelParams:
    """The record of one model entry. Raises R2AError for an unknown kind, key or value."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in RECORDS:
        raise R2AError(f"params.yaml: {section}.kind is {shown(kind)}", f"the kinds are {', '.join(RECORDS)}")
    return parse(RECORDS[kind], values, section)


def prepare(
    params: ModelParams, out_dir: Path, progress: Callable[[int, int, float], None] | None = None
) -> ModelPointer:
    """Writes the model folder of one entry, in the place of one prepared before.

    Raises MissingPrerequisite when the Hub or a folder cannot be reached, or the disk is full or not to be written.
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
            pointer = ModelPointer("local", params.dtype, params.tags, params.path, weights=weights_digest(params.path))
        case TextsModel():
            save_tokenizer(params.tags, out_dir)
            pointer = ModelPointer("texts", None, params.tags, weights=files_digest(out_dir))
        case EndpointModel():
            save_tokenizer(params.tags, out_dir)
            digest = files_digest(out_dir)
            pointer = ModelPointer("endpoint", None, params.tags, weights=digest, served=params.served)
    pointer.write(out_dir)
    return pointer


def save_tokenizer(tags: Tags, out_dir: Path) -> None:
    """Writes the built-in tokenizer of a model without weights."""
    with disk_errors(None, out_dir / POINTER):
        tokenizer_with(tags).save_pretrained(str(out_dir))


def tokenizer_with(tags: Tags) -> Any:
    """The built-in tokenizer, with the tags that it lacks as tokens of their own."""
    from tokenizers import AddedToken

    tokenizer = build_tokenizer()
    wanted = [tag for tag in (tags.bos, tags.eos, tags.think_open, tags.think_close) if tag is not None]
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in wanted if tag not in tokenizer.get_vocab()])
    return tokenizer
