"""Which heads look from the answer at the reasoning: rankings of all heads, and their overlap with other kinds of
heads.

attention frames by dataset (with reasoning), induction and retrieval scores -> one row a dataset, layer and head
(HEAD_SCHEMA). The first `top` heads by `rank` are the Reasoning-Focus Heads (paper section 4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated

import polars as pl
from pydantic import Field

from r2a_core.errors import R2AError
from r2a_core.finite import check_columns

Head = tuple[int, int]  # layer, head
MEANT = ("reasoning", "uniform_share", "uniformity", "walk_correlation", "reflection")  # columns averaged over traces
REBUILD = "rebuild it with: dvc repro attention"
HEAD_SCHEMA = {
    "layer": pl.Int16,
    "head": pl.Int16,
    "dataset": pl.String,
    "n_traces": pl.Int32,
    "answer_to_reasoning": pl.Float64,  # attention mass, mean over answer rows, then over traces
    "rank": pl.Int32,  # by answer_to_reasoning, 1 = highest; ties by layer, then head
    "top10_count": pl.Int32,  # traces in which the head is among the `top` highest
    "count_rank": pl.Int32,  # by top10_count, ties by rank
    "uniform_share": pl.Float64,  # answer_to_reasoning of uniform attention, mean over traces
    "above_uniform": pl.Float64,  # answer_to_reasoning - uniform_share
    "uniformity": pl.Float64,  # 1 = even over the reasoning, mean over traces
    "walk_correlation": pl.Float64,  # mean over traces that have one
    "reflection": pl.Float64,  # attention mass, mean over traces
    "induction": pl.Float64,  # see attention/induction.py
    "induction_match": pl.Float64,
    "retrieval": pl.Float64,  # see attention/retrieval.py
}


@dataclass(frozen=True)
class WalkThresholds:
    """A head walks along the reasoning when its mass on it and its walk correlation reach these."""

    mass: Annotated[float, Field(gt=0, le=1)] = 0.6  # attention mass answer -> reasoning
    correlation: Annotated[float, Field(gt=0, le=1)] = 0.7  # of answer position and attention centroid


@dataclass(frozen=True)
class HeadSets:
    """The highest heads by each score, highest first; heads that score 0 are left out."""

    rfh: tuple[Head, ...]
    rfh_by_count: tuple[Head, ...]
    induction: tuple[Head, ...]
    retrieval: tuple[Head, ...]

    def overlaps(self) -> dict[str, int]:
        """How many heads two sets share, for each pair of sets."""
        pairs = combinations(vars(self).items(), 2)
        return {f"{first}_and_{second}": len(set(one) & set(other)) for (first, one), (second, other) in pairs}


def rank_heads(
    attention: Mapping[str, pl.DataFrame], induction: pl.DataFrame, retrieval: pl.DataFrame, top: int = 10
) -> pl.DataFrame:
    """All heads of a model on each dataset, in HEAD_SCHEMA, datasets in the order given, heads by layer and head.

    attention: frames of ATTENTION_SCHEMA; induction: layer, head, induction, induction_match; retrieval: layer, head,
    retrieval. Raises R2AError when a frame has no answer rows or the scores are of another model.
    """
    frames = [head_means(dataset, frame, top) for dataset, frame in attention.items()]
    heads = pl.concat(frames)
    for scores in (induction, retrieval):
        names = [name for name in scores.columns if name not in ("layer", "head")]
        check_columns(scores, names, ("layer", "head"), "scores of heads", "score the heads again: dvc repro heads")
        heads = heads.join(scores, on=["layer", "head"], how="left", maintain_order="left")
    missing = heads.filter(pl.col("induction").is_null() | pl.col("retrieval").is_null())
    if missing.height:
        layer, head = missing.row(0)[:2]
        raise R2AError(f"layer {layer}, head {head} has no induction or retrieval score", "score the same model")
    return heads.select(list(HEAD_SCHEMA)).cast(HEAD_SCHEMA)  # type: ignore[arg-type]


def head_means(dataset: str, attention: pl.DataFrame, top: int) -> pl.DataFrame:
    """Trace means and both rankings of one dataset, by layer and head."""
    answers = attention.filter(pl.col("source") == "answer").with_columns(pl.col("reasoning").cast(pl.Float64))
    if answers.is_empty():
        raise R2AError(f"the attention of {dataset} has no answer rows", REBUILD)
    check_columns(answers, MEANT, ("item_id", "layer", "head"), f"attention of {dataset}", REBUILD)
    answers = answers.sort(["item_id", "reasoning", "layer", "head"], descending=[False, True, False, False])
    place = pl.int_range(pl.len()).over("item_id")

    def mean(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64).mean()

    heads = (
        answers.with_columns(among=place < top)
        .sort("layer", "head", "item_id")
        .group_by("layer", "head", maintain_order=True)
        .agg(
            pl.lit(dataset).alias("dataset"),
            pl.len().cast(pl.Int32).alias("n_traces"),
            mean("reasoning").alias("answer_to_reasoning"),
            pl.col("among").sum().cast(pl.Int32).alias("top10_count"),
            *(mean(name) for name in MEANT if name != "reasoning"),
        )
        .with_columns(above_uniform=pl.col("answer_to_reasoning") - pl.col("uniform_share"))
    )
    heads = with_rank(heads, "rank", ["answer_to_reasoning"])
    heads = with_rank(heads, "count_rank", ["top10_count", "answer_to_reasoning"])
    columns = [name for name in HEAD_SCHEMA if name in heads.columns]
    return heads.sort("layer", "head").select(columns)


def with_rank(heads: pl.DataFrame, name: str, by: list[str]) -> pl.DataFrame:
    """Adds a rank from 1 by falling `by`, ties by layer, then head."""
    ordered = heads.sort([*by, "layer", "head"], descending=[True] * len(by) + [False, False])
    return ordered.with_row_index(name, offset=1).with_columns(pl.col(name).cast(pl.Int32))


def head_sets(heads: pl.DataFrame, dataset: str, top: int = 10) -> HeadSets:
    """The `top` heads by each score on one dataset, from a frame of HEAD_SCHEMA."""
    frame = heads.filter(pl.col("dataset") == dataset)

    def highest(column: str, *, falling: bool) -> tuple[Head, ...]:
        scored = frame.filter(pl.col(column) > 0)
        ordered = scored.sort([column, "layer", "head"], descending=[falling, False, False])
        return tuple(ordered.select("layer", "head").head(top).iter_rows())

    return HeadSets(
        rfh=highest("rank", falling=False),
        rfh_by_count=highest("count_rank", falling=False),
        induction=highest("induction", falling=True),
        retrieval=highest("retrieval", falling=True),
    )


def walks(heads: pl.DataFrame, n_layers: int, thresholds: WalkThresholds) -> pl.DataFrame:
    """Heads of the middle half of the layers by falling `margin`, which is at least 1 where a head walks.

    margin: the smaller of mass and walk correlation, each over its threshold. `heads`: rows of one dataset.
    """
    middle = (pl.col("layer") >= n_layers / 4) & (pl.col("layer") < n_layers * 3 / 4)
    margin = pl.min_horizontal(
        pl.col("answer_to_reasoning") / thresholds.mass, pl.col("walk_correlation") / thresholds.correlation
    )
    known = heads.filter(middle & pl.col("walk_correlation").is_not_null()).with_columns(margin=margin)
    return known.sort("margin", "layer", "head", descending=[True, False, False])
