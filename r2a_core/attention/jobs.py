"""The attention stage's work: the statistics of each shard of activations, independent of the other shards.

activations of one model, dataset and setting, their generations, tokenizer -> shards of statistics; medians as metrics.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.activations.reading import ActivationReader
from r2a_core.activations.selection import TokenTrace, select_traces
from r2a_core.attention.pieces import token_pieces
from r2a_core.attention.statistics import StatisticsConfig, TraceFrames, attention_statistics, segment_medians
from r2a_core.errors import R2AError
from r2a_core.frames import save_frame
from r2a_core.models.loading import choose_device, load_tokenizer
from r2a_core.provenance import fingerprint
from r2a_core.store import WorkStore

DIGITS = 6  # of metrics


@dataclass(frozen=True)
class StatisticsJob:
    """What all shards of one model, dataset and setting share."""

    activations: Path  # folder
    model_folder: Path  # of which the tokenizer is used
    params: StatisticsConfig
    device: str

    @cached_property
    def reader(self) -> ActivationReader:
        return ActivationReader(self.activations)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.model_folder).tokenizer


@dataclass(frozen=True)
class StatisticsFiles:
    """The tables of one shard."""

    attention: Path
    sentences: Path


@dataclass(frozen=True)
class StatisticsShard:
    """The traces of one shard of activations, and the digest of all that their statistics depend on."""

    traces: tuple[TokenTrace, ...]
    fingerprint: str


def stored_traces(reader: ActivationReader, generations: pl.DataFrame) -> dict[str, TokenTrace]:
    """Token ids of the captured traces, by item id in the order of the index.

    Raises R2AError when activations and generations are not of the same traces.
    """
    known = {trace.item_id: trace for trace in select_traces(generations)}
    for item_id, n_tokens in reader.index.select("item_id", "n_tokens").iter_rows():
        if item_id not in known or len(known[item_id].token_ids) != n_tokens:
            raise R2AError(
                f"{reader.folder} holds another trace of {item_id!r} than the generations",
                "rebuild it: dvc repro capture",
            )
    return {item_id: known[item_id] for item_id in reader.item_ids}


def texts(tokenizer: Any, traces: Mapping[str, TokenTrace]) -> dict[str, list[str]]:
    """Text of each token, by item id."""
    return {item_id: token_pieces(tokenizer, trace.token_ids) for item_id, trace in traces.items()}


def plan_statistics(
    job: StatisticsJob, traces: Mapping[str, TokenTrace], base: Mapping[str, Any]
) -> list[StatisticsShard]:
    """One shard of statistics for each shard of activations, in order. base: digests of code and tokenizer."""
    shards = []
    for (digest,), rows in job.reader.index.group_by("sha256", maintain_order=True):
        part = tuple(traces[item_id] for item_id in rows["item_id"])
        ids = [trace.token_ids for trace in part]
        print_ = fingerprint(**base, params=asdict(job.params), activations=digest, ids=ids)
        shards.append(StatisticsShard(part, print_))
    return shards


def finish_statistics(job: StatisticsJob, store: WorkStore, shard: StatisticsShard) -> StatisticsFiles:
    """Files of one shard, from the work store or computed now."""

    @cache
    def frames() -> TraceFrames:
        by_item = {trace.item_id: trace for trace in shard.traces}
        stored = (job.reader.trace(item_id) for item_id in by_item)
        device = str(choose_device(job.device))
        return attention_statistics(stored, texts(job.tokenizer, by_item), job.params, device)

    return StatisticsFiles(
        store.shard(shard.fingerprint, ".attention.parquet", lambda path: save_frame(path, frames().attention)),
        store.shard(shard.fingerprint, ".sentences.parquet", lambda path: save_frame(path, frames().sentences)),
    )


def joined(shards: Iterable[StatisticsFiles]) -> TraceFrames:
    """The frames of all shards, in order; empty frames of the same schemas without any."""
    shards = list(shards)
    empty = attention_statistics([], {}, StatisticsConfig(()))
    return TraceFrames(
        pl.concat([empty.attention, *(pl.read_parquet(shard.attention) for shard in shards)], rechunk=True),
        pl.concat([empty.sentences, *(pl.read_parquet(shard.sentences) for shard in shards)], rechunk=True),
    )


def medians_text(attention: pl.DataFrame) -> str:
    """What Figure 2 shows, as JSON text: source -> number of traces and median of each segment."""
    rows = segment_medians(attention).iter_rows(named=True)
    medians = {row.pop("source"): {name: round(value, DIGITS) for name, value in row.items()} for row in rows}
    return json.dumps(medians, indent=1, allow_nan=False) + "\n"
