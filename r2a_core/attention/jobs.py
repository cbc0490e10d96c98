"""The attention stage's work: the statistics of each shard of activations, independent of the other shards.

activations of one model, dataset and setting, their generations, tokenizer -> shards of statistics; medians as metrics.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import polars as pl

from r2a_core.activations.reading import ActivationReader
from r2a_core.activations.selection import TokenTrace, select_traces
from r2a_core.attention.pieces import token_pieces
from r2a_core.attention.statistics import StatisticsConfig, TraceFrames, attention_statistics, segment_medians
from r2a_core.errors import R2AError
from r2a_core.provenance import fingerprint
from r2a_core.store import WorkStore

DIGITS = 6  # of metrics


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
    reader: ActivationReader, traces: Mapping[str, TokenTrace], config: StatisticsConfig, base: Mapping[str, Any]
) -> list[StatisticsShard]:
    """One shard of statistics for each shard of activations, in order. base: digests of code and tokenizer."""
    shards = []
    for (digest,), rows in reader.index.group_by("sha256", maintain_order=True):
        part = tuple(traces[item_id] for item_id in rows["item_id"])
        ids = [trace.token_ids for trace in part]
        shards.append(StatisticsShard(part, fingerprint(**base, params=asdict(config), activations=digest, ids=ids)))
    return shards


def statistics_shard(
    store: WorkStore,
    shard: StatisticsShard,
    reader: ActivationReader,
    tokenizer: Any,
    config: StatisticsConfig,
    device: str,
) -> TraceFrames:
    """Frames of one shard, from the work store or computed now."""

    @cache
    def frames() -> TraceFrames:
        by_item = {trace.item_id: trace for trace in shard.traces}
        stored = (reader.trace(item_id) for item_id in by_item)
        return attention_statistics(stored, texts(tokenizer, by_item), config, device)

    def kept(suffix: str, write: Any) -> pl.DataFrame:
        return pl.read_parquet(store.shard(shard.fingerprint, suffix, write))

    return TraceFrames(
        kept(".attention.parquet", lambda path: frames().attention.write_parquet(path)),
        kept(".sentences.parquet", lambda path: frames().sentences.write_parquet(path)),
    )


def joined(shards: list[TraceFrames]) -> TraceFrames:
    """The frames of all shards, in order; empty frames of the same schemas without any."""
    empty = attention_statistics([], {}, StatisticsConfig(()))
    return TraceFrames(
        pl.concat([empty.attention, *(shard.attention for shard in shards)], rechunk=True),
        pl.concat([empty.sentences, *(shard.sentences for shard in shards)], rechunk=True),
    )


def medians_text(attention: pl.DataFrame) -> str:
    """What Figure 2 shows, as JSON text: source -> number of traces and median of each segment."""
    rows = segment_medians(attention).iter_rows(named=True)
    medians = {row.pop("source"): {name: round(value, DIGITS) for name, value in row.items()} for row in rows}
    return json.dumps(medians, indent=1, allow_nan=False) + "\n"
