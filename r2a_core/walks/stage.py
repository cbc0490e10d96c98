"""The stage walks: what every head makes of the reasoning in each captured trace, shard by shard.

stored activations of one model and dataset, its ranked heads, its graded answers -> WALK_SCHEMA (walks/summary.py),
one row per trace, layer, view and head.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl
from torch import Tensor

from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.job import AttentionJob, stored_table
from r2a_core.config import ViewName, WalkThresholds
from r2a_core.infra.checks import check_finite
from r2a_core.infra.shards import Work
from r2a_core.results import walking_heads
from r2a_core.tokenizer import reflection_ranges, token_pieces
from r2a_core.trace import TokenTrace
from r2a_core.walks.measures import layer_readings
from r2a_core.walks.summary import JOINED, KEY, MEASURES, WALK_SCHEMA

SCORE_COLUMNS = ("item_id", "setting", "run", "status", "score")  # of EVALUATION_SCHEMA


@dataclass(frozen=True)
class WalkJob(AttentionJob):
    """What all shards of one model and dataset share."""

    peak: float  # times even reading that make a ridge
    views: tuple[ViewName, ...]


def walk_table(job: WalkJob, work: Work) -> pl.DataFrame:
    """Measure every stored trace; no rows, with a warning, where none is. JOINED columns are null."""
    return stored_table(job, work, trace_walks, WALK_SCHEMA, peak=job.peak, views=job.views)


def trace_walks(job: WalkJob, trace: TokenTrace, stored: RecordedTrace, device: str) -> pl.DataFrame:
    """Make the rows of one trace, by layer, view and head."""
    segments = trace.segments
    found = reflection_ranges(token_pieces(job.tokenizer.hf, trace.token_ids), segments.reasoning, job.phrases)
    marks = [phrase.start - segments.reasoning.start for phrase in found]
    frames = [pl.DataFrame(schema=WALK_SCHEMA)]
    for number, layer in sorted(stored.layers.items()) if len(segments.reasoning) else ():
        queries, keys = stored.queries(number).to(device), stored.keys(number).to(device)
        readings = layer_readings(queries, keys, stored.first_row, layer, segments, job.peak, job.views)
        for view, reading in readings.items():
            check_finite(reading.mass, f"{trace.item_id!r}, layer {number}: mass of the view {view}", ("head",))
            columns: dict[str, Any] = {"head": range(layer.n_heads)} | vars(reading)
            columns = {name: each.tolist() if isinstance(each, Tensor) else each for name, each in columns.items()}
            own = pl.DataFrame(columns, schema={name: WALK_SCHEMA[name] for name in columns})
            frames.append(own.with_columns(layer=pl.lit(number, pl.Int16), view=pl.lit(view)))
    return pl.concat(frames, how="diagonal").with_columns(
        pl.col(list(MEASURES)).fill_nan(None),
        item_id=pl.lit(trace.item_id),
        n_reasoning_tokens=pl.lit(len(segments.reasoning), pl.Int32),
        n_answer_tokens=pl.lit(len(segments.answer), pl.Int32),
        reflection=pl.lit(marks, pl.List(pl.Int32)),
    )


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
    """Rank the answer's heads that walk, for each trace by the half of the traces that it is not in: KEY and walk_rank.

    Heads chosen by a trace's own walk would walk there better than elsewhere by the choice alone.
    """
    chance, items = heads.select("layer", "head", "walk_null_95"), sorted(set(walks["item_id"]))
    ranks = [pl.DataFrame(schema={name: WALK_SCHEMA[name] for name in (*KEY, "walk_rank")})]
    for half in (items[::2], items[1::2]):
        means = (
            walks.filter(~pl.col("item_id").is_in(half), pl.col("view") == "answer")
            .group_by("layer", "head", maintain_order=True)
            .agg(
                answer_to_reasoning=pl.col("mass").cast(pl.Float64).mean(),
                walk_correlation_weighted=pl.col("walk").cast(pl.Float64).mean(),
            )
        )
        walking = walking_heads(means.join(chance, on=["layer", "head"], how="left", maintain_order="left"), thresholds)
        rows = [(item, "answer", *head, rank) for item in half for rank, head in enumerate(walking, 1)]
        ranks.append(pl.DataFrame(rows, schema=ranks[0].schema, orient="row"))
    return pl.concat(ranks)
