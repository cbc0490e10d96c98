"""Stages generate and generate_pairs: one response per question and run (paper sections 3 and 5).

items, a prepared model -> rows of GENERATION_SCHEMA, what they took

Questions are cut into shards of a fixed number of questions and one run each. With `retry`, a shard of its own holds a
second response to those questions that left the funnel; the retry of run r is run `runs` + r. Responses come from the
model in this process (generation.decode), from vLLM (generation.vllm) or from a server (generation.endpoint), all with
the same prompts; the texts of a dataset of kind `traces` are imported.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.config import DatasetParams, FileDataset, GenerateParams
from r2a_core.data.imported_texts import models_with_text, text_for
from r2a_core.data.items import Item
from r2a_core.generation.decode import GenerationRequest, generate
from r2a_core.generation.endpoint import EndpointBackend, check_continues
from r2a_core.generation.rows import generation_row, split_imported
from r2a_core.generation.usage import USAGE_SUFFIX, Usage, shards_usage
from r2a_core.generation.vllm import VllmBackend, load_engine
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.job import ModelJob
from r2a_core.models.pointer import ModelPointer, read_pointer
from r2a_core.prompts import prompt_ids
from r2a_core.trace import GENERATION_SCHEMA, Setting, has_boxed

log = logging.getLogger(__name__)

IMPORTED_PER_SHARD = 100  # texts

# Params that add or remove rows but never change one.
NOT_IN_A_ROW = {"limit", "runs", "retry", "batch_size", "backend"}


@dataclass(frozen=True)
class GenerationShard:
    """Some questions of one run, and the digest of all that their rows depend on."""

    items: tuple[Item, ...]
    run: int
    fingerprint: str


@dataclass(frozen=True)
class GenerationJob(ModelJob):
    """What all shards of one model, dataset and setting share."""

    model_name: str
    setting: Setting
    source: DatasetParams
    config: GenerateParams
    memory_mib: int | None = None  # for the responses that grow at a time; None = most of what the device has free

    @cached_property
    def pointer(self) -> ModelPointer:
        return read_pointer(self.model_folder)

    @property
    def backend_name(self) -> str:
        return "endpoint" if self.pointer.served else self.config.backend.of(self.model_name)

    @cached_property
    def endpoint(self) -> EndpointBackend:
        """The server of a model of kind `endpoint`."""
        assert self.pointer.served is not None
        name, instruction = f"{self.model_name}, {self.setting}", self.source.instruction
        return EndpointBackend(name, self.pointer.served, self.tokenizer, self.setting, instruction, self.config)

    @cached_property
    def engine(self) -> VllmBackend:
        """The model in vLLM, which loads here."""
        return load_engine(self.model_folder, self.device, self.config)

    @property
    def imports(self) -> bool:
        """Whether the texts exist already and are imported."""
        return self.source.kind == "traces"

    @property
    def author(self) -> str:
        """Name of the model in a file of existing texts."""
        texts_of = self.source.texts_of if isinstance(self.source, FileDataset) else {}
        return texts_of.get(self.model_name, self.model_name)


@dataclass(frozen=True)
class Responses:
    """The responses of one model to one dataset, GENERATION_SCHEMA, and what they took."""

    frame: pl.DataFrame
    usage: Usage


def generate_responses(job: GenerationJob, items: Sequence[Item], work: Work) -> Responses:
    """Answers every question, shard by shard; a server is asked from this process."""
    work = work.here() if job.pointer.served is not None else work
    found = work.finish(finish_shard, job, plan_shards(job, items, work.base))
    paths = [path for shard in found for path in shard]
    return Responses(read_shards(paths), shards_usage(paths, job.imports))


def generate_pair_responses(job: GenerationJob, items: Sequence[Item], kept: set[str], work: Work) -> pl.DataFrame:
    """Answers the questions of the pairs in `kept`: GENERATION_SCHEMA."""
    found = work.finish(finish_shard, job, list(plan_pair_shards(job, items, kept, work.base)))
    return read_shards([path for shard in found for path in shard])


def plan_shards(job: GenerationJob, items: Sequence[Item], base: Mapping[str, Any]) -> list[GenerationShard]:
    """Returns shards of first attempts. More questions, more runs or a retry leave the earlier full shards as they are.

    `base` is what else the rows depend on: code and model. There are none, and a warning says why, where a
    dataset of existing texts has none of this model, or a model without weights meets questions without texts. A served
    model has one shard a run: its replies are kept one by one, and all of them are asked for at a time.
    """
    if job.imports:
        return imported_shards(job, items, base)
    served = job.pointer.served
    if not job.pointer.has_weights and served is None:
        log.warning("%s has no weights and %s holds no texts: no responses", job.model_name, job.source.kind)
        return []
    if served is not None:
        check_continues(served, job.model_name, job.setting)
    kept = job.config.model_dump(mode="json", exclude=NOT_IN_A_ROW)
    if job.setting == "with_reasoning":
        del kept["without_mode"]
    rest = {"params": kept, "setting": job.setting, "backend": job.backend_name, "instruction": job.source.instruction}
    shards = []
    for run in range(job.config.runs):
        for part in chunks(items, job.config.shard_items if served is None else max(len(items), 1)):
            questions = [(item.item_id, item.question, item.kind) for item in part]
            digest = fingerprint(**base, **rest, run=run, items=questions)
            shards.append(GenerationShard(part, run, digest))
    return shards


def imported_shards(job: GenerationJob, items: Sequence[Item], base: Mapping[str, Any]) -> list[GenerationShard]:
    """Returns the shards of the questions that have a text of this model and setting."""
    present = [item for item in items if text_for(item, job.author, job.setting) is not None]
    if not present:
        others = sorted({author for item in items for author in models_with_text(item)})
        log.warning(
            "no %s text of %r: no responses. The file has texts of %s; texts_of names the one to take",
            job.setting,
            job.author,
            ", ".join(others),
        )
    source = {"source": job.source.model_dump(mode="json"), "author": job.author}
    how = {"setting": job.setting, "without_mode": job.config.without_mode}
    return [
        GenerationShard(part, 0, fingerprint(**base, **source, **how, items=[asdict(item) for item in part]))
        for part in chunks(present, IMPORTED_PER_SHARD)
    ]


def chunks(items: Sequence[Item], size: int) -> list[tuple[Item, ...]]:
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


def finish_shard(job: GenerationJob, store: WorkStore, shard: GenerationShard) -> list[Path]:
    """Files of a shard, from the store or made now: its rows and, with `retry`, those of a second attempt."""
    first = store.shard(shard.fingerprint, ".parquet", lambda path: write_shard(job, store, shard, path))
    if job.imports or not job.config.retry:
        return [first]
    run = job.config.runs + shard.run
    failed = set(pl.read_parquet(first, columns=["item_id", "status"]).filter(pl.col("status") != "ok")["item_id"])
    left = tuple(item for item in shard.items if item.item_id in failed)
    if not left:
        return [first]
    again = GenerationShard(left, run, fingerprint(first=shard.fingerprint, run=run))
    return [first, store.shard(again.fingerprint, ".parquet", lambda path: write_shard(job, store, again, path))]


def read_shards(paths: Sequence[Path]) -> pl.DataFrame:
    """Returns the rows of all files, in their order."""
    return pl.concat([pl.DataFrame(schema=GENERATION_SCHEMA), *(pl.read_parquet(path) for path in paths)])


def write_shard(job: GenerationJob, store: WorkStore, shard: GenerationShard, path: Path) -> None:
    """Writes the rows of one shard, in question order, as parquet."""
    rows = imported_rows(job, shard) if job.imports else generated_rows(job, store, shard)
    save_frame(path, pl.DataFrame(rows, schema=GENERATION_SCHEMA))


def generated_rows(job: GenerationJob, store: WorkStore, shard: GenerationShard) -> list[dict[str, Any]]:
    """Returns the rows of freshly generated responses; a server's own counts of tokens are kept in the store."""
    tokenizer, config = job.tokenizer, job.config
    requests = [
        GenerationRequest(
            item.item_id,
            shard.run,
            tuple(prompt_ids(tokenizer, item.question, job.source.instruction, job.setting, config.without_mode)),
        )
        for item in shard.items
    ]
    if job.backend_name == "endpoint":
        responses, usage = job.endpoint.respond(shard.items, requests, store)
        store.shard(shard.fingerprint, USAGE_SUFFIX, usage.write)
    elif job.backend_name == "vllm":
        responses = job.engine.respond(requests)
    else:
        responses = [each.response_ids for each in generate(job.loaded, requests, config, job.memory_mib)]
    return [
        generation_row(tokenizer, item, shard.run, request.prompt_ids, response, config.seed, answer_check(item))
        for item, request, response in zip(shard.items, requests, responses, strict=True)
    ]


