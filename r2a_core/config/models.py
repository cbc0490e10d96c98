"""The section `models`: where a model comes from, or how it is trained, with its tags."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from r2a_core.config.endpoint import ServedModel
from r2a_core.config.values import (
    AnyDtype,
    Count,
    HubId,
    NonNegative,
    Pin,
    Positive,
    Record,
    Revision,
    Share,
    Text,
    Whole,
    format_value,
    refused,
)


class Tags(Record):
    """Tag strings of one model; each must be a single token of its tokenizer.

    bos is None for models whose prompts start without one; the first segment is then the first prompt token.
    """

    bos: Text | None = "<｜begin▁of▁sentence｜>"
    eos: Text = "<｜end▁of▁sentence｜>"
    think_open: Text = "<think>"
    think_close: Text = "</think>"


class TextMix(Record):
    """Shares of training samples."""

    comparison: Share  # comparisons; the rest is arithmetic
    without_reasoning: Share  # prompts that end the reasoning at once
    probing: Share  # traces that end in "Final answer is X.", half of them boxed
    perturbed: Share  # traces with wrong values that the answer follows
    contradicted: Share  # of the perturbed: the probing phrase names another answer
    padded: Share  # texts with padding at the starts of their segments


TaskName = Literal["stories", "comparisons", "days", "orders", "swaps", "bystander", "two_people"]

AnswerSource = Literal["trace", "question", "last_line"]


class TaskMix(Record):
    """Shares of training texts in natural English."""

    tasks: dict[TaskName, NonNegative]  # how often each task is drawn, in proportion
    without_reasoning: Share  # of texts: the prompt ends the reasoning, and the answer comes at once
    probing: Share  # of traces: end in "Final answer is X.", half of them boxed
    perturbed: Share  # of traces: a wrong value that the rest and the answer follow
    contradicted: Share  # of perturbed traces: the probing phrase names another answer, which the answer follows
    padded: Share  # of traces: padding at the starts of their segments
    answers: dict[TaskName, AnswerSource] = {}  # what the answer of a task is taken from; of those left out: trace

    @field_validator("tasks")
    @classmethod
    def some_task(cls, tasks: dict[TaskName, float]) -> dict[TaskName, float]:
        """Refuses a mix that no text can be drawn from."""
        if not any(tasks.values()):
            raise refused("has no share above 0", "give at least one task a share above 0")
        return tasks

    @model_validator(mode="after")
    def answers_of_tasks(self) -> Self:
        """Refuses a source of answers for a task that is never drawn."""
        for task in self.answers.keys() - self.tasks.keys():
            raise refused(f"names {task} in answers, which tasks does not have", f"add {task} to tasks, or take it out")
        return self


class TrainingRecipe(Record):
    """Architecture and training of a built-in reasoner."""

    architecture: Literal["qwen2", "llama"]
    seed: Whole
    threads: Count  # CPU threads
    n_layers: Count
    width: Count  # of the residual stream
    n_heads: Count  # query heads
    n_kv_heads: Count  # key and value heads
    mlp_width: Count
    steps: Count  # optimizer steps on texts
    batch_tokens: Count  # tokens per step, about
    copy_steps: Whole  # optimizer steps of the copy warm-up, which comes first
    copy_tokens: Count  # tokens per step of the copy warm-up
    ramp_steps: Count  # linear rise of the learning rates
    flat_share: Share  # of the steps on texts at full learning rate; then linearly to 0
    muon_rate: Positive  # learning rate of the layers' matrices
    adam_rate: Positive  # learning rate of embeddings, norms and biases
    previous_token: NonNegative  # strength of the heads that start on the previous token; 0 = none
    induction: NonNegative  # strength of the heads that start as induction heads; 0 = none
    mix: TextMix


class AdapterPlace(Record):
    """A LoRA adapter in PEFT format: a folder of this machine, or a repository of the Hub at a revision."""

    path: Text | None = None
    sha256: Pin = None  # of the folder at path; null ends in an error that says it
    hub_id: HubId | None = None
    revision: Revision | None = None  # of hub_id; prepare_model pins the commit it finds

    @model_validator(mode="after")
    def one_place(self) -> Self:
        if (self.path is None) == (self.hub_id is None) or (self.hub_id is None) != (self.revision is None):
            raise refused("is neither a folder nor a Hub id with its revision", "give path, or hub_id and revision")
        return self


class HubModel(Record):
    """A model of the Hugging Face Hub."""

    kind: Literal["hub"]
    hub_id: HubId
    revision: Revision  # prepare_model pins the commit it finds
    dtype: AnyDtype
    tags: Tags
    adapter: AdapterPlace | None = None  # merged into the weights when they are loaded


class LocalModel(Record):
    """A model folder of this machine, in Hugging Face format."""

    kind: Literal["local"]
    path: Text
    sha256: Pin = None  # of the folder; null ends in an error that says it
    dtype: AnyDtype
    tags: Tags
    adapter: AdapterPlace | None = None


class GgufSource(Record):
    """A GGUF file, of an installed package, a folder of this machine or the Hub; exactly one of the three is given."""

    package: Annotated[Text, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None  # as Python imports it; it is not run
    path: Text | None = None  # folder
    hub_id: HubId | None = None
    revision: Revision | None = None  # of hub_id
    file: Annotated[Text, Field(pattern=r"^[^/\\]+\.gguf$")]
    sha256: Annotated[Text, Field(pattern=r"^[0-9a-f]{64}$")]  # of the file
    rename: dict[Text, Text] = {}  # token -> its new name: tokens that the base never used, to serve as tags

    @model_validator(mode="after")
    def one_place(self) -> Self:
        given = [place for place in (self.package, self.path, self.hub_id) if place is not None]
        if len(given) != 1 or (self.hub_id is None) != (self.revision is None):
            says = "says two places of the file" if len(given) > 1 else "does not say where the file is"
            raise refused(says, "give package, path, or hub_id with its revision")
        return self

    @field_validator("rename")
    @classmethod
    def names_apart(cls, rename: dict[str, str]) -> dict[str, str]:
        """Refuses new names that are blank or hold whitespace: they would be found in ordinary text."""
        for old, new in rename.items():
            if not new or re.search(r"\s", new):
                raise refused(f"gives {format_value(old)} a name that is blank or holds whitespace", "such as <think>")
        return rename


class GgufModel(GgufSource):
    """A model in a GGUF file, dequantised once."""

    kind: Literal["gguf"]
    dtype: AnyDtype
    tags: Tags
    adapter: AdapterPlace | None = None


BaseModelParams = Annotated[HubModel | LocalModel | GgufModel, Field(discriminator="kind")]


class AdapterRecipe(Record):
    """Training of a LoRA adapter on the built-in texts. The trained model has the dtype and tags of its base."""

    base: BaseModelParams
    start: AdapterPlace | None = None  # an adapter of the same base, rank and alpha to go on from; null = none
    seed: Whole
    threads: Count  # CPU threads
    rank: Count  # of the change of each linear layer
    alpha: Positive  # the change is alpha / rank times the product of its factors
    steps: Count  # optimizer steps
    batch_tokens: Count  # tokens per step, about
    learning_rate: Positive
    ramp_steps: Count  # linear rise of the learning rate
    flat_share: Share  # of the steps at full learning rate; then linearly to final_share
    final_share: Share  # of the learning rate, at the last step
    checkpoint_steps: Count  # steps between two kept states: what a killed training may lose
    mix: TaskMix

    @field_validator("base")
    @classmethod
    def plain_base(cls, base: HubModel | LocalModel | GgufModel) -> HubModel | LocalModel | GgufModel:
        """Refuses a base with an adapter: the trained model would need both."""
        if base.adapter is not None:
            raise refused("has an adapter of its own", "take it out, or merge it into the base's weights beforehand")
        return base


RECIPES = ("recipe from nothing", "recipe from a base")


def recipe_kind(values: Any) -> str:
    """Tells a recipe that starts from a base model from one that starts from nothing."""
    fields = values if isinstance(values, Mapping) else getattr(type(values), "model_fields", {})
    return RECIPES["base" in fields]


class TrainedModel(Record):
    """A built-in reasoner that the pipeline trains: from nothing, or as an adapter of a base model."""

    kind: Literal["train"]
    recipe: Annotated[
        Annotated[TrainingRecipe, Tag(RECIPES[0])] | Annotated[AdapterRecipe, Tag(RECIPES[1])],
        Discriminator(recipe_kind),
    ]
    dtype: AnyDtype = "float32"
    tags: Tags = Tags()

    @model_validator(mode="after")
    def as_its_base(self) -> Self:
        """Takes dtype and tags from the base of an adapter. Refuses others."""
        if isinstance(self.recipe, AdapterRecipe):
            own = {"dtype": self.recipe.base.dtype, "tags": self.recipe.base.tags}
            if any(getattr(self, name) != own[name] for name in own.keys() & self.model_fields_set):
                raise refused("has dtype or tags of its own", "give them in recipe.base, which they belong to")
            for name, value in own.items():
                object.__setattr__(self, name, value)  # the record is frozen
        return self


class TextsModel(Record):
    """A model known by its texts alone."""

    kind: Literal["texts"]
    tags: Tags = Tags()


class EndpointModel(ServedModel):
    """A model behind an OpenAI-compatible endpoint, as an entry of `models`."""

    kind: Literal["endpoint"]
    tags: Tags = Tags()


ModelParams = Annotated[
    TrainedModel | HubModel | LocalModel | GgufModel | TextsModel | EndpointModel, Field(discriminator="kind")
]
