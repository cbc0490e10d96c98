"""The stage walks: what every head makes of the reasoning in each captured trace, shard by shard.

stored activations of one model and dataset, its ranked heads, its graded answers -> WALK_SCHEMA (walks/summary.py),
one row per trace, layer and head.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.tables import AttentionJob, AttentionShard, plan_attention
from r2a_core.config import WalkThresholds
from r2a_core.infra.checks import check_finite
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.load import choose_device
from r2a_core.results import walking_heads
from r2a_core.tokenizer import reflection_ranges, token_pieces
from r2a_core.walks.measures import layer_reading
from r2a_core.walks.summary import JOINED, KEY, MEASURES, WALK_SCHEMA

log = logging.getLogger(__name__)

SCORE_COLUMNS = ("item_id", "setting", "run", "status", "score")  # of EVALUATION_SCHEMA


@dataclass(frozen=True)
class WalkJob(AttentionJob):
    """What all shards of one model and dataset share."""

    peak: float  # times even reading that make a ridge


def walk_table(job: WalkJob, work: Work) -> pl.DataFrame:
    """Measure every stored trace; no rows, with a warning, where none is. JOINED columns are null."""
    empty = pl.DataFrame(schema=WALK_SCHEMA)
    if job.stored is None or not job.stored.item_ids:
        log.warning("%s: no activations of traces are stored, so no walk is measured", work.name)
        return empty
    shards = plan_attention(job, {**work.base, "peak": job.peak})
    return pl.concat([empty, *(pl.read_parquet(path) for path in work.finish(finish_walks, job, shards))])


def finish_walks(job: WalkJob, store: WorkStore, shard: AttentionShard) -> Path:
    """Return the table of one shard, from the work store or computed now."""
    device, stored = str(choose_device(job.device)), job.stored
    assert stored is not None

    def write(path: Path) -> None:
        frames = []
        for trace in shard.traces:
            pieces = token_pieces(job.tokenizer, trace.token_ids)
            found = reflection_ranges(pieces, trace.segments.reasoning, job.phrases)
            marks = [phrase.start - trace.segments.reasoning.start for phrase in found]
            frames.append(trace_walks(trace.item_id, stored.trace(trace.item_id), marks, job.peak, device))
        save_frame(path, pl.concat(frames))

    return store.shard(fingerprint(walks=shard.fingerprint), ".parquet", write)


def trace_walks(item_id: str, trace: RecordedTrace, marks: list[int], peak: float, device: str) -> pl.DataFrame:
    """Make the rows of one trace, by layer and head. marks: tokens of the reasoning, from 0, that open a reflection."""
    segments = trace.segments
    columns: dict[str, list[Any]] = {name: [] for name in WALK_SCHEMA if name not in JOINED}
    for number, layer in sorted(trace.layers.items()) if len(segments.reasoning) else ():
        queries, keys = trace.queries(number).to(device), trace.keys(number).to(device)
        reading = layer_reading(queries, keys, trace.first_row, layer, segments, peak)
        check_finite(reading.mass, f"{item_id!r}, layer {number}: mass on the reasoning", ("head",))
        for name, values in vars(reading).items():
            columns[name] += values.tolist() if isinstance(values, Tensor) else values
        columns["layer"] += [number] * layer.n_heads
        columns["head"] += range(layer.n_heads)
    n_rows = len(columns["head"])
    for name, value in (
        ("item_id", item_id),
        ("n_reasoning_tokens", len(segments.reasoning)),
        ("n_answer_tokens", len(segments.answer)),
        ("reflection", marks),
    ):
        columns[name] = [value] * n_rows
    columns |= {name: [None] * n_rows for name in JOINED}
    return pl.DataFrame(columns, schema=WALK_SCHEMA).with_columns(pl.col(list(MEASURES)).fill_nan(None))


def with_ranks_and_scores(
    walks: pl.DataFrame, heads: pl.DataFrame, evaluation: pl.DataFrame, thresholds: WalkThresholds
) -> pl.DataFrame:
    """Fill the JOINED columns. heads: HEAD_SCHEMA of the dataset; evaluation: its SCORE_COLUMNS."""
    ok = evaluation.filter(pl.col("setting") == "with_reasoning", pl.col("status") == "ok").sort("run")
    scores = ok.unique("item_id", keep="first", maintain_order=True).select("item_id", "score")
    ranked = walks.drop(JOINED).join(scores, on="item_id", how="left", maintain_order="left")
    ranked = ranked.join(held_out_ranks(walks, heads, thresholds), on=KEY, how="left", maintain_order="left")
    return ranked.select(list(WALK_SCHEMA)).cast(WALK_SCHEMA)  # type: ignore[arg-type]


def held_out_ranks(walks: pl.DataFrame, heads: pl.DataFrame, thresholds: WalkThresholds) -> pl.DataFrame:
    """Rank the heads that walk, for each trace by the half of the traces that it is not in: KEY and walk_rank.

    Heads chosen by a trace's own walk would walk there better than elsewhere by the choice alone.
    """
    chance, items = heads.select("layer", "head", "walk_null_95"), sorted(set(walks["item_id"]))
    ranks = [pl.DataFrame(schema={name: WALK_SCHEMA[name] for name in (*KEY, "walk_rank")})]
    for half in (items[::2], items[1::2]):
        means = (
            walks.filter(~pl.col("item_id").is_in(half))
            .group_by("layer", "head")
            .agg(
                answer_to_reasoning=pl.col("mass").cast(pl.Float64).mean(),
                walk_correlation_weighted=pl.col("walk").cast(pl.Float64).mean(),
            )
        )
        walking = walking_heads(means.join(chance, on=["layer", "head"], how="left"), thresholds)
        rows = [(item, *head, rank) for item in half for rank, head in enumerate(walking, 1)]
        ranks.append(pl.DataFrame(rows, schema=ranks[0].schema, orient="row"))
    return pl.concat(ranks)
