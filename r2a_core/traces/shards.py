"""The generate stage's work, cut into shards that do not depend on one another.

questions -> shards of a fixed number of questions and one run each, in the work store. With `retry`, a shard of its own
holds a second attempt at those questions that left the funnel; the retry of run r is run `runs` + r.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from r2a_core.data.imported import authors, text_for
from r2a_core.data.items import Item
from r2a_core.data.prepare import DatasetParams, FileDataset
from r2a_core.grading.boxed import has_boxed
from r2a_core.models.loading import LoadedModel, LoadedTokenizer, load_model, load_tokenizer
from r2a_core.models.pointer import read_pointer
from r2a_core.provenance import fingerprint
from r2a_core.store import WorkStore
from r2a_core.traces.generation import GenerationRequest, SamplingConfig, generate
from r2a_core.traces.prompts import Setting, WithoutMode, prompt_ids
from r2a_core.traces.rows import GENERATION_SCHEMA, generation_row, split_imported

log = logging.getLogger(__name__)
IMPORTED_PER_SHARD = 100  # texts
NOT_IN_A_ROW = ("limit", "runs", "retry", "batch_size")  # params that change which rows there are, but no row


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

    @property
    def decoding(self) -> str:
        """How tokens are chosen, as a label for tables."""
        return "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}"


@dataclass(frozen=True)
class GenerationShard:
    """Some questions of one run, and the digest of all that their rows depend on."""

    items: tuple[Item, ...]
    run: int
    fingerprint: str


@dataclass(frozen=True)
class GenerationJob:
    """What all shards of one model, dataset and setting share. Model and tokenizer load when first needed."""

    model_name: str
    model_folder: Path
    setting: Setting
    source: DatasetParams
    config: GenerateParams
    device: str

    @cached_property
    def loaded(self) -> LoadedModel:
        return load_model(self.model_folder, self.device)

    @cached_property
    def text(self) -> LoadedTokenizer:
        return load_tokenizer(self.model_folder)

    @property
    def imports(self) -> bool:
        """Whether the texts exist already and are imported."""
        return self.source.kind == "traces"

    @property
    def author(self) -> str:
        """Name of the model in a file of existing texts."""
        texts_of = self.source.texts_of if isinstance(self.source, FileDataset) else {}
        return texts_of.get(self.model_name, self.model_name)


def plan_shards(job: GenerationJob, items: Sequence[Item], base: Mapping[str, Any]) -> list[GenerationShard]:
    """Shards of first attempts. More questions, more runs or a retry leave the earlier full shards as they are.

    `base` is what else the rows depend on: code, model, setting. There are none, and a warning says why, where a
    dataset of existing texts has none of this model, or a model without weights meets questions without texts.
    """
    if job.imports:
        return imported_shards(job, items, base)
    if read_pointer(job.model_folder).kind == "texts":
        log.warning("%s has no weights and %s holds no texts: no responses", job.model_name, job.source.kind)
        return []
    kept = {name: value for name, value in asdict(job.config).items() if name not in NOT_IN_A_ROW}
    if job.setting == "with_reasoning":
        del kept["without_mode"]
    shards = []
    for run in range(job.config.runs):
        for part in chunks(items, job.config.shard_items):
            questions = [(item.item_id, item.question, item.kind) for item in part]
            print_ = fingerprint(**base, params=kept, instruction=job.source.instruction, run=run, items=questions)
            shards.append(GenerationShard(part, run, print_))
    return shards


def imported_shards(job: GenerationJob, items: Sequence[Item], base: Mapping[str, Any]) -> list[GenerationShard]:
    """Shards of the questions that have a text of this model and setting."""
    present = [item for item in items if text_for(item, job.author, job.setting) is not None]
    if not present:
        others = sorted({author for item in items for author in authors(item)})
        log.warning(
            "no %s text of %r: no responses. The file has texts of %s; texts_of names the one to take",
            job.setting,
            job.author,
            ", ".join(others),
        )
    source = {"source": asdict(job.source), "author": job.author, "without_mode": job.config.without_mode}
    return [
        GenerationShard(part, 0, fingerprint(**base, **source, items=[asdict(item) for item in part]))
        for part in chunks(present, IMPORTED_PER_SHARD)
    ]


def chunks(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def finish_shard(job: GenerationJob, store: WorkStore, shard: GenerationShard) -> list[Path]:
    """Files of a shard, from the store or made now: its rows and, with `retry`, those of a second attempt."""
    first = store.shard(shard.fingerprint, ".parquet", lambda path: write_shard(job, shard, path))
    if job.imports or not job.config.retry:
        return [first]
    run = job.config.runs + shard.run
    failed = set(pl.read_parquet(first, columns=["item_id", "status"]).filter(pl.col("status") != "ok")["item_id"])
    left = tuple(item for item in shard.items if item.item_id in failed)
    if not left:
        return [first]
    again = GenerationShard(left, run, fingerprint(first=shard.fingerprint, run=run))
    return [first, store.shard(again.fingerprint, ".parquet", lambda path: write_shard(job, again, path))]


def read_shards(paths: Sequence[Path]) -> pl.DataFrame:
    """The rows of all files, in their order."""
    return pl.concat([pl.DataFrame(schema=GENERATION_SCHEMA), *(pl.read_parquet(path) for path in paths)])


def write_shard(job: GenerationJob, shard: GenerationShard, path: Path) -> None:
    """Writes the rows of one shard, in question order, as parquet."""
    rows = imported_rows(job, shard) if job.imports else generated_rows(job, shard)
    pl.DataFrame(rows, schema=GENERATION_SCHEMA).write_parquet(path)


def generated_rows(job: GenerationJob, shard: GenerationShard) -> list[dict[str, Any]]:
    """Rows of freshly generated responses."""
    text, config = job.loaded.text, job.config
    requests = [
        GenerationRequest(
            item.item_id,
            shard.run,
            tuple(prompt_ids(text, item.question, job.source.instruction, job.setting, config.without_mode)),
        )
        for item in shard.items
    ]
    sampling = SamplingConfig(
        config.temperature, config.max_new_tokens, config.seed, config.batch_size, config.tie_margin
    )
    results = generate(job.loaded, requests, sampling)
    return [
        generation_row(text, item, shard.run, request.prompt_ids, result.response_ids, config.seed, answer_check(item))
        for item, request, result in zip(shard.items, requests, results, strict=True)
    ]


def imported_rows(job: GenerationJob, shard: GenerationShard) -> list[dict[str, Any]]:
    """Rows of imported texts."""
    rows = []
    for item in shard.items:
        found = text_for(item, job.author, job.setting)
        assert found is not None
        split = split_imported(job.text, item, found, job.setting, job.source.instruction, job.config.without_mode)
        rows.append(generation_row(job.text, item, 0, split.prompt, split.response, None, answer_check(item)))
    unended = sum(row["finish"] == "length" for row in rows)
    if rows and unended == len(rows):
        log.warning(
            "none of the %d texts of %r ends in %s: they count as unfinished. Where the mark was cut off, a column "
            "finish (stop or length) says so",
            unended,
            job.author,
            job.text.tags.eos,
        )
    return rows


def answer_check(item: Item) -> Callable[[str], bool]:
    """What the funnel asks of an answer: a boxed result, or, where there is no exact answer, any text."""
    return (lambda answer: bool(answer.strip())) if item.kind == "open" else has_boxed
