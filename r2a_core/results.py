"""Reductions that metrics, figures and the page share, so that one claim has one number wherever it is shown.

What the stages wrote (polars frames, summaries) -> trace means and their boxes (Figure 2), head means (Figure 3),
Reasoning-Focus and walking heads, the heads of two models on the same traces, evaluation summaries (Figure 1). Maps as
they are drawn (Figure 4) are in attention_maps.py, colours in appearance.py, curves over patched pairs and their
crossing (Figure 8) in patching/summary.py. Needs neither torch nor matplotlib.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from r2a_core.config import WalkThresholds
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.trace import SEGMENTS

Head = tuple[int, int]  # layer, head
Source = Literal["answer", "reasoning"]  # the rows (query positions) that attention comes from

SEGMENT_LABELS: dict[str, str] = dict(
    zip(SEGMENTS, ("BOS", "query", "<think>", "reasoning", "</think>", "answer"), strict=True)
)
SEEN_BY: dict[Source, tuple[str, ...]] = {"answer": SEGMENTS, "reasoning": SEGMENTS[:4]}  # no later segment
VIEWS = {  # rows, and what they look back at
    "answer": ("answer", "the reasoning"),
    "question": ("reasoning", "the question"),
    "earlier_reasoning": ("reasoning", "earlier reasoning"),
}
EVEN = "uniform_share"  # mass on the reasoning of even reading, sinks too, where it is known
MASS_COLUMNS = ["item_id", "layer", "head", "source", *SEGMENTS, EVEN]  # of ATTENTION_SCHEMA, for the two means below


def by_view(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Split a table with a column `view`, in the order of its rows."""
    return {view: rows for (view,), rows in frame.group_by("view", maintain_order=True)}  # type: ignore[misc]


def trace_means(attention: pl.DataFrame) -> pl.DataFrame:
    """Average masses over layers and heads: source, item_id (sorted), one column per segment, EVEN (float64)."""
    masses = pl.col([name for name in (*SEGMENTS, EVEN) if name in attention.columns]).cast(pl.Float64)
    ordered = attention.with_columns(masses).sort("item_id", "layer", "head")
    return ordered.group_by("source", "item_id", maintain_order=True).agg(masses.mean())


@dataclass(frozen=True)
class SegmentBox:
    """What a box of Figure 2 shows; whiskers reach the last trace within 1.5 interquartile ranges of the box."""

    q1: float
    median: float
    q3: float
    whisker_low: float
    whisker_high: float
    values: list[float]  # by trace, attention mass


def segment_boxes(means: pl.DataFrame, source: Source) -> dict[str, SegmentBox]:
    """Summarise each segment that rows of `source` can see, from `trace_means`; one without values has no box."""
    boxes = {}
    for segment in SEEN_BY[source]:
        values = means.filter(pl.col("source") == source)[segment].drop_nulls().to_numpy()
        if not len(values):
            continue
        q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        reach = 1.5 * (q3 - q1)
        inside = values[(values >= q1 - reach) & (values <= q3 + reach)]
        boxes[segment] = SegmentBox(q1, median, q3, float(inside.min()), float(inside.max()), values.tolist())
    return boxes


