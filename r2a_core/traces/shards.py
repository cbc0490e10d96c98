"""The generate stage's work, cut into shards that do not depend on one another.

questions -> shards of a fixed number of questions and one run each. A shard holds the rows of its run and, with
`retry`, those of a second attempt at the questions that left the funnel; the retry of run r is run `runs` + r.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from r2a_core.data.imported import text_for
from r2a_core.data.items import Item
from r2a_core.data.prepare import DatasetParams, FileDataset
from r2a_core.grading.boxed import has_boxed
from r2a_core.models.loading import LoadedModel, LoadedTokenizer, load_model, load_tokenizer
from r2a_core.provenance import fingerprint
from r2a_core.traces.generation import GenerationRequest, SamplingConfig, generate
from r2a_core.traces.prompts import Setting, WithoutMode, prompt_ids
from r2a_core.traces.rows import GENERATION_SCHEMA, generation_row, split_imported

IMPORTED_PER_SHARD = 100  # texts


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


def plan_shards(job: GenerationJob, items: Sequence[Item], base: Mapping[str, Any]) -> list[GenerationShard]:
    """Shards of all runs. More questions, or more runs, leave the earlier full shards as they are."""
    kept = {name: value for name, value in asdict(job.config).items() if name not in ("limit", "runs", "batch_size")}
    shards = []
    for run in range(job.config.runs):
        for part in chunks(items, job.config.shard_items):
            questions = [(item.item_id, item.question) for item in part]
            print_ = fingerprint(
                **base, params=kept, instruction=job.source.instruction, run=run, runs=retry_base(job), items=questions
            )
            shards.append(GenerationShard(part, run, print_))
    return shards


def retry_base(job: GenerationJob) -> int:
    """First run number of a retry; only there do the rows depend on how many runs there are."""
    return job.config.runs if job.config.retry else 0


def imported_shards(job: GenerationJob, items: Sequence[Item], base: Mapping[str, Any]) -> list[GenerationShard]:
    """Shards of imported texts."""
    return [
        GenerationShard(part, 0, fingerprint(**base, source=asdict(job.source), items=[asdict(item) for item in part]))
        for part in chunks(items, IMPORTED_PER_SHARD)
    ]


def chunks(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def write_shard(job: GenerationJob, shard: GenerationShard, path: Path) -> None:
    """Writes the rows of one shard as parquet."""
    if isinstance(job.source, FileDataset) and job.source.kind == "traces":
        rows = imported_rows(job, shard)
    else:
        rows = generated_rows(job, shard, shard.run)
        if job.config.retry:
            failed = {row["item_id"] for row in rows if row["status"] != "ok"}
            again = tuple(item for item in shard.items if item.item_id in failed)
            rows += generated_rows(job, GenerationShard(again, shard.run, ""), job.config.runs + shard.run)
    pl.DataFrame(rows, schema=GENERATION_SCHEMA).write_parquet(path)


def generated_rows(job: GenerationJob, shard: GenerationShard, run: int) -> list[dict[str, Any]]:
    """Rows of freshly generated responses, in question order."""
    if not shard.items:
        return []
    text, config = job.loaded.text, job.config
    requests = [
        GenerationRequest(
            item.item_id,
            run,
            tuple(prompt_ids(text, item.question, job.source.instruction, job.setting, config.without_mode)),
        )
        for item in shard.items
    ]
    sampling = SamplingConfig(
        config.temperature, config.max_new_tokens, config.seed, config.batch_size, config.tie_margin
    )
    results = generate(job.loaded, requests, sampling)
    return [
        generation_row(text, item, run, request.prompt_ids, result.response_ids, config.seed, answer_check(item))
        for item, request, result in zip(shard.items, requests, results, strict=True)
    ]


def imported_rows(job: GenerationJob, shard: GenerationShard) -> list[dict[str, Any]]:
    """Rows of imported texts, in question order; questions without a text of this model and setting have no row."""
    assert isinstance(job.source, FileDataset)
    author = job.source.texts_of.get(job.model_name, job.model_name)
    rows = []
    for item in shard.items:
        content = text_for(item, author, job.setting)
        if content is None:
            continue
        split = split_imported(job.text, item, content, job.setting, job.source.instruction, job.config.without_mode)
        rows.append(generation_row(job.text, item, 0, split.prompt, split.response, None, answer_check(item)))
    return rows


def answer_check(item: Item) -> Callable[[str], bool]:
    """What the funnel asks of an answer: a boxed result, or, where there is no exact answer, any text."""
    return (lambda answer: bool(answer.strip())) if item.kind == "open" else has_boxed
