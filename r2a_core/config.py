r"""From a section of params.yaml to a typed, frozen record: unknown keys and impossible values are refused.

The records themselves live beside the code that uses them; their fields carry units and, through Annotated, ranges.

The special tokens that structure a reasoning model's text. They differ by model, so they are parameters.

Where a model or judge is served: one record of params.yaml, checked, without the key.

A key stays in the environment: the record holds the name of its variable only.

How a model behind an OpenAI-compatible endpoint is asked for a response: part of `models` in params.yaml.

Training texts of the built-in reasoner: prompt, reasoning trace and answer of random training questions.

Input: a seeded random generator. Output: TrainingTexts, text pieces with their weights in the loss. The trace reaches
the answer line by line, with reflection before some steps; the answer quotes the lines in order and leaves
the detours out.

In perturbed texts some values are wrong, and all that follows keeps to what is written: the answer must be read off the
trace.

Training of a built-in reasoner on the CPU: recipe -> Hugging Face model folder.

    out_dir/config.json, model.safetensors, generation_config.json, tokenizer files

Copying from context is the bottleneck of so small a model. Four things make it form: heads of the first layers that
start out looking at the previous token, heads of the middle layers that start as induction heads, a warm-up on repeated
random sequences, and Muon on the matrices. The same recipe gives the same bytes on the same machine.

One entry of `models` in params.yaml -> a prepared model folder, the uniform input of every later stage.

Kinds: train (a built-in model, weights written), hub (revision pinned, a pointer file only), local (a folder of this
machine, a pointer file only), texts (no weights: only imported texts go through it, tokenised by the built-in
tokenizer), endpoint (no weights: an OpenAI-compatible server gives its texts, tokenised likewise).

One entry of `datasets` in params.yaml -> the questions of that dataset.

Kinds: arithmetic and comparison (built in, generated), math500 and wildbench (Hub or local file), pairs (a CSV of
question pairs), traces (existing texts of models). Local files lie in one folder, which the caller names.

Prompts with and without reasoning (paper section 3), as token ids.

    with_reasoning       BOS + question + instruction + " " + <think> + "\n"
    without_reasoning    the same, then "Okay, I think I have finished thinking.\n" + </think>   (mode finished)
                         the same, then "\n" + </think>                                          (mode empty)

Text is tokenised part by part and tags are put in by id, so that a question can never produce one.

Who writes the responses, behind one interface: `respond`.

transformers    the model in this process, r2a_core.generation.decode: each response depends on its item alone
vllm            the model in vLLM's engine, r2a_core.generation.vllm: faster on a GPU
endpoint        a model of kind `endpoint`, asked over the network, r2a_core.generation.endpoint

All of them are given the same prompts and give token ids, which become the same rows.

Generation in a batch that stays full, in which an item's text depends on nothing but the item.

prompts -> token ids. Responses that have ended leave the batch and waiting prompts take their place. Each token is the
arg-max of the logits or, at a temperature, of the logits plus Gumbel noise, which a hash of (seed, item, run, step,
token) gives: a draw from the softmax. Rounding differs between batch shapes, so a decision with a lead below
`tie_margin` is made on the logits of the item alone, in a forward pass of its own. Under Gumbel noise those are few.

The generate stage's work, cut into shards that do not depend on one another.

questions -> shards of a fixed number of questions and one run each, in the work store. With `retry`, a shard of its own
holds a second attempt at those questions that left the funnel; the retry of run r is run `runs` + r. Who writes the
responses is a matter of r2a_core.generation.backends.

Asking the judge: responses -> rows of data/judgements/<model>/<dataset>.parquet.

Each reply is kept in the work store as one JSON file, under a digest of the whole message, the judge and how it was
asked. So a run that was stopped goes on where it was, more repeats ask for the new ones only, and a changed template or
response is judged again. A reply that cannot be used is asked for again, with a word on what was wrong.

From responses to accuracy (paper section 3): the funnel, the grades and the comparison of both settings.

items, generations of each setting, judgements of open answers -> `Evaluation`: one row a response
(data/evaluation/<model>/<dataset>.parquet), and a summary (the .json beside it, and
data/metrics/evaluate-<model>-<dataset>.json).

Run r counts from 0; with retry on, run `runs` + r holds a second attempt at the items that failed in run r. "Once"
counts first attempts only; "twice" puts the second attempt in the place of a first one that it gets further than.

One teacher-forced forward pass of a trace -> its queries, keys and, on request, residual streams and head outputs.

model, token ids, segments, CaptureConfig -> TraceActivations. Memory grows with the number of tokens, never with its
square: logits of one position only, no cache, no attention matrix.

The capture stage's work, cut into shards that do not depend on one another.

traces of one model, dataset and setting -> shards of about `shard_mb`, each with the digest of all that its bytes
depend on; finished shards -> the folder of shards and index that later stages read.

Stored activations -> what answer and reasoning tokens attend to, for every trace, layer and head (paper section 4).

activations of a model, dataset and setting, token texts -> two frames:
    attention   ATTENTION_SCHEMA, one row an item, layer, head and source (answer, then reasoning)
    sentences   SENTENCE_SCHEMA, one row an item, sentence of the reasoning, layer and head

Which heads look from the answer at the reasoning: rankings of all heads, and their overlap with other kinds of
heads.

attention frames by dataset (with reasoning), induction and retrieval scores -> one row a dataset, layer and head
(HEAD_SCHEMA). The first `top` heads by `rank` are the Reasoning-Focus Heads (paper section 4).

Induction scores: do heads look at what followed the last occurrence of the current token?

model, token ids to draw from -> layer, head, induction, induction_match, on repeated sequences of random tokens.

    induction        mean attention, over the rows of the second repeat, on the token after the same token's first
    occurrence induction_match  share of all attention that lies on such keys, over all rows: what TransformerLens's
                     detect_head(..., "induction_head") computes with its default error measure

Retrieval scores: the needle test of Wu et al. (arXiv 2404.15574), for any causal language model.

model, needle tests -> layer, head, retrieval: the share of decoding steps at which the key with a head's largest
attention lies in the needle and holds the token that is generated at this step, mean over tests.

Needles come in three kinds, to suit what a model can copy:
    sentence   a made-up fact in English filler of a given length, asked for at the end
    sequence   a run of random tokens among random tokens, whose first ones are given again at the end
    question   the question of a trace, and the trace's own reasoning as what is generated

The heads stage's work: scores of a model's heads, their ranking on each dataset, and the summary of both.

attention frames of a model by dataset (with reasoning), its traces, the model -> scores, HEAD_SCHEMA, metrics.

What the section `maps` of params.yaml chooses, by model and dataset, and what it comes to for one of them.

MapParams, token texts -> MapConfig. A span is given by token numbers, or by its text.

How a model answers the questions of the pairs: greedy, with reasoning, in shards of the generate stage's form.

Shards are cut over all questions, then thinned to the selected ones: a pair that is dropped changes its own shard only.

A clean and a corrupted response cut and padded to one shape, token by token (paper section 5).

Input: the two responses of a pair, as token ids. Output: an AlignedPair, two sequences of equal length

    [pad] query <think> [pad] reasoning probe </think> [pad] answer "Thus, the ... one is \\boxed{"

with the positions to patch; or an UnalignedPair with the reason.

Params of the sections `pairs` and `patch`: how pairs are aligned, captured and patched.

What all pairs of one model say together: mean curves by layer and the layer at which they cross (paper section 5).

Input: the patching table (see `metrics`). Output: frames and records; no torch is needed here.

What patched activations restore: by token and layer for one pair, and by layer over all pairs (Figures 7 and 8).

data/patching/<model>.parquet -> <folder>/patching-positions, <folder>/patching-layers (PNG and PDF).

Where the data of a report lie, and how they are read: a file that is absent is a gap, a damaged one an error.

data/ folder, names of models, datasets and settings -> ReportSources; path, columns -> frame or None.

Where shards are finished: one after the other in this process, or as tasks of a Ray cluster.

A stage's `finish(job, store, shard)` writes a shard into the work store, or finds it there, and returns what the stage
needs of it; `finish_shards` calls it for every shard and yields the results in shard order. How shards are run changes
no byte of them, so the section `resources` of params.yaml is a dependency of no stage.
"""

