"""Ranks all heads by attention from the answer to the reasoning, beside their induction and retrieval scores.

attention tables of a model by dataset (with reasoning), its traces, the model -> data/heads/<model>.parquet, one row
per dataset, layer and head, and its metrics. The Reasoning-Focus Heads (paper section 4, Figure 3) are the first by
`rank` that `heads.rule` admits.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from scipy.special import ndtr, ndtri  # normal distribution; scipy.stats takes half a second to import

from r2a_core.attention.head_scores import SCORE_SCHEMA, SCORES, ScoreJob, stored_scores
from r2a_core.attention.tables import ATTENTION_SCHEMA
from r2a_core.config import HeadsParams
from r2a_core.infra.checks import check_columns
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame
from r2a_core.infra.shards import Work
from r2a_core.models.load import load_model
from r2a_core.results import head_name, head_sets, rank_by_walk, walking_heads
from r2a_core.trace import TokenTrace

log = logging.getLogger(__name__)

AVERAGED = (  # over traces
    *("reasoning", "uniform_share", "focus", "uniformity", "reflection"),
    *("walk_correlation", "walk_correlation_weighted", "effective_rows"),
)

LEAST_P = 1e-6

REWORDED = 0.5  # an answer of which less is copied says it in other words; a copy walks by definition

REBUILD = "rebuild it with: dvc repro attention"

HEAD_SCHEMA = {
    "layer": pl.Int16,
    "head": pl.Int16,
    "dataset": pl.String,
    "n_traces": pl.Int32,
    "answer_to_reasoning": pl.Float64,  # attention mass, mean over answer rows, then over traces
    "rank": pl.Int32,  # by answer_to_reasoning, 1 = highest; ties by layer, then head
    "top10_count": pl.Int32,  # traces in which the head is among the `heads.top` highest, whatever that number
    "count_rank": pl.Int32,  # by top10_count, ties by rank
    "uniform_share": pl.Float64,  # answer_to_reasoning of even reading, sinks too, mean over traces
    "above_uniform": pl.Float64,  # answer_to_reasoning - uniform_share
    "focus": pl.Float64,  # log-odds over even reading, sinks left out, mean over traces; above 0: more than even
    "uniformity": pl.Float64,  # 1 = even over the reasoning, mean over traces
    "walk_correlation": pl.Float64,  # mean over traces that have one
    "walk_correlation_weighted": pl.Float64,  # the same, rows counted by their mass on the reasoning
    "effective_rows": pl.Float64,  # answer rows that look at the reasoning, mean over traces
    "walk_null_95": pl.Float64,  # 95% of the cases stay below it by chance; see `with_walk_null`
    "walk_p": pl.Float64,  # probability of a mean as high by chance
    "n_reworded": pl.Int32,  # traces whose answer is in other words: less than half of it copied from the reasoning
    "answer_to_reasoning_reworded": pl.Float64,  # mean over these
    "walk_correlation_weighted_reworded": pl.Float64,
    "reflection": pl.Float64,  # attention mass, mean over traces
    "induction": pl.Float64,  # see attention/induction.py
    "induction_match": pl.Float64,
    "retrieval": pl.Float64,  # see attention/retrieval.py
    "reasoning_focus": pl.Boolean,  # whether it is a Reasoning-Focus Head
    "induction_head": pl.Boolean,
    "retrieval_head": pl.Boolean,
}


def rank_heads(attention: Mapping[str, pl.DataFrame], scores: pl.DataFrame, params: HeadsParams) -> pl.DataFrame:
    """Rank all heads of a model on each dataset, in HEAD_SCHEMA: datasets in the order given, heads by layer and head.

    attention: frames of ATTENTION_SCHEMA; scores: layer, head, induction, induction_match, retrieval. Raises R2AError
    when a frame has no answer rows, a number is not finite or the scores are of another model.
    """
    check_columns(scores, SCORES, ("layer", "head"), "scores of heads", "score the heads again: dvc repro heads")
    frames = [rank_on_dataset(dataset, frame, params.top) for dataset, frame in attention.items()]
    if not frames:
        return pl.DataFrame(schema=HEAD_SCHEMA)
    known = scores.select("layer", "head", *SCORES)
    heads = pl.concat(frames).join(known, on=["layer", "head"], how="left", maintain_order="left")
    missing = heads.filter(pl.any_horizontal(pl.col(SCORES).is_null()))
    if missing.height:
        name = head_name(*missing.select("layer", "head").row(0))
        raise R2AError(f"{name} has no induction or retrieval score", "score the same model")
    heads = heads.with_columns(**head_kinds(params))
    return heads.select(list(HEAD_SCHEMA)).cast(HEAD_SCHEMA)  # type: ignore[arg-type]


def head_kinds(params: HeadsParams) -> dict[str, pl.Expr]:
    """Tell of each head which kinds it is of, by dataset; of each, the `top` highest at most."""

    def highest(score: str, least: float) -> pl.Expr:
        rank = pl.col(score).rank("ordinal", descending=True).over("dataset")
        return (rank <= params.top) & (pl.col(score) >= least)

    return {
        "reasoning_focus": is_reasoning_focus(params),
        "induction_head": highest("induction", params.least.induction),
        "retrieval_head": highest("retrieval", params.least.retrieval),
    }


def is_reasoning_focus(params: HeadsParams) -> pl.Expr:
    """Tell of each ranked head whether it is a Reasoning-Focus Head, by dataset."""
    focus = (pl.col("rank") <= params.top) & (pl.col("answer_to_reasoning") > 0)
    if params.rule == "paper":
        return focus
    most = (params.share * pl.len().over("dataset")).ceil()
    return focus & (pl.col("rank") <= most) & (pl.col("focus") > 0).fill_null(value=False)


def rank_on_dataset(dataset: str, attention: pl.DataFrame, top: int) -> pl.DataFrame:
    """Average over the traces of one dataset and rank in both ways, by layer and head."""
    answers = attention.filter(pl.col("source") == "answer").with_columns(pl.col("reasoning").cast(pl.Float64))
    if answers.is_empty():
        raise R2AError(f"the attention of {dataset} has no answer rows", REBUILD)
    check_columns(answers, AVERAGED, ("item_id", "layer", "head"), f"attention of {dataset}", REBUILD)
    answers = answers.sort(["item_id", "reasoning", "layer", "head"], descending=[False, True, False, False])
    place = pl.int_range(pl.len()).over("item_id")

    def mean(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64).mean()

    reworded, null_sd = pl.col("copied") < REWORDED, pl.col("walk_null_sd").cast(pl.Float64)

    heads = (
        answers.with_columns(among=place < top)
        .sort("layer", "head", "item_id")
        .group_by("layer", "head", maintain_order=True)
        .agg(
            pl.lit(dataset).alias("dataset"),
            pl.len().cast(pl.Int32).alias("n_traces"),
            mean("reasoning").alias("answer_to_reasoning"),
            pl.col("among").sum().cast(pl.Int32).alias("top10_count"),
            *(mean(name) for name in AVERAGED if name != "reasoning"),
            mean("walk_null_mean").alias("null_mean"),  # shifts of different traces are independent
            (null_sd.pow(2).sum().sqrt() / null_sd.count()).alias("null_sd"),
            reworded.sum().cast(pl.Int32).alias("n_reworded"),
            mean_of(reworded, "reasoning").alias("answer_to_reasoning_reworded"),
            mean_of(reworded, "walk_correlation_weighted").alias("walk_correlation_weighted_reworded"),
        )
        .with_columns(above_uniform=pl.col("answer_to_reasoning") - pl.col("uniform_share"))
    )
    heads = with_rank(with_walk_null(heads), "rank", ["answer_to_reasoning"])
    heads = with_rank(heads, "count_rank", ["top10_count", "answer_to_reasoning"])
    columns = [name for name in HEAD_SCHEMA if name in heads.columns]
    return heads.sort("layer", "head").select(columns)


def mean_of(rows: pl.Expr, column: str) -> pl.Expr:
    """Average a column over the rows that an expression chooses."""
    return pl.col(column).cast(pl.Float64).filter(rows).mean()


def with_walk_null(heads: pl.DataFrame) -> pl.DataFrame:
    """Add walk_null_95 and walk_p: how high the mean correlation gets were the rows of every trace shifted by chance.

    heads: null_mean and null_sd of the mean over traces, taken as normal: rough for fewer than about five traces, and
    far out in the tail, where p stays at LEAST_P.
    """
    mean, sd = pl.col("null_mean"), pl.col("null_sd")
    z = pl.when(sd > 0).then((pl.col("walk_correlation_weighted") - mean) / sd).otherwise(0 * sd)
    p = ndtr(-heads.select(z.cast(pl.Float64)).to_series().to_numpy()).clip(min=LEAST_P)
    return heads.with_columns(walk_null_95=mean - ndtri(0.05) * sd, walk_p=pl.Series(p, nan_to_null=True))


def with_rank(heads: pl.DataFrame, name: str, by: list[str]) -> pl.DataFrame:
    """Add a rank from 1 by falling `by`, ties by layer, then head."""
    ordered = heads.sort([*by, "layer", "head"], descending=[True] * len(by) + [False, False])
    return ordered.with_row_index(name, offset=1).with_columns(pl.col(name).cast(pl.Int32))


RANKED_COLUMNS = [name for name, kind in ATTENTION_SCHEMA.items() if not kind.is_nested()]


def read_ranked(files: Mapping[str, Path]) -> dict[str, pl.DataFrame]:
    """Read the attention tables with answer rows, by dataset, without the columns that a ranking does not need.

    Raises MissingPrerequisite when a file is missing.
    """
    frames = {}
    for dataset, path in files.items():
        frame = read_frame(path, RANKED_COLUMNS, "attention").filter(pl.col("source") == "answer")
        if frame.height:
            frames[dataset] = frame
    return frames


@dataclass(frozen=True)
class ModelHeads:
    """All heads of a model on each dataset, HEAD_SCHEMA, and their induction and retrieval scores, SCORE_SCHEMA."""

    heads: pl.DataFrame
    scores: pl.DataFrame


def model_heads(
    folder: Path,
    device: str,
    attention: Mapping[str, pl.DataFrame],
    traces: Sequence[TokenTrace],
    params: HeadsParams,
    work: Work,
) -> ModelHeads:
    """Score and rank the heads of the model in `folder`; no rows, with a warning, where nothing was captured.

    attention: frames with answer rows, by dataset. traces: those of the first dataset, for the needle test.
    """
    scores = pl.DataFrame(schema=SCORE_SCHEMA)
    if attention:
        job = ScoreJob(params.induction, params.retrieval.of(folder.name), traces)
        if job.retrieval.needle == "question" and not job.needle_traces:
            raise R2AError(
                f"{folder.name}: no well-formed trace of the first dataset has a question, which heads.retrieval needs",
                "name another dataset first in run.datasets, or choose another heads.retrieval.needle",
            )
        scores = stored_scores(job, lambda: load_model(folder, device), work.base, work.store.on(device))
    else:
        log.warning("%s: no trace was captured, so no head is ranked", folder.name)
    return ModelHeads(rank_heads(attention, scores, params), scores)


def summary(heads: pl.DataFrame, scores: pl.DataFrame, params: HeadsParams) -> dict[str, Any]:
    """Make the metrics, by dataset: the Reasoning-Focus Heads, what they share with other sets, the heads that walk."""
    by_dataset = {}
    for dataset in heads["dataset"].unique(maintain_order=True):
        frame = heads.filter(pl.col("dataset") == dataset)
        middle = rank_by_walk(frame, params.walk)
        sets = head_sets(frame)
        by_dataset[dataset] = {
            "n_traces": frame["n_traces"][0],
            "reasoning_focus_heads": [head_name(*head) for head in sets.rfh],
            "first_mass": frame["answer_to_reasoning"].max(),
            "overlap": sets.overlaps(frame.height),
            "walking_heads": len(walking_heads(frame, params.walk)),
            "best_walk": walk_summary(middle.row(0, named=True)) if middle.height else None,
        }
    copied = None if scores.is_empty() else scores["copied"][0]
    return {"datasets": by_dataset, "needle_copied": copied}


def walk_summary(head: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the head that walks best in numbers."""
    return {
        "head": head_name(head["layer"], head["head"]),
        "mass": head["answer_to_reasoning"],
        "correlation": head["walk_correlation"],
        "correlation_weighted": head["walk_correlation_weighted"],
        "null_95": head["walk_null_95"],
        "p": head["walk_p"],
        "effective_rows": head["effective_rows"],
        "reworded": {
            "n_traces": head["n_reworded"],
            "mass": head["answer_to_reasoning_reworded"],
            "correlation_weighted": head["walk_correlation_weighted_reworded"],
        },
    }
