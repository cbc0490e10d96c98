"""Every record of params.yaml, and the one way to read it.

params.yaml -> `Params`: one frozen pydantic record per section. `load_params` reads the whole file and checks that what
one section names stands in another; `load_sections` reads only the sections that a stage declares.

Values live in params.yaml alone: no field that the study depends on has a default here. Nothing is coerced ("3" is no
number, 3.5 no count, true no 1) except whole numbers to floats and lists to tuples. Unknown keys, impossible values and
secrets raise an R2AError that names the key, the value found and what is allowed.
"""

import functools
import ipaddress
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from r2a_core.infra.errors import MissingPrerequisite, R2AError

# Values and how they are checked.

T = TypeVar("T")
LARGEST = 2**63  # whole numbers stay below it on either side: table columns and random generators ask for 64 bits
SECRET = re.compile(  # a login or a key in an address, or what access tokens of usual services look like
    r"//[^/@\s]*@|[?&](?:api[_-]?key|key|(?:access_)?token|password|secret)=|"
    r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16})\b",
    re.IGNORECASE,
)
SHOWN = reprlib.Repr()  # a value in an error message
SHOWN.maxstring = SHOWN.maxother = 80
REFUSED = "refused"  # type of the errors raised here; the value is not shown with them


def refused(message: str, hint: str) -> PydanticCustomError:
    """Makes a validator's error; `message` continues the key's name. Neither holds the value: it may be a secret."""
    return PydanticCustomError(REFUSED, "{message}", {"message": message, "hint": hint})


def plain_text(text: str) -> str:
    """Returns `text`. Refuses a NUL, half a character, a login and an access token."""
    if re.search("[\0\ud800-\udfff]", text):
        raise refused("holds a NUL or half a character", "take it out")
    if SECRET.search(text):
        raise refused(
            "holds a login or an access token",
            "take it out, and revoke it if it was shared: secrets are read from environment variables",
        )
    return text


def some_words(text: str) -> str:
    """Returns `text`. Refuses one without anything to read in it: it would be found everywhere, or nowhere."""
    if not text.strip():
        raise refused("is empty", "write what to look for, or take it out")
    return text


def plain_name(name: Any) -> str:
    """Returns `name`. Refuses what cannot be a folder's name, a word of a command and a key."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise refused("is no name", "a name is letters, digits and _; rename it")
    return name


def unique(values: tuple[T, ...]) -> tuple[T, ...]:
    """Returns `values`. Refuses duplicates: their rows would be duplicates too."""
    for value in values:
        if values.count(value) > 1:
            raise refused(f"holds {format_value(value)} twice", "name it once")
    return values


def some_of(choices: Any) -> AfterValidator:
    """Refuses an empty list by naming the choices, a Literal."""

    def some(values: tuple[T, ...]) -> tuple[T, ...]:
        if not values:
            raise refused("is empty", f"name one or more of {', '.join(get_args(choices))}")
        return values

    return AfterValidator(some)


def as_tuple(value: Any) -> Any:
    """Turns a YAML list into a tuple; leaves anything else for pydantic to refuse."""
    return tuple(value) if isinstance(value, list) else value


def format_value(value: Any) -> str:
    """Formats a value for an error message, shortened, unless it may hold a secret.

    Whole numbers of thousands of digits have no decimal form in Python.
    """
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return "a secret" if SECRET.search(str(value)) else SHOWN.repr(value)


Text = Annotated[str, AfterValidator(plain_text)]
Words = Annotated[Text, AfterValidator(some_words)]
Name = Annotated[str, BeforeValidator(plain_name)]  # of a model or dataset
HubId = Annotated[Text, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
Revision = Annotated[Text, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]  # branch, tag or commit; part of a cache's path
Pin = Annotated[Text, Field(pattern="^[0-9a-f]{64}$")] | None  # SHA-256 of what lies outside the project (infra.pins)
Count = Annotated[int, Field(gt=0, lt=LARGEST)]
Whole = Annotated[int, Field(ge=0, lt=LARGEST)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Listed = Annotated[tuple[T, ...], BeforeValidator(as_tuple)]
Unique = Annotated[tuple[T, ...], AfterValidator(unique), BeforeValidator(as_tuple)]
NonEmpty = Annotated[tuple[T, ...], Field(min_length=1), AfterValidator(unique), BeforeValidator(as_tuple)]
Setting = Literal["with_reasoning", "without_reasoning"]  # paper section 3: it reasons, or its reasoning is closed
SETTINGS: tuple[Setting, ...] = get_args(Setting)
Dtype = Literal["float32", "bfloat16", "float16"]
AnyDtype = Literal[Dtype, "auto"]  # auto: bfloat16 where the machine computes in it fast, else float32
Layer = Whole  # number of a decoder layer, from 0
Head = Annotated[tuple[Layer, Whole], BeforeValidator(as_tuple)]  # layer, head in it


class Record(BaseModel):
    """A frozen part of params.yaml."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, values: Any) -> Any:
        """Refuses an unknown key before any other fault, listing the known keys."""
        for key in values if isinstance(values, Mapping) else ():
            if key not in cls.model_fields:
                raise refused(
                    f"has the unknown key {format_value(key)}", f"it has {', '.join(sorted(cls.model_fields))}"
                )
        return values