def imported_rows(job: GenerationJob, shard: GenerationShard) -> list[dict[str, Any]]:
    """Returns the rows of imported texts; a text whose prompt cannot be told from its response has none."""
    rows, splits = [], []
    for item in shard.items:
        found = text_for(item, job.author, job.setting)
        assert found is not None
        asks, mode = job.source.instruction, job.config.without_mode
        try:
            split = split_imported(job.tokenizer, item, found, job.setting, asks, mode)
        except R2AError as error:
            log.warning("%s, %s, %r left out: %s", job.author, job.setting, item.item_id, error.message)
            continue
        splits.append(split)
        rows.append(generation_row(job.tokenizer, item, 0, split.prompt, split.response, None, answer_check(item)))
    tags = job.tokenizer.tags
    if job.setting == "with_reasoning" and (bare := sum(not split.opened for split in splits)):
        log.info("%d of %d texts of %r lack %s: it is put in", bare, len(rows), job.author, tags.think_open)
    if thinking := sum(split.thought for split in splits):
        log.warning(
            "%d of %d texts of %r without reasoning hold thoughts of their own before %s",
            thinking,
            len(rows),
            job.author,
            tags.think_close,
        )
    unended = sum(row["finish"] == "length" for row in rows)
    if rows and unended == len(rows):
        log.warning(
            "none of the %d texts of %r ends in %s: they count as unfinished. Where the mark was cut off, a column "
            "finish (stop or length) says so",
            unended,
            job.author,
            tags.eos,
        )
    return rows


def answer_check(item: Item) -> Callable[[str], bool]:
    """Returns what the funnel asks of an answer: a boxed result, or, where there is no exact answer, any text."""
    return (lambda answer: bool(answer.strip())) if item.kind == "open" else has_boxed


def plan_pair_shards(
    job: GenerationJob, items: Sequence[Item], kept: set[str], base: Mapping[str, Any]
) -> Iterator[GenerationShard]:
    """Returns the shards of the questions whose pair is in `kept`; none, with a warning, for a model without weights.

    Shards are cut over all questions, then thinned: a pair that is dropped changes its own shard only.
    """
    if not job.pointer.has_weights:
        log.warning("%s has no weights to patch: no responses to the pairs", job.model_name)
        return
    for part in chunks(items, job.config.shard_items):
        yield from plan_shards(job, [item for item in part if item.item_id.rpartition("-")[0] in kept], base)