def segment_medians(attention: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Reduce Figure 2 to numbers: by source, in the order of the rows, n_traces and the median of each segment."""
    means = trace_means(attention)
    medians = {}
    for source in attention["source"].unique(maintain_order=True):
        own = means.filter(pl.col("source") == source)
        medians[source] = {"n_traces": own.height, **{name: own[name].median() for name in SEGMENTS}}
    return medians


def head_means(attention: pl.DataFrame) -> pl.DataFrame:
    """Average masses of answer rows over traces: layer, head (sorted), one column per segment, EVEN (float64)."""
    answers = attention.filter(pl.col("source") == "answer").sort("item_id", "layer", "head")
    means = [pl.col(name).cast(pl.Float64).mean() for name in (*SEGMENTS, EVEN) if name in answers.columns]
    return answers.group_by("layer", "head", maintain_order=True).agg(means).sort("layer", "head")


def head_grid(heads: pl.DataFrame, column: str) -> np.ndarray:
    """Arrange a score as (layer, head); NaN for layers that were not captured."""
    grid = np.full((int(heads["layer"].max()) + 1, int(heads["head"].max()) + 1), np.nan)  # type: ignore[arg-type]
    grid[heads["layer"].to_numpy(), heads["head"].to_numpy()] = heads[column].to_numpy()
    return grid


def head_name(layer: int, head: int) -> str:
    """Write L10.H31."""
    return f"L{layer}.H{head}"


@dataclass(frozen=True)
class HeadSets:
    """The heads of each kind, highest first."""

    rfh: tuple[Head, ...]  # Reasoning-Focus Heads: by the trace mean of answer -> reasoning
    rfh_by_count: tuple[Head, ...]  # as many, by the number of traces in which a head is among the highest
    induction: tuple[Head, ...]
    retrieval: tuple[Head, ...]

    def overlaps(self, n_heads: int) -> dict[str, dict[str, float]]:
        """Count the heads that two sets share, for each pair of sets, beside what chance gives.

        Chance draws each set from all `n_heads` (hypergeometric): `expected` is the mean, `p` the probability of as
        many or more.
        """
        found = {}
        for (first, one), (second, other) in combinations(vars(self).items(), 2):
            shared, a, b = len(set(one) & set(other)), len(one), len(other)
            as_many = sum(comb(a, k) * comb(n_heads - a, b - k) for k in range(shared, min(a, b) + 1))
            chance = {"expected": a * b / n_heads, "p": as_many / comb(n_heads, b)}
            found[f"{first}_and_{second}"] = {"shared": shared, **chance}
        return found


def head_sets(heads: pl.DataFrame) -> HeadSets:
    """Collect the heads of each kind, from rows of HEAD_SCHEMA of one dataset."""

    def highest(kind: str, score: str) -> tuple[Head, ...]:
        ordered = heads.filter(kind).sort(score, "layer", "head", descending=[True, False, False])
        return tuple(ordered.select("layer", "head").iter_rows())

    rfh = first_heads(heads.filter("reasoning_focus"), heads.height)
    return HeadSets(
        rfh=rfh,
        rfh_by_count=first_heads(heads, len(rfh), "count_rank"),
        induction=highest("induction_head", "induction"),
        retrieval=highest("retrieval_head", "retrieval"),
    )


def first_heads(heads: pl.DataFrame, count: int, by: str = "rank") -> tuple[Head, ...]:
    """Choose the first heads by rank."""
    return tuple(heads.sort(by).select("layer", "head").head(count).iter_rows())


KINDS = ("reasoning_focus", "induction_head", "retrieval_head")

SET_COLUMNS = ("layer", "head", "rank", "count_rank", "induction", "retrieval", *KINDS)  # of HEAD_SCHEMA, for head_sets


LOOKS = 0.1  # attention mass on the reasoning from which on an answer row is drawn as looking at it


def rank_by_walk(heads: pl.DataFrame, thresholds: WalkThresholds) -> pl.DataFrame:
    """Keep the heads of the middle half of the layers that have a walk, by falling `margin`, ties by layer and head.

    margin: the smaller of mass and weighted walk correlation, each over its threshold; from 1 on the head walks. What
    the correlation reaches by chance (walk_null_95) is its threshold where that is higher. Early and late heads are
    left out: there, much mass on the reasoning comes from maps that are near-uniform (paper, Figure 11).

    heads: rows of HEAD_SCHEMA of all captured heads of a model on one dataset; layers are counted up to the last one
    that was captured.
    """
    if heads.is_empty():
        return heads.with_columns(margin=pl.lit(None, pl.Float64))
    n_layers = int(heads["layer"].max()) + 1  # type: ignore[arg-type]
    middle = (pl.col("layer") >= n_layers / 4) & (pl.col("layer") < n_layers * 3 / 4)
    walk = pl.col("walk_correlation_weighted")
    least = pl.max_horizontal(pl.lit(thresholds.correlation), "walk_null_95")
    margin = pl.min_horizontal(pl.col("answer_to_reasoning") / thresholds.mass, walk / least)
    known = heads.filter(middle & walk.is_not_null()).with_columns(margin=margin)
    return known.sort("margin", "layer", "head", descending=[True, False, False])


def loss_per_token(tokens: str, part: str = "") -> pl.Expr:
    """Compute how many nats of log-probability a token loses; part: prefix of the columns, tokens: the count's."""
    return (pl.col(f"{part}log_prob_base") - pl.col(f"{part}log_prob")) / pl.col(tokens)


def walking_heads(heads: pl.DataFrame, thresholds: WalkThresholds) -> tuple[Head, ...]:
    """Name the heads that walk along the reasoning, the best first. heads: as for `rank_by_walk`."""
    walking = rank_by_walk(heads, thresholds).filter(pl.col("margin") >= 1)
    return tuple(walking.select("layer", "head").iter_rows())


COMPARED = {
    "answer_to_reasoning": "attention mass answer \u2192 reasoning",
    "walk_correlation_weighted": "walk correlation, weighted by mass",
    "walk_correlation": "walk correlation, all rows alike",
}

READ_COLUMNS = (  # of READ_SCHEMA, for `head_changes`
    *("model", "layer", "head", "n_traces", "rank", "reasoning_focus", "walk_null_95"),
    *COMPARED,
)


@dataclass(frozen=True)
class HeadChanges:
    """The heads of a reader (before) and of the model whose traces it read (after), on the same traces."""

    heads: pl.DataFrame  # layer, head (sorted), rank and reasoning_focus after; <score>_before, _after of each COMPARED
    rfh: tuple[Head, ...]  # after, by rank
    walking_before: tuple[Head, ...]  # the best first
    walking_after: tuple[Head, ...]
    n_traces: int

    def both(self, score: str) -> pl.DataFrame:
        """Keep the heads that have a score in both models: layer, head, rank, reasoning_focus, before, after."""
        values = {side: pl.col(f"{score}_{side}") for side in ("before", "after")}
        return self.heads.select("layer", "head", "rank", "reasoning_focus", **values).drop_nulls()

    def spearman(self, score: str) -> float | None:
        """Correlate the ranks of heads before and after; None where they all tie."""
        value = self.both(score).select(pl.corr("before", "after", method="spearman")).item()
        return value if value is not None and isfinite(value) else None

    def changed_most(self, score: str, count: int) -> list[tuple[Head, float, float]]:
        """List heads by falling change of a score, rise or fall, each with the values before and after."""
        change = (pl.col("after") - pl.col("before")).abs()
        ordered = self.both(score).sort(change, "layer", "head", descending=[True, False, False]).head(count)
        return [((row["layer"], row["head"]), row["before"], row["after"]) for row in ordered.iter_rows(named=True)]


def head_changes(heads: pl.DataFrame, reader: str, writer: str, thresholds: WalkThresholds) -> HeadChanges:
    """Set the heads of two models side by side, from rows of READ_SCHEMA."""
    before, after = (heads.filter(pl.col("model") == name).sort("layer", "head") for name in (reader, writer))
    sides = [
        frame.select("layer", "head", pl.col(list(COMPARED)).name.suffix(f"_{side}"))
        for side, frame in (("before", before), ("after", after))
    ]
    joined = after.select("layer", "head", "rank", "reasoning_focus")
    for side in sides:
        joined = joined.join(side, on=["layer", "head"], maintain_order="left")
    return HeadChanges(
        joined,
        first_heads(after.filter("reasoning_focus"), after.height),
        walking_heads(before, thresholds),
        walking_heads(after, thresholds),
        0 if after.is_empty() else after["n_traces"][0],
    )


def group_starts(parts: Sequence[range], most: int) -> list[int]:
    """Find the first of each group when the cells of all parts are pooled to at most `most`, equally many a group."""
    width = 1
    while sum(-(-len(part) // width) for part in parts) > most:
        width += 1
    return [start for part in parts for start in part[::width]]


def read_summary(path: Path) -> dict[str, Any]:
    """Read a summary of the evaluate stage. Raises R2AError when it is absent, damaged or lacks a part."""
    if not path.is_file():
        raise MissingPrerequisite(f"{path} does not exist", "build it with: dvc repro evaluate")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise R2AError(f"{path} is damaged or cut off: {error}", "rebuild it with: dvc repro evaluate") from None
    parts = ("model", "dataset", "decoding", "chance", "runs", "retried", "funnel", "answers", "paired", "paired_once")
    if missing := [name for name in parts if name not in summary]:
        raise R2AError(f"{path} has no {', '.join(missing)}", "rebuild it with: dvc repro evaluate")
    return summary
