"""One entry of `models` in params.yaml -> a prepared model folder, the uniform input of every later stage.

Kinds: train (a built-in model: all weights written, or the adapter of a base model); a pointer file only: hub (revision
pinned), local (a folder of this machine) and gguf (a file), both with pinned content; no weights: texts (only imported
texts go through it, tokenised by the built-in tokenizer) and endpoint (an OpenAI-compatible server gives its texts,
tokenised likewise).
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from r2a_core.builtin.tasks.texts import training_texts
from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.builtin.train import train_reasoner
from r2a_core.config import (
    AdapterRecipe,
    EndpointModel,
    GgufModel,
    GgufSource,
    HubModel,
    LocalModel,
    ModelParams,
    Tags,
    TextsModel,
    TrainedModel,
    TrainingRecipe,
)
from r2a_core.infra.environment import dtype_here
from r2a_core.infra.files import disk_errors
from r2a_core.infra.pins import content_digest
from r2a_core.infra.shards import Work
from r2a_core.models.adapter import OWN, AdapterPointer, adapter_folder
from r2a_core.models.finetune import fine_tune, save_adapter
from r2a_core.models.gguf import checked_file
from r2a_core.models.load import model_of
from r2a_core.models.pointer import POINTER, ModelPointer, check_local, files_digest, resolve_hub
from r2a_core.models.training_state import States


def prepare(
    params: ModelParams,
    out_dir: Path,
    progress: Callable[[int, int, float], None] | None = None,
    work: Work | None = None,
    device: str = "auto",
) -> ModelPointer:
    """Writes the model folder of one entry, in the place of one prepared before. The folder has the model's name.

    work: keeps the state of a training from a base model, so that it can go on after a kill; device: where it trains,
    and for which dtype `auto` is decided.
    Raises R2AError for a folder or file that params.yaml does not pin to what it holds, MissingPrerequisite when the
    Hub, a folder, a file or a package cannot be reached, or the disk is full or not to be written.
    """
    if (out_dir / POINTER).is_file():
        (out_dir / POINTER).unlink()  # first: a folder without it is never taken for a model
        shutil.rmtree(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    match params:
        case TrainedModel(recipe=AdapterRecipe() as recipe):
            with disk_errors(None, out_dir / POINTER):
                pointer = train_adapter(recipe, out_dir, progress, work, device)
        case TrainedModel(recipe=TrainingRecipe() as recipe):
            with disk_errors(None, out_dir / POINTER):
                train_reasoner(recipe, out_dir, progress)
            pointer = ModelPointer(
                "train", dtype_here(params.dtype, device), params.tags, weights=files_digest(out_dir)
            )
        case HubModel() | LocalModel() | GgufModel():
            pointer = point_to(params, out_dir, device)
        case TextsModel():
            save_tokenizer(params.tags, out_dir)
            pointer = ModelPointer("texts", None, params.tags, weights=files_digest(out_dir))
        case EndpointModel():
            save_tokenizer(params.tags, out_dir)
            digest = files_digest(out_dir)
            pointer = ModelPointer("endpoint", None, params.tags, weights=digest, served=params)
    pointer.write(out_dir)
    return pointer


def point_to(params: HubModel | LocalModel | GgufModel, out_dir: Path, device: str) -> ModelPointer:
    """Makes the pointer of weights that lie elsewhere; what it names is checked or pinned. Raises as `prepare`."""
    pointer = ModelPointer(params.kind, dtype_here(params.dtype, device), params.tags)
    match params:
        case HubModel():
            revision = resolve_hub(params.hub_id, params.revision)
            pointer = replace(pointer, source=params.hub_id, revision=revision)
        case LocalModel():
            check_local(params.path, params.sha256, out_dir.name)
            pointer = replace(pointer, source=params.path, weights=params.sha256)
        case GgufModel():
            source = GgufSource(**{name: getattr(params, name) for name in GgufSource.model_fields})
            if source.hub_id is not None:
                source = source.model_copy(update={"revision": resolve_hub(source.hub_id, str(source.revision))})
            checked_file(source)
            pointer = replace(pointer, gguf=source)
    if params.adapter is None:
        return pointer
    place = AdapterPointer(**params.adapter.model_dump())
    if place.hub_id is not None:
        place = replace(place, revision=resolve_hub(place.hub_id, str(place.revision)))
    adapter_folder(place, out_dir)
    return replace(pointer, adapter=place)


def train_adapter(
    recipe: AdapterRecipe,
    out_dir: Path,
    progress: Callable[[int, int, float], None] | None,
    work: Work | None,
    device: str,
) -> ModelPointer:
    """Trains the adapter of a base model and writes it into out_dir/adapter. Raises as `prepare`."""
    pointer = point_to(recipe.base, out_dir, device)
    base = model_of(pointer, out_dir, device)
    texts = training_texts(recipe.seed, recipe.mix)
    states = None if work is None else States(work.store, work.base, recipe)
    start = None
    if recipe.start is not None:
        start = adapter_folder(AdapterPointer(**recipe.start.model_dump()), out_dir, "recipe.start")
    tensors, course = fine_tune(recipe, base.model, base.tokenizer, texts, states, progress, start)
    save_adapter(recipe, base.tokenizer, tensors, course, out_dir / OWN)
    return replace(pointer, adapter=AdapterPointer(sha256=content_digest(out_dir / OWN)))


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
