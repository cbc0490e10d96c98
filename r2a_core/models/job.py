"""What the shards of every stage that runs a model share: one loaded model and one tokenizer.

a prepared model folder, a device -> ModelJob, of which each stage's own job is made.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from r2a_core.models.load import LoadedModel, load_model
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.tokenizer import LoadedTokenizer


@dataclass(frozen=True)
class ModelJob:
    """A prepared model on a device. Model and tokenizer load when a shard first needs them."""

    model_folder: Path
    device: str

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(self.model_folder, self.device)

    @cached_property
    def tokenizer(self) -> LoadedTokenizer:
        return load_tokenizer(self.model_folder)