import functools
import ipaddress
import math
import os
import re
import reprlib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError

from r2a_core.infra.errors import MissingPrerequisite, R2AError

Record = TypeVar("Record")

# Branch, tag or commit of a Hub repository; it becomes part of a path in the Hub's cache.
Revision = Annotated[str, Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$")]

LARGEST = 2**63  # whole numbers stay below it on either side, as table columns and random generators ask

KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}

SECRET = re.compile(  # a login or a key in an address, or what access tokens of usual services look like
    r"//[^/@\s]*@|[?&](?:api[_-]?key|key|(?:access_)?token|password|secret)=|"
    r"\b(?:hf_[A-Za-z0-9]{30,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16})\b",
    re.IGNORECASE,
)

SHOWN = reprlib.Repr()  # a value in an error message

SHOWN.maxstring = SHOWN.maxother = 80


def parse(record_type: type[Record], values: Any, section: str) -> Record:
    """`values` (a mapping read from params.yaml at `section`) as a `record_type`, a frozen dataclass.

    Types are not coerced: "3" is not a number and 3.5 is not a count. Raises R2AError naming the key, the value found
    and what is allowed.
    """
    check_value(record_type, values, section)
    try:
        return adapter(record_type).validate_python(dict(values), strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([section, *(str(part) for part in first["loc"])])
        found = "" if first["type"] == "missing" else f", found {format_value(first['input'])}"
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise R2AError(f"params.yaml: {key}: {message}{found}", f"correct {key} in params.yaml") from None


@functools.cache
def adapter(record_type: type[Record]) -> TypeAdapter[Record]:
    """Pydantic's reader of a record, made once."""
    return TypeAdapter(record_type)


def check_value(hint: Any, value: Any, place: str) -> None:
    """Raises R2AError when `value` is not of the type `hint`, or a record anywhere in it has an unknown key.

    Ranges, choices and missing keys are left to pydantic.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        check_value(inner[0], value, place)
    elif origin in (Union, types.UnionType):
        rest = [each for each in inner if each is not types.NoneType]
        if len(rest) == 1 and value is not None:  # a choice of several is left to pydantic
            check_value(rest[0], value, place)
    elif is_dataclass(hint):
        check_record(hint, value, place)
    elif origin is dict:
        for key, each in mapping(value, place).items():
            check_value(inner[0], key, f"{place}: the key {format_value(key)}")
            check_value(inner[1], each, f"{place}.{key}")
    elif origin is tuple:
        check_list(inner, value, place)
    elif hint in KINDS:
        check_plain(hint, value, place)


def check_record(record_type: Any, value: Any, place: str) -> None:
    """Raises R2AError when `value` is no mapping, or has a key that its record lacks."""
    hints = get_type_hints(record_type, include_extras=True)
    known = sorted(field.name for field in fields(record_type))
    for key, each in mapping(value, place).items():
        if key not in known:
            raise R2AError(
                f"params.yaml: {place} has the unknown key {format_value(key)}",
                f"the keys of {place} are {', '.join(known)}",
            )
        check_value(hints[key], each, f"{place}.{key}")


def check_list(inner: tuple[Any, ...], value: Any, place: str) -> None:
    """Raises R2AError when `value` is no list, or one of the wrong length where the length is fixed."""
    if not isinstance(value, (list, tuple)):
        raise R2AError(
            f"params.yaml: {place} must be a list, found {format_value(value)}", f"write {place} as [..., ...]"
        )
    wanted = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
    if len(wanted) != len(value):
        raise R2AError(
            f"params.yaml: {place} must hold {len(wanted)} values, found {format_value(value)}", f"correct {place}"
        )
    for number, (hint, each) in enumerate(zip(wanted, value, strict=True)):
        check_value(hint, each, f"{place}[{number}]")


def check_plain(hint: type, value: Any, place: str) -> None:
    """Raises R2AError for a value of another type, a secret, a NaN, an infinity or a number of more than 64 bits."""
    allowed = (int, float) if hint is float else (hint,)
    fits = isinstance(value, allowed) and (hint is bool or not isinstance(value, bool))
    if not fits:
        raise R2AError(
            f"params.yaml: {place} must be {KINDS[hint]}, found {format_value(value)}",
            f"correct {place} in params.yaml",
        )
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= each <= "\udfff" for each in value)):
        raise R2AError(
            f"params.yaml: {place} holds a NUL or half a character, found {format_value(value)}", f"correct {place}"
        )
    if isinstance(value, str) and SECRET.search(value):
        raise R2AError(
            f"params.yaml: {place} holds a login or an access token",
            "take it out, and revoke it if it was shared: secrets are read from environment variables",
        )
    large = isinstance(value, int) and not -LARGEST <= value < LARGEST
    if large or (isinstance(value, float) and not math.isfinite(value)):
        raise R2AError(
            f"params.yaml: {place} must be a finite number of at most 64 bits, found {format_value(value)}",
            f"correct {place} in params.yaml",
        )


def mapping(value: Any, place: str) -> Mapping[Any, Any]:
    """`value` itself. Raises R2AError when it is no mapping."""
    if not isinstance(value, Mapping):
        raise R2AError(
            f"params.yaml: {place} must be a mapping, not {format_value(value)}", f"indent the keys of {place}"
        )
    return value


def format_value(value: Any) -> str:
    """A value for an error message, shortened; none that may hold a secret.

    Whole numbers of thousands of digits have no decimal form in Python.
    """
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return "a secret" if SECRET.search(str(value)) else SHOWN.repr(value)


@dataclass(frozen=True)
class Tags:
    """Tag strings of one model; each must be a single token of its tokenizer.

    bos is None for models whose prompts start without one; the first segment is then the first prompt token.
    """

    bos: str | None = "<｜begin▁of▁sentence｜>"
    eos: str = "<｜end▁of▁sentence｜>"
    think_open: str = "<think>"
    think_close: str = "</think>"


MILLION = 10**6  # tokens a price is for


@dataclass(frozen=True)
class EndpointParams:
    """An OpenAI-compatible server and how it is asked. Raises R2AError for an address that is unsafe or is none."""

    base_url: str  # up to and with /v1, say
    model: str  # as the server names it
    key_env: str | None  # environment variable that holds the key; null = the server wants none
    timeout_seconds: Annotated[float, Field(gt=0)]  # longest silence of the server
    concurrency: Annotated[int, Field(gt=0)]  # requests at a time
    attempts: Annotated[int, Field(gt=0)]  # tries of one request
    backoff_seconds: Annotated[float, Field(ge=0)]  # wait after the first failure, doubled after each further one
    prompt_price: Annotated[float, Field(ge=0)] | None = None  # money per million tokens
    completion_price: Annotated[float, Field(ge=0)] | None = None  # money per million tokens, reasoning included

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.username is not None or parts.password is not None or "@" in self.base_url:
            raise R2AError(
                "params.yaml: a base_url holds a user name or password",
                "take it out, and give the key in the environment variable that key_env names",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise R2AError(
                f"params.yaml: the base_url {re.split('[?#]', self.base_url)[0]!r} is no plain http(s) address",
                "for example https://api.deepseek.com or http://127.0.0.1:8000/v1",
            )
        if self.key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", self.key_env):
            raise R2AError(
                "params.yaml: a key_env is not the name of an environment variable",
                "give the variable's name, such as DEEPSEEK_API_KEY; a key itself belongs in no file",
            )
        if self.key_env is not None and parts.scheme == "http" and not is_loopback(parts.hostname):
            raise R2AError(
                f"params.yaml: {self.base_url} would get the key of {self.key_env} over unencrypted http",
                "use https, or a tunnel to 127.0.0.1 (ssh -L 8000:localhost:8000 HOST)",
            )

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(str(urlsplit(self.base_url).hostname))

    def key(self) -> str | None:
        """The key. Raises MissingPrerequisite when the variable is absent or holds none."""
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
        """Money for so many tokens; None where a price or a count is unknown."""
        known = (self.prompt_price, self.completion_price, prompt_tokens, completion_tokens)
        if any(value is None for value in known):
            return None
        prompt_price, completion_price, prompt, completion = known
        return (prompt * prompt_price + completion * completion_price) / MILLION  # type: ignore[operator]


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServedModel:
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
    max_tokens: Annotated[int, Field(gt=0)] | None  # tokens of a response; null = generate.max_new_tokens


Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TextMix:
    """Shares of training samples."""

    comparison: Share  # comparisons; the rest is arithmetic
    without_reasoning: Share  # prompts that end the reasoning at once
    probing: Share  # traces that end in "Final answer is X.", half of them boxed
    perturbed: Share  # traces with wrong values that the answer follows
    contradicted: Share  # of the perturbed: the probing phrase names another answer
    padded: Share  # texts with padding at the starts of their segments


Count = Annotated[int, Field(gt=0)]

Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class TrainingRecipe:
    """Architecture and training of a built-in reasoner."""

    architecture: Literal["qwen2", "llama"]
    seed: Annotated[int, Field(ge=0)]
    threads: Count  # CPU threads
    n_layers: Count
    width: Count  # residual stream
    n_heads: Count  # query heads
    n_kv_heads: Count
    mlp_width: Count
    steps: Count  # optimizer steps on tasks
    batch_tokens: Count  # tokens a step
    copy_steps: Annotated[int, Field(ge=0)]  # optimizer steps of the copy warm-up, before
    copy_tokens: Count  # tokens a step of the copy warm-up
    ramp_steps: Count  # linear rise of the learning rates
    flat_share: Annotated[float, Field(ge=0, le=1)]  # of the steps on tasks at full learning rate; then linearly to 0
    muon_rate: Positive  # learning rate of the matrices
    adam_rate: Positive  # learning rate of embeddings, norms and biases
    previous_token: Annotated[float, Field(ge=0)]  # strength of the heads that start on the previous token; 0 = none
    induction: Annotated[float, Field(ge=0)]  # strength of the heads that start as induction heads; 0 = none
    mix: TextMix


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

MODEL_RECORDS: dict[str, type] = {
    "train": TrainedModel,
    "hub": HubModel,
    "local": LocalModel,
    "texts": TextsModel,
    "endpoint": EndpointModel,
}


def model_params(values: Any, section: str) -> ModelParams:
    """The record of one model entry. Raises R2AError for an unknown kind, key or value."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in MODEL_RECORDS:
        raise R2AError(
            f"params.yaml: {section}.kind is {format_value(kind)}", f"the kinds are {', '.join(MODEL_RECORDS)}"
        )
    return parse(MODEL_RECORDS[kind], values, section)


@dataclass(frozen=True)
class BuiltinDataset:
    """Questions generated by the project; the first n do not change when n grows."""

    kind: Literal["arithmetic", "comparison", "generated_pairs"]
    instruction: str  # appended to each question
    n: Annotated[int, Field(gt=0, le=100_000)]  # questions, or pairs of questions
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class HubDataset:
    """A benchmark of the Hub at a pinned revision, or a local copy of its file."""

    kind: Literal["math500", "wildbench"]
    instruction: str
    revision: Revision  # commit on the Hub; not used with a local file
    file: str | None = None  # name inside imports/, instead of the Hub


@dataclass(frozen=True)
class TableDataset:
    """The table of question pairs that comes with the project."""

    kind: Literal["pairs_table"]
    instruction: str  # appended to each question
    n: Annotated[int, Field(gt=0)] | None  # first pairs; null = all


@dataclass(frozen=True)
class FileDataset:
    """A local file: question pairs, or texts of models."""

    kind: Literal["pairs", "traces"]
    instruction: str
    file: str  # name inside imports/
    texts_of: dict[str, str] = field(default_factory=dict)  # traces: our model name -> model name in the file


DatasetParams = BuiltinDataset | HubDataset | TableDataset | FileDataset

DATASET_RECORDS: dict[str, type] = {
    "arithmetic": BuiltinDataset,
    "comparison": BuiltinDataset,
    "math500": HubDataset,
    "wildbench": HubDataset,
    "generated_pairs": BuiltinDataset,
    "pairs_table": TableDataset,
    "pairs": FileDataset,
    "traces": FileDataset,
}


def dataset_params(values: Any, section: str) -> DatasetParams:
    """The record of one dataset entry. Raises R2AError for an unknown kind, key or value."""
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in DATASET_RECORDS:
        raise R2AError(
            f"params.yaml: {section}.kind is {format_value(kind)}", f"the kinds are {', '.join(DATASET_RECORDS)}"
        )
    return parse(DATASET_RECORDS[kind], values, section)


WithoutMode = Literal["finished", "empty"]

BackendName = Literal["transformers", "vllm"]


@dataclass(frozen=True)
class BackendParams:
    """What runs the models that have weights; the others are asked over the network or have texts."""

    default: BackendName
    models: dict[str, BackendName] = field(default_factory=dict)  # in place of the default

    def of(self, model: str) -> BackendName:
        return self.models.get(model, self.default)


TRANSFORMERS = BackendParams("transformers")


@dataclass(frozen=True)
class SamplingConfig:
    """How tokens are chosen."""

    temperature: Annotated[float, Field(ge=0, le=10)]  # 0 = greedy
    max_new_tokens: Annotated[int, Field(gt=0)]  # tokens
    seed: Annotated[int, Field(ge=0)]
    batch_size: Annotated[int, Field(gt=0)]  # responses that grow at a time; does not change any text
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # logits over temperature; 0 = never ask alone


@dataclass(frozen=True)
class GenerateParams:
    """The section `generate` of params.yaml."""

    temperature: Annotated[float, Field(ge=0, le=10)]  # 0 = greedy
    max_new_tokens: Annotated[int, Field(gt=0)]  # tokens
    seed: Annotated[int, Field(ge=0)]
    runs: Annotated[int, Field(gt=0)]  # responses to each question
    retry: bool  # a second attempt at what left the funnel
    without_mode: WithoutMode  # how the prompt without reasoning closes the thinking
    limit: Annotated[int, Field(gt=0)] | None  # first questions of the dataset; null = all
    batch_size: Annotated[int, Field(gt=0)]  # prompts a forward pass
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # see SamplingConfig
    shard_items: Annotated[int, Field(gt=0)]  # questions a shard: what a killed run may lose
    backend: BackendParams = TRANSFORMERS  # what runs models with weights

    @property
    def decoding(self) -> str:
        """How tokens are chosen, as a label for tables."""
        return "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}"


MOST_REPEATS = 100


@dataclass(frozen=True)
class JudgeParams:
    """The section `judge` of params.yaml."""

    endpoint: EndpointParams
    reported_model: str | None  # the only model that may answer, as the server names it; null = endpoint.model
    reply_format: Literal["json_object", "text"]  # json_object: the server is told to hold the judge to JSON
    max_tokens: Annotated[int, Field(gt=0)]  # tokens of a reply
    temperature: Annotated[float, Field(ge=0, le=2)] | None  # null = not sent
    seed: Annotated[int, Field(ge=0)] | None  # null = not sent
    repeats: Annotated[int, Field(gt=0, le=MOST_REPEATS)]  # judgements of each response
    attempts: Annotated[int, Field(gt=0, le=10)]  # times to ask until a reply can be used

    @property
    def expected_model(self) -> str:
        return self.reported_model or self.endpoint.model


@dataclass(frozen=True)
class EvaluateParams:
    """The section `evaluate` of params.yaml."""

    timeout_seconds: Annotated[float, Field(gt=0)]  # s, wall time to grade one answer
    bootstrap_draws: Annotated[int, Field(ge=100, le=1_000_000)]  # resamples for the 95% interval
    seed: Annotated[int, Field(ge=0)]  # of the bootstrap


Rows = Literal["answer", "answer_and_reasoning", "all"]

LayerNumber = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class CaptureConfig:
    """What is kept of a forward pass."""

    rows: Rows  # tokens whose queries are kept; reasoning rows are needed for their masses and for whole maps
    dtype: Literal["bfloat16", "float32"]  # of what is stored
    layers: tuple[LayerNumber, ...] | None  # decoder layers whose queries and keys are kept; null = all
    residual_layers: tuple[LayerNumber, ...]  # layers whose entering residual stream is kept
    z_layers: tuple[LayerNumber, ...]  # layers whose head outputs are kept
    stream_rows: Rows  # tokens whose residual streams and head outputs are kept


@dataclass(frozen=True)
class CaptureParams:
    """The section `capture` of params.yaml."""

    limit: Annotated[int, Field(gt=0)] | None  # traces; null = all that are well-formed
    rows: Rows
    dtype: Literal["bfloat16", "float32"]
    layers: tuple[LayerNumber, ...] | None
    residual_layers: tuple[LayerNumber, ...]
    z_layers: tuple[LayerNumber, ...]
    stream_rows: Rows
    shard_mb: Annotated[int, Field(gt=0)]  # MB a shard: what a killed run may lose

    @property
    def config(self) -> CaptureConfig:
        """What is kept of a forward pass; the rest only says of how many and in which portions."""
        kept = {name: value for name, value in vars(self).items() if name not in ("limit", "shard_mb")}
        return CaptureConfig(**kept)


@dataclass(frozen=True)
class StatisticsConfig:
    """What is measured on stored activations."""

    reflection_phrases: tuple[str, ...]  # in any case, whole words


@dataclass(frozen=True)
class WalkThresholds:
    """A head walks along the reasoning when its mass on it and its walk correlation reach these."""

    mass: Annotated[float, Field(gt=0, le=1)] = 0.6  # attention mass answer -> reasoning
    correlation: Annotated[float, Field(gt=0, le=1)] = 0.7  # of answer position and attention centroid


@dataclass(frozen=True)
class InductionConfig:
    """Repeated random sequences."""

    sequences: Annotated[int, Field(gt=0)]
    period: Annotated[int, Field(gt=1)]  # tokens; each sequence is BOS and twice this
    seed: Annotated[int, Field(ge=0)]


CUE = 2  # tokens of a sequence needle given again at the end


@dataclass(frozen=True)
class RetrievalConfig:
    """The needle test."""

    needle: Literal["sentence", "sequence", "question"]
    tests: Annotated[int, Field(gt=0)]
    context: Annotated[int, Field(gt=0, le=1_000_000)]  # tokens of the longest haystack; others spread evenly below
    needle_tokens: Annotated[int, Field(gt=CUE)]  # tokens (sequence) or words (sentence) of the needle
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class RetrievalParams:
    """The needle test of every model without one of its own in `models`."""

    default: RetrievalConfig
    models: dict[str, RetrievalConfig] = field(default_factory=dict)

    def of(self, model: str) -> RetrievalConfig:
        return self.models.get(model, self.default)


@dataclass(frozen=True)
class HeadsParams:
    """The section `heads` of params.yaml."""

    top: Annotated[int, Field(gt=0)]  # heads that count as Reasoning-Focus, induction or retrieval heads
    walk: WalkThresholds
    induction: InductionConfig
    retrieval: RetrievalParams


Token = Annotated[int, Field(ge=0)]

Place = Annotated[int, Field(ge=0)]  # number of a layer, or of a head in it


@dataclass(frozen=True)
class ChosenSpan:
    """A stretch of one trace whose attention is shown: `text`, or the tokens start..end (half-open).

    Raises R2AError when it is not one choice of the two.
    """

    model: str
    dataset: str
    item_id: str
    text: str | None = None  # as it stands in the trace; of several places the last counts
    start: Token | None = None
    end: Token | None = None

    def __post_init__(self) -> None:
        by_text = self.text and self.start is None and self.end is None
        by_tokens = self.text is None and self.start is not None and self.end is not None
        if not by_text and not (by_tokens and (self.start or 0) < (self.end or 0)):
            raise R2AError(
                f"params.yaml: the span of {self.item_id!r} in maps.spans is neither a text nor a range of tokens",
                "give text, or start and end; start must be below end",
            )


@dataclass(frozen=True)
class HeadMarkParams:
    """The keys of the section `heads` that maps and figures need: which heads count as what."""

    top: Annotated[int, Field(gt=0)]  # heads that count as Reasoning-Focus Heads
    walk: WalkThresholds


@dataclass(frozen=True)
class MapParams:
    """The section `maps` of params.yaml."""

    heads: dict[str, tuple[tuple[Place, Place], ...]]  # model -> [layer, head], ...; others: see shown_heads
    top_heads: Annotated[int, Field(ge=0)]  # Reasoning-Focus Heads
    items: dict[str, tuple[str, ...]]  # dataset -> item ids; others: `traces` representative ones
    traces: Annotated[int, Field(gt=0)]
    spans: tuple[ChosenSpan, ...]  # in place of an item's default span: its final result
    cells: Annotated[int, Field(ge=8)]  # most rows and columns of a map
    links: Annotated[int, Field(gt=0)]  # reasoning tokens kept for each answer token, the strongest


@dataclass(frozen=True)
class PairGenerationParams:
    """`pairs.generate`."""

    max_new_tokens: Annotated[int, Field(gt=0)]  # tokens
    batch_size: Annotated[int, Field(gt=0)]  # prompts a forward pass; changes no text
    tie_margin: Annotated[float, Field(ge=0, lt=1)]  # logits: nearer decisions are made on the question alone
    shard_items: Annotated[int, Field(gt=0)]  # questions a shard: what a killed run may lose
    backend: BackendParams = TRANSFORMERS  # what runs the model

    @property
    def generate_params(self) -> GenerateParams:
        """The same as params of the generate stage."""
        return GenerateParams(
            temperature=0.0,
            max_new_tokens=self.max_new_tokens,
            seed=0,
            runs=1,
            retry=False,
            without_mode="finished",
            limit=None,
            batch_size=self.batch_size,
            tie_margin=self.tie_margin,
            shard_items=self.shard_items,
            backend=self.backend,
        )


Role = Literal["probe", "flip", "think_close", "answer_end"]

ProbeStyle = Literal["plain", "boxed"]


@dataclass(frozen=True)
class AlignmentConfig:
    """How pairs are aligned."""

    padding: Literal["visible", "masked"]  # visible: pads are attended to as any token, as in the reference
    probe_in: Literal["reasoning", "answer", "both"]  # before </think>, before the common ending, or in both places
    keep_reasoning: bool  # False: only the probe stands between the tags
    ending_tokens: int  # last tokens of the sequence to patch


Component = Literal["resid_pre", "z"]


@dataclass(frozen=True)
class AlignParams:
    """`pairs.align`: which pairs are kept and how they are aligned."""

    # "Final answer is A." plain, or with the answer boxed
    probes: Annotated[tuple[ProbeStyle, ...], Field(min_length=1)]
    padding: Literal["visible", "masked"]  # see AlignmentConfig
    probe_in: Literal["reasoning", "answer", "both"]
    keep_reasoning: bool
    ending_tokens: Annotated[int, Field(gt=0)]  # last tokens to patch
    timeout_seconds: Annotated[float, Field(gt=0)]  # s, wall time to grade one answer

    def __post_init__(self) -> None:
        require_unique(self.probes, "pairs.align.probes", "name each probe once")

    @property
    def alignment(self) -> AlignmentConfig:
        return AlignmentConfig(self.padding, self.probe_in, self.keep_reasoning, self.ending_tokens)


@dataclass(frozen=True)
class PairCaptureParams:
    """`patch.capture`: what is kept of the clean runs, and of which pairs."""

    logit_diff_threshold: Annotated[float, Field(ge=0)]  # logits: clean at or above it, corrupted at or below minus it
    with_z: bool  # also keep the output of every head, which component z needs
    shard_pairs: Annotated[int, Field(gt=0)]  # pairs a shard: what a killed run may lose


@dataclass(frozen=True)
class SweepParams:
    """`patch.sweep`: what is patched."""

    components: tuple[Component, ...]  # resid_pre always; z: every head by itself
    restored_roles: tuple[Role, ...]  # z only: tokens whose clean residual streams are in place at every layer
    memory_mib: Annotated[int, Field(gt=0)]  # MiB on the device for the patched rows of one pass

    def __post_init__(self) -> None:
        require_unique(self.components, "patch.sweep.components", "name each component once")


def require_unique(names: Sequence[str], place: str, hint: str) -> None:
    """Raises R2AError when a name stands in a list twice: its rows would."""
    for name in names:
        if names.count(name) > 1:
            raise R2AError(f"params.yaml: {place} holds {name!r} twice", hint)


@dataclass(frozen=True)
class CrossingParams:
    """`patch.crossing`: the interval of the layer where the curves cross."""

    bootstrap_draws: Annotated[int, Field(gt=0, le=100_000)]  # resamples of pairs
    confidence: Annotated[float, Field(gt=0, lt=1)]  # share of the resamples inside the interval
    seed: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class PatchingFigureParams:
    """`patch.figures`: what is drawn."""

    example: str | None  # pair of Figure 7; null = the first pair that most models have


PositiveCount = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class ReportParams:
    """The section `report` of params.yaml: how much of the study the page carries."""

    title: str
    texts: PositiveCount  # items of each model and dataset whose two texts can be read
    traces: PositiveCount  # traces of each model and dataset in the trace reader
    heads: PositiveCount  # single heads of each trace in the trace reader
    rows: Annotated[int, Field(ge=8)]  # most rows of a trajectory map
    columns: Annotated[int, Field(ge=8, le=512)]  # most columns of a trajectory map
    pairs: PositiveCount  # pairs of each model in the patching map
    megabytes: Annotated[float, Field(gt=0)]  # a larger page is refused


@dataclass(frozen=True)
class ResourceParams:
    """The section `resources` of params.yaml."""

    executor: Literal["local", "ray"]
    ray_address: str | None  # null = start Ray on this machine; auto = the cluster it belongs to; HOST:PORT = another
    workers: Annotated[int, Field(gt=0)] | None  # null = one a GPU, or one a node where there are none
    start_seconds: Annotated[float, Field(gt=0)]  # s to wait for a first worker
    memory_mib: Annotated[int, Field(gt=0)] | None = None  # MiB for responses growing at a time; null = what is free