class ByModel(Record, Generic[T]):
    """One value for every model, except those that `models` names."""

    default: T
    models: dict[Name, T] = {}  # in place of the default

    def of(self, model: str) -> T:
        return self.models.get(model, self.default)


# Section `models`.


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
            raise refused("does not say where the file is", "give package, path, or hub_id with its revision")
        return self


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


MILLION = 10**6  # tokens a price is for


class EndpointParams(Record):
    """An OpenAI-compatible server and how requests are sent. Unsafe or malformed addresses are refused."""

    base_url: Text  # up to and with /v1, say
    model: Text  # as the server names it
    key_env: Text | None  # environment variable that holds the key; null = the server wants none
    timeout_seconds: Positive  # s, longest wait for one reply
    concurrency: Count  # requests at a time
    attempts: Count  # tries of one request
    prompt_price: NonNegative | None = None  # money per million tokens; null = unknown
    completion_price: NonNegative | None = None  # money per million tokens, reasoning included

    @field_validator("base_url")
    @classmethod
    def plain_address(cls, base_url: str) -> str:
        """Refuses what is not an http(s) address, or holds a login or a query."""
        try:
            parts = urlsplit(base_url)
            plain = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
        except ValueError:  # half a bracket
            plain = False
        if not plain or "@" in base_url:
            raise refused(
                "is no plain http(s) address",
                "for example https://api.deepseek.com or http://127.0.0.1:8000/v1; keys belong in the environment",
            )
        return base_url

    @field_validator("key_env")
    @classmethod
    def variable_name(cls, key_env: str | None) -> str | None:
        """Refuses what may be the key itself."""
        if key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", key_env):
            raise refused(
                "is not the name of an environment variable",
                "give the variable's name, such as DEEPSEEK_API_KEY; a key itself belongs in no file",
            )
        return key_env

    @model_validator(mode="after")
    def encrypted_key(self) -> Self:
        """Refuses to send a key over http to another machine."""
        if self.key_env is not None and self.base_url.startswith("http:") and not self.is_local:
            raise refused(
                f"would send the key of {self.key_env} to {self.base_url} over unencrypted http",
                "use https, or a tunnel to 127.0.0.1 (ssh -L 8000:localhost:8000 HOST)",
            )
        return self

    @property
    def is_local(self) -> bool:
        """Checks whether the server is on this machine."""
        host = str(urlsplit(self.base_url).hostname)
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def key(self) -> str | None:
        """Returns the key. Raises MissingPrerequisite when the variable is absent or holds none."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise MissingPrerequisite(
                f"the environment variable {self.key_env} is not set, {self.base_url} asks for a key",
                f"export {self.key_env}=... in the shell that runs dvc",
            )
        if not re.fullmatch(r"[!-~]+", key):
            raise MissingPrerequisite(
                f"{self.key_env} holds characters that no key has", "set it to the key alone, without spaces"
            )
        return key

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Returns the cost of so many tokens; None where a price or a count is unknown."""
        if self.prompt_price is None or self.completion_price is None or prompt_tokens is None:
            return None
        if completion_tokens is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / MILLION


class ServedModel(Record):
    """A model that runs elsewhere.

    Api `completions` sends the study's own prompt and takes the bare continuation. Api `chat` sends question and
    instruction as the user's message and leaves the rest to the server's chat template; a response without reasoning
    then needs a server that continues an assistant's message, and `continues` tells how it is asked to.
    """

    endpoint: EndpointParams
    api: Literal["completions", "chat"]
    send_bos: bool  # completions: the prompt's BOS as text; false where the server puts it in by itself
    # chat: `prefix: true` in the message (DeepSeek) | continue_final_message (vLLM, SGLang) | last_message: an
    # assistant's message at the end is continued anyway (OpenRouter) | null: the server cannot
    continues: Literal["prefix", "continue_final_message", "last_message"] | None
    send_seed: bool  # a seed drawn from generate.seed, item and run; false where the server refuses the field
    max_tokens: Count | None  # tokens of a response; null = generate.max_new_tokens


class EndpointModel(ServedModel):
    """A model behind an OpenAI-compatible endpoint, as an entry of `models`."""

    kind: Literal["endpoint"]
    tags: Tags = Tags()


ModelParams = Annotated[
    TrainedModel | HubModel | LocalModel | GgufModel | TextsModel | EndpointModel, Field(discriminator="kind")
]

# Section `datasets`.


class BuiltinDataset(Record):
    """Questions generated by the project; the first n do not change when n grows."""

    kind: Literal["arithmetic", "comparison", "generated_pairs", "context_pairs"]
    instruction: Text  # appended to each question
    n: Annotated[int, Field(gt=0, le=100_000)]  # questions, or pairs of questions
    seed: Whole


class TaskDataset(Record):
    """Held-out questions of a built-in task in natural English; the first n do not change when n grows."""

    kind: Literal["task"]
    task: TaskName
    instruction: Text
    n: Annotated[int, Field(gt=0, le=100_000)]
    seed: Whole


class GymDataset(Record):
    """Questions of a task of the package reasoning-gym, graded by the task itself."""

    kind: Literal["reasoning_gym"]
    task: Name  # as the package names it
    config: dict[Text, Any] = {}  # of the task; keys left out have the package's values
    instruction: Text
    n: Annotated[int, Field(gt=0, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class HubDataset(Record):
    """A benchmark on the Hub at a pinned revision, or a local copy of its file."""

    kind: Literal["math500", "wildbench"]
    instruction: Text
    revision: Revision  # not used with a local file
    file: Text | None = None  # name inside imports/, instead of the Hub
    sha256: Pin = None  # of the file; null ends in an error that says it


class TableDataset(Record):
    """The table of question pairs that comes with the project."""

    kind: Literal["pairs_table"]
    instruction: Text
    n: Count | None  # first pairs; null = all


class FileDataset(Record):
    """A local file: question pairs, or texts of models."""

    kind: Literal["pairs", "traces"]
    instruction: Text
    file: Text  # name inside imports/
    sha256: Pin = None  # of the file, as above
    texts_of: dict[Text, Text] = {}  # traces: our model name -> model name in the file


DatasetParams = Annotated[
    BuiltinDataset | TaskDataset | GymDataset | HubDataset | TableDataset | FileDataset, Field(discriminator="kind")
]
PAIR_KINDS = ("generated_pairs", "context_pairs", "pairs_table", "pairs")  # kinds of dataset that hold pairs

# The other sections, in the order of params.yaml.


class Reader(Record):
    """A model that reads what another one wrote, so that their heads can be compared on the same tokens."""

    model: Text
    texts: Text  # the model that wrote them


class RunParams(Record):
    """What runs: keys of `models` and `datasets`."""

    models: NonEmpty[Text]
    readers: Listed[Reader]
    datasets: NonEmpty[Text]
    settings: Annotated[Unique[Setting], some_of(Setting)]
    pairs: Text  # the dataset of pairs for activation patching

    @field_validator("pairs", mode="before")
    @classmethod
    def one_of_pairs(cls, pairs: Any) -> Any:
        """Refuses null: dvc.yaml names files by the dataset."""
        if pairs is None:
            raise refused("is null", "name a dataset of pairs; pairs.generate.limit: 0 leaves activation patching out")
        return pairs

    @field_validator("settings")
    @classmethod
    def with_reasoning_first(cls, settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
        """Puts the settings in the order of SETTINGS. Refuses them without the one that heads, maps and page show."""
        if SETTINGS[0] not in settings:
            raise refused("is without with_reasoning", "add with_reasoning, which heads, maps and page are about")
        return tuple(setting for setting in SETTINGS if setting in settings)


WithoutMode = Literal["finished", "empty"]
BackendName = Literal["transformers", "vllm"]
Backends = ByModel[BackendName]  # what runs the models that have weights


class ResponseParams(Record):
    """How responses are generated: the keys that `generate` and `pairs.generate` share."""

    max_new_tokens: Count  # tokens of a response
    batch_size: Count  # responses that grow at a time; changes no text of a float32 model
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # logits over temperature: nearer decisions are made on one item
    shard_items: Count  # questions per shard: what a killed run may lose
    limit: Whole | None = None  # first selected pairs; null = all, 0 = no activation patching
    backend: Backends = Backends(default="transformers")

    def sampled(self, temperature: float = 0.0, seed: int = 0) -> "GenerateParams":
        """Returns the same params with one response per question, greedy unless a temperature is given."""
        shared: dict[str, Any] = dict(self) | {
            "limit": self.limit or None
        }  # of pairs, 0 has left all of them out before
        return GenerateParams(
            **shared, temperature=temperature, seed=seed, runs=1, retry=False, without_mode="finished"
        )


class GenerateParams(ResponseParams):
    """The section `generate`."""

    limit: Count | None = None  # first questions of the dataset; null = all
    temperature: Annotated[float, Field(ge=0, le=10)]  # 0 = greedy
    seed: Whole
    runs: Count  # responses to each question
    retry: bool  # a second attempt at what left the funnel
    without_mode: WithoutMode  # how the prompt without reasoning closes the thinking

    @property
    def decoding(self) -> str:
        """Names how tokens are chosen, as a label for tables."""
        return "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}"


MOST_REPEATS = 100


class JudgeParams(Record):
    """The section `judge`: how a judge model scores open answers."""

    endpoint: EndpointParams
    reported_model: Text | None  # the only model that may answer, as the server names it; null = endpoint.model
    reply_format: Literal["json_object", "text"]  # json_object: the server constrains the judge to JSON
    max_tokens: Count  # tokens of a reply
    temperature: Annotated[float, Field(ge=0, le=2)] | None  # null = not sent
    seed: Whole | None  # null = not sent
    repeats: Annotated[int, Field(gt=0, le=MOST_REPEATS)]  # judgements of each response
    attempts: Annotated[int, Field(gt=0, le=10)]  # times to ask until a reply can be used

    @property
    def expected_model(self) -> str:
        return self.reported_model or self.endpoint.model


class EvaluateParams(Record):
    """The section `evaluate`."""

    timeout_seconds: Positive  # s, wall time to grade one answer
    bootstrap_draws: Annotated[int, Field(ge=100, le=1_000_000)]  # resamples for the 95% interval
    seed: Whole  # of the bootstrap


Rows = Literal["answer", "answer_and_reasoning", "all"]  # tokens of a trace


class CaptureConfig(Record):
    """What is kept of a forward pass."""

    rows: Rows  # tokens whose queries are kept; reasoning rows are needed for their masses and for whole maps
    dtype: Literal["auto", "bfloat16", "float32"]  # of what is stored; auto = the model's own
    layers: Unique[Layer] | None  # whose queries and keys are kept; null = all
    residual_layers: Unique[Layer]  # whose entering residual stream is kept
    z_layers: Unique[Layer]  # whose head outputs are kept
    stream_rows: Rows  # tokens whose residual streams and head outputs are kept


class CaptureParams(CaptureConfig):
    """The section `capture`: also how many traces, in shards of what size."""

    layers: NonEmpty[Layer] | None  # the attention stage needs one
    limit: Count | None  # traces; null = all that are well-formed
    store: bool  # false: nothing is kept, and the attention stage runs the model itself
    shard_mb: Count  # MB per shard: what a killed run may lose


class AttentionParams(Record):
    """The section `attention`."""

    reflection_phrases: Unique[Words]  # in any case, whole words


class WalkThresholds(Record):
    """A head walks along the reasoning when its mass on it and its weighted walk correlation reach these."""

    mass: Annotated[float, Field(gt=0, le=1)]  # attention mass answer -> reasoning
    correlation: Annotated[float, Field(gt=0, le=1)]  # of answer position and centroid, positions counted by mass


class InductionParams(Record):
    """Repeated random sequences that score induction heads."""

    sequences: Count
    period: Annotated[int, Field(gt=1, lt=LARGEST)]  # tokens; each sequence is BOS and twice this
    seed: Whole


CUE = 2  # tokens of a sequence needle given again at the end


class NeedleParams(Record):
    """The needle test that scores retrieval heads."""

    needle: Literal["sentence", "sequence", "question"]
    tests: Count
    context: Annotated[int, Field(gt=0, le=1_000_000)]  # tokens of the longest haystack; others spread evenly below
    needle_tokens: Annotated[int, Field(gt=CUE, lt=LARGEST)]  # tokens (sequence) or words (sentence) of the needle
    seed: Whole


Needles = ByModel[NeedleParams]


class LeastScores(Record):
    """What a head must reach to count as an induction or retrieval head."""

    induction: Annotated[float, Field(gt=0, le=1)]  # attention on the token to copy
    retrieval: Annotated[float, Field(gt=0, le=1)]  # share of needle tokens copied


class HeadsParams(Record):
    """The section `heads`."""

    top: Count  # most heads that count as Reasoning-Focus, induction or retrieval heads
    rule: Literal["above_baseline", "paper"]  # which of the highest by mass on the reasoning are Reasoning-Focus Heads
    share: Annotated[float, Field(gt=0, le=1)]  # above_baseline: most of them, as a fraction of all heads
    least: LeastScores
    walk: WalkThresholds
    induction: InductionParams
    retrieval: Needles


class ChosenSpan(Record):
    """A span of one trace whose attention is shown: `text`, or the tokens start..end (half-open)."""

    model: Text
    dataset: Text
    item_id: Text
    text: Words | None = None  # as it stands in the trace; of several places the last counts
    start: Whole | None = None  # token
    end: Whole | None = None  # token

    @model_validator(mode="after")
    def one_choice(self) -> Self:
        by_text = self.text and self.start is None and self.end is None
        by_tokens = self.text is None and self.start is not None and self.end is not None and self.start < self.end
        if not by_text and not by_tokens:
            raise refused(
                "is neither a text nor a range of tokens", "give text, or start and end; start must be below end"
            )
        return self


class MapParams(Record):
    """The section `maps`."""

    heads: dict[Text, Listed[Head]]  # model -> heads; models not named show their first ranked heads and a walking one
    top_heads: Whole  # heads shown by default, the first by mass on the reasoning
    items: dict[Text, Listed[Text]]  # dataset -> item ids; datasets not named show `traces` representative ones
    traces: Count
    spans: Listed[ChosenSpan]  # in place of an item's default span: its final result
    cells: Annotated[int, Field(ge=8, lt=LARGEST)]  # most rows and columns of a map
    links: Count  # tokens of each part of the text kept for each token that reads them, the strongest


Role = Literal["probe", "flip", "think_close", "answer_end"]  # of a patched token
ProbeStyle = Literal["plain", "boxed"]  # "Final answer is A." plain, or with the answer boxed
Component = Literal["resid_pre", "z"]  # resid_pre always; z: every head by itself


class AlignmentConfig(Record):
    """How pairs are aligned."""

    padding: Literal["visible", "masked"]  # visible: pads are attended to as any token, as in the reference
    probe_in: Literal["reasoning", "answer", "both"]  # before </think>, before the common ending, or in both places
    keep_reasoning: bool  # false: only the probe stands between the tags
    ending_tokens: Count  # last tokens of the sequence to patch


class AlignParams(AlignmentConfig):
    """`pairs.align`: also which pairs are kept."""

    probes: Annotated[Unique[ProbeStyle], some_of(ProbeStyle)]
    timeout_seconds: Positive  # s, wall time to grade one answer


class PairsParams(Record):
    """The section `pairs`: how the pairs of activation patching are answered and aligned."""

    generate: ResponseParams  # greedy, with reasoning
    align: AlignParams


class PairCaptureParams(Record):
    """`patch.capture`: what is kept of the clean runs, and of which pairs."""

    logit_diff_threshold: NonNegative  # logits: clean at or above it, corrupted at or below minus it
    with_z: bool  # also keep the output of every head, which component z needs
    shard_pairs: Count  # pairs per shard: what a killed run may lose


class SweepParams(Record):
    """`patch.sweep`: what is patched."""

    components: Annotated[Unique[Component], some_of(Component)]
    restored_roles: Unique[Role]  # z only: tokens whose clean residual streams are in place at every layer
    memory_mib: Count  # MiB on the device for the patched rows of one pass


class CrossingParams(Record):
    """`patch.crossing`: the interval of the layer where the curves cross."""

    bootstrap_draws: Annotated[int, Field(gt=0, le=100_000)]  # resamples of pairs
    confidence: Annotated[float, Field(gt=0, lt=1)]  # share of the resamples inside the interval
    seed: Whole


class PatchingFigureParams(Record):
    """`patch.figures`: what is drawn."""

    example: Text | None  # pair of Figure 7; null = the first pair that most models have


class PatchParams(Record):
    """The section `patch`: what is captured, patched and drawn of the pairs."""

    capture: PairCaptureParams
    sweep: SweepParams
    crossing: CrossingParams
    figures: PatchingFigureParams


KnockoutKind = Literal["mask", "zero", "zero_head", "mean_head"]  # knockout/run.py has what they do
RankedSet = Literal["mass", "focus", "walking", "induction", "retrieval"]  # by a score of data/heads
KnockoutSet = Literal[RankedSet, "all"]
ViewName = Literal["answer", "question", "earlier_reasoning"]  # rows, and what they look back at; results.VIEWS


def with_answer(views: tuple[ViewName, ...]) -> tuple[ViewName, ...]:
    """Refuses to leave out the view that findings and instruments read."""
    if "answer" not in views:
        raise refused("has no view answer", "add it")
    return views


Views = Annotated[Unique[ViewName], some_of(ViewName), AfterValidator(with_answer)]


class RandomSetParams(Record):
    """`knockout.random`: sets of random heads of the same layers, to rank a set among."""

    sets: Unique[RankedSet]  # that are ranked among them
    k: Count  # the largest of each with at most so many heads
    draws: Whole
    seed: Whole


class AnewParams(Record):
    """`knockout.anew`: answers that are written anew, greedily."""

    traces: Count  # the first of those that are run
    k: Count  # the largest of each set with at most so many heads
    draws: Whole  # random sets of each that are ranked
    max_new_tokens: Count  # tokens of an answer


class KnockoutParams(Record):
    """The section `knockout`: heads whose view of the reasoning is cut while the answer is written."""

    traces: Count | None  # first traces of each dataset; null = all that are well-formed
    views: Views
    kinds: Annotated[Unique[KnockoutKind], some_of(KnockoutKind)]
    sets: Annotated[Unique[KnockoutSet], some_of(KnockoutSet)]
    k: NonEmpty[Count]  # heads of a set, the first by its rank
    random: RandomSetParams
    anew: AnewParams | None  # null: no answer is written anew
    memory_mib: Count  # MiB on the device for the arms of one pass
    shard_traces: Count  # traces per shard: what a killed run may lose
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole  # of the bootstrap

    @model_validator(mode="after")
    def ranked_sets(self) -> Self:
        """Refuses to rank a set that is not cut."""
        for name in self.random.sets:
            if name not in self.sets:
                raise refused(f"ranks the set {name!r}, which knockout.sets lacks", "add it to knockout.sets")
        return self


class WalksParams(Record):
    """The section `walks`: shape, ends and consequences of the walks along the reasoning."""

    views: Views
    heads: Count  # of each dataset, those that walk best
    near_uniform: Share  # entropy on the reasoning, of that of even reading, from which on a head is dropped
    peak: Positive  # times even reading that make a ridge of a map
    permutations: Annotated[int, Field(ge=100, le=100_000)]  # placements of the reflection phrases
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole


PerturbFamily = Literal["cut", "number", "option", "other", "filler", "paraphrase", "preempt", "mistake"]  # arms.py


class FreeParams(Record):
    """`perturb.free`: what the model writes on its own after a changed trace, greedily."""

    traces: Whole  # the first of those that are run: their answers are written freely
    mistakes: Whole  # sentences of every trace, at most, behind which the reasoning is written anew
    max_new_tokens: Count  # tokens of an answer, or of reasoning and answer
    batch_size: Count  # that grow at a time; changes no text of a float32 model


class PerturbParams(Record):
    """The section `perturb`: traces that are changed, and what becomes of the answer."""

    traces: Count | None  # first traces of each dataset; null = all that are well-formed
    families: Unique[PerturbFamily]  # beside `cut`, which is always run, and `mistake`, which has free.mistakes
    levels: NonEmpty[Share]  # shares of the values that are wrong
    stem: Words  # what an answer is forced by, before its box
    filler: Words  # is repeated
    answer_tokens: Count  # of a forced answer that is not the trace's own
    free: FreeParams | None  # null: no answer is written freely
    memory_mib: Count  # MiB on the device for the arms of one pass
    shard_traces: Count  # traces per shard: what a killed run may lose
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole  # of wrong values, and of the bootstrap


class SentencesParams(Record):
    """The section `sentences`: sentences hidden from all that follows, and heads that gather on few of them."""

    traces: Count | None  # first traces of each dataset whose sentences are hidden; null = all that are well-formed
    proximity: Unique[Count]  # sentences between two that count at least, to score a head
    least: Annotated[int, Field(ge=4, le=1000)]  # scored sentences, without which a trace is left out
    shuffles: Count  # of the rows of each head's matrix, as chance
    memory_mib: Count  # MiB on the device for the logits of a block of rows
    shard_traces: Count  # traces per shard: what a killed run may lose
    permutations: Annotated[int, Field(ge=100, le=100_000)]  # of the sentences of each trace, for p
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole


class InstrumentsParams(Record):
    """The section `instruments`: models of which it is known whether their answers depend on the trace."""

    depends: dict[Name, dict[Name, bool]]  # model: dataset, or set of pairs: whether they do; others have no label
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of items for the 95% intervals
    permutations: Annotated[int, Field(ge=100, le=100_000)]  # of the items of one instrument, for p of an agreement
    seed: Whole  # of both


class ReportParams(Record):
    """The section `report`: how much of the study the page carries."""

    title: Text
    texts: Count  # items of each model and dataset whose two texts can be read
    traces: Count  # traces of each model and dataset in the trace reader
    heads: Count  # single heads of each trace in the trace reader
    rows: Annotated[int, Field(ge=8, lt=LARGEST)]  # most rows of a trajectory map
    columns: Annotated[int, Field(ge=8, le=512)]  # most columns of a trajectory map
    pairs: Count  # pairs of each model in the patching map
    megabytes: Positive  # MB; a larger page has fewer texts, traces and pairs, and says so


class ResourceParams(Record):
    """The section `resources`: how shards are run, which changes no result."""

    executor: Literal["local", "ray"]
    ray_address: Text | None  # null = start Ray on this machine; auto = the cluster it belongs to; HOST:PORT = another
    workers: Count | None  # null = one per GPU, or one per node where there are none
    start_seconds: Positive  # s to wait for a first worker
    memory_mib: Count | None = None  # MiB for responses growing at a time; null = what is free


class Params(Record):
    """The whole of params.yaml."""

    run: RunParams
    models: dict[Name, ModelParams]
    datasets: dict[Name, DatasetParams]
    generate: GenerateParams
    judge: JudgeParams
    evaluate: EvaluateParams
    capture: CaptureParams
    attention: AttentionParams
    heads: HeadsParams
    maps: MapParams
    pairs: PairsParams
    patch: PatchParams
    knockout: KnockoutParams
    walks: WalksParams
    perturb: PerturbParams
    sentences: SentencesParams
    instruments: InstrumentsParams
    report: ReportParams
    resources: ResourceParams

    @model_validator(mode="after")
    def named_entries(self) -> Self:
        """Raises R2AError where a section names a model or dataset that has no entry."""
        models: dict[str, Iterable[str]] = {
            "run.models": self.run.models,
            "run.readers": [reader.model for reader in self.run.readers],
            "maps.heads": self.maps.heads,
            "maps.spans": [span.model for span in self.maps.spans],
            "heads.retrieval.models": self.heads.retrieval.models,
            "instruments.depends": self.instruments.depends,
        }
        for name, entry in self.datasets.items():
            if isinstance(entry, FileDataset):
                models[f"datasets.{name}.texts_of"] = entry.texts_of
        datasets: dict[str, Iterable[str]] = {
            "run.datasets": self.run.datasets,
            "run.pairs": [self.run.pairs],
            "maps.items": self.maps.items,
            "maps.spans": [span.dataset for span in self.maps.spans],
            "instruments.depends": [name for own in self.instruments.depends.values() for name in own],
        }
        for section, entries, places in (("models", self.models, models), ("datasets", self.datasets, datasets)):
            for place, name in ((place, name) for place, names in places.items() for name in names):
                if name not in entries:
                    raise R2AError(
                        f"params.yaml: {place} names {format_value(name)}, which {section} does not have",
                        f"the {section} are {', '.join(entries)}",
                    )
        return self

    @model_validator(mode="after")
    def readers_apart(self) -> Self:
        """Raises R2AError for a reader without weights of its own, and for texts that no model of the run writes."""
        names = [reader.model for reader in self.run.readers]
        for reader in self.run.readers:
            weightless = [
                f"{name!r}, which has no weights (kind {self.models[name].kind})"
                for name in (reader.model, reader.texts)
                if name in self.models and isinstance(self.models[name], TextsModel | EndpointModel)
            ]
            if reader.model in self.run.models:
                wrong, hint = f"{reader.model!r}, which run.models has too", "take it out of one of the two"
            elif names.count(reader.model) > 1:
                wrong, hint = f"{reader.model!r} twice", "give models a second entry of the same content"
            elif reader.texts not in self.run.models:
                wrong, hint = (
                    f"the texts of {format_value(reader.texts)}, which run.models lacks",
                    "add it to run.models",
                )
            elif weightless:
                wrong, hint = weightless[0], "name two models that have weights, and one vocabulary"
            else:
                continue
            raise R2AError(f"params.yaml: run.readers names {wrong}", hint)
        return self

    @model_validator(mode="after")
    def one_dataset_of_pairs(self) -> Self:
        """Raises R2AError when run.pairs is not a dataset of pairs, or is one that run.datasets names too."""
        pairs = self.run.pairs
        kind = self.datasets[pairs].kind
        if kind not in PAIR_KINDS:
            raise R2AError(
                f"params.yaml: run.pairs names {pairs!r}, a dataset of kind {kind}",
                f"name one of kind {', '.join(PAIR_KINDS)}",
            )
        if pairs in self.run.datasets:
            raise R2AError(
                f"params.yaml: {pairs!r} is in run.datasets and in run.pairs", "name it once: two stages would write it"
            )
        return self


# Reading.


def load_params(path: Path) -> Params:
    """Loads the whole of params.yaml. Raises R2AError at a key that is unknown, missing or impossible."""
    return parse(Params, read_yaml(path), "")


def load_sections(values: Mapping[str, Any], names: Sequence[str]) -> Params:
    """Makes records of the sections `names` of params.yaml only: reading another is an AttributeError that names it.

    values: of the whole file. Other sections may be invalid, and references between sections are not checked.
    """
    for name in names:
        if name not in values:
            raise R2AError(f"params.yaml: {name} is missing", "take it back from git: git checkout params.yaml")
    return Params.model_construct(
        **{name: parse(Params.model_fields[name].annotation, values[name], name) for name in names}
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file as a mapping. Raises R2AError when it is not YAML or not a mapping."""
    from ruamel.yaml import YAML, YAMLError

    checkout = f"take it back from git: git checkout {path.name}"
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise R2AError(f"{path.name} cannot be read: {error.strerror}", checkout) from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise R2AError(
            f"{path.name} is not valid YAML: {reason}", "mind the indentation and the quotes, and give no key twice"
        ) from None
    if not isinstance(values, dict):
        raise R2AError(f"{path.name} holds no sections", checkout)
    return values


def parse(record: Any, values: Any, place: str) -> Any:
    """Parses `values`, read from params.yaml at the key `place`, as `record`: a record or a union of records.

    Raises R2AError naming the key, the value found and what is allowed.
    """
    try:
        return adapter(record).validate_python(values)
    except ValidationError as error:
        raise explained(error.errors(include_url=False)[0], place) from None


@functools.cache
def adapter(record: Any) -> TypeAdapter[Any]:
    """Builds pydantic's adapter of a record, once."""
    return TypeAdapter(record)


def explained(error: ErrorDetails, place: str) -> R2AError:
    """Words the first thing that pydantic found wrong as a sentence about a key of params.yaml, with a hint."""
    unnamed = ("[key]", *RECIPES)  # steps of pydantic that no key has
    steps = [step for step in [*(place.split(".") if place else ()), *error["loc"]] if step not in unnamed]
    if steps and steps[0] in ("models", "datasets"):
        del steps[2:3]  # the kind that pydantic read the entry as
    if "base" in steps:
        place_of_kind = steps.index("base") + 1
        del steps[place_of_kind : place_of_kind + 1]  # likewise
    key = ".".join(str(step) if not SECRET.search(str(step)) else "a secret" for step in steps)
    found = f", found {format_value(error['input'])}"
    context = error.get("ctx", {})
    match error["type"]:
        case "refused":
            says, hint = f" {context['message']}", context["hint"]
        case "missing":
            says, hint = " is missing", f"add {key} to params.yaml"
        case "model_type" | "model_attributes_type" | "dict_type":
            says, hint = f" must be a mapping{found}", f"indent the keys of {key}"
        case "tuple_type":
            says, hint = f" must be a list{found}", f"write {key} as [..., ...]; a list of nothing is []"
        case "union_tag_not_found":
            says, hint = ".kind is missing", f"give {key} a kind, as its neighbours have"
        case "union_tag_invalid":
            says, kinds = f".kind is {format_value(error['input']['kind'])}", context["expected_tags"].replace("'", "")
            hint = f"the kinds are {kinds}"
        case _:
            allowed = re.sub("^[A-Z][a-z]+ should", "must", error["msg"]).replace(" after validation", "")
            says, hint = f" {allowed}{found}", f"correct {key}"
    return R2AError(f"params.yaml{': ' if key else ''}{key}{says}", hint)
