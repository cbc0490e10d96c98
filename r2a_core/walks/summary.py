"""What the walks of a model's heads come to: the table of walks, and its reduction to numbers.

rows of WALK_SCHEMA of one model and dataset -> one record: heads that read the reasoning more than length and distance
explain, what a trace's length does to each score, shape and ends of the best walks, whether a broken walk goes with a
wrong answer, and what the reasoning's own rows read of the question and of the reasoning before them. Metrics, figures
and page share it. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from math import erfc, exp, sqrt
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from r2a_core.config import WalksParams
from r2a_core.evaluation.paired import NORMAL_95, mean_with_interval
from r2a_core.results import Head, by_view, head_name
from r2a_core.walks.logistic import fit_logistic

KEY = ("item_id", "view", "layer", "head")

MEASURES = {
    "mass": "mass on the reasoning",
    "even_excess": "beyond even reading",
    "excess": "beyond reading by distance",
    "entropy": "entropy on the reasoning",
    "effective_tokens": "effective tokens",
    "walk": "walk, weighted by mass",
    "walk_null": "its chance",
    "diagonal": "diagonal",
    "diagonal_null": "chance of the diagonal",
    "local_cover": "local cover",
    "covered": "covered range",
    "question_walk": "walk over the question",
}

JOINED = ("walk_rank", "score")

WALK_SCHEMA = {
    "item_id": pl.String,
    "view": pl.String,  # of results.VIEWS; walks, their ends and walk_rank are those of the answer, else null
    "layer": pl.Int16,
    "head": pl.Int16,
    "n_reasoning_tokens": pl.Int32,
    "n_answer_tokens": pl.Int32,
    **dict.fromkeys(MEASURES, pl.Float32),
    "parallel": pl.Int32,
    "ends": pl.List(pl.Int32),
    "reflection": pl.List(pl.Int32),
    "walk_rank": pl.Int32,  # among the heads that walk over the other half of the traces; null for others
    "score": pl.Float64,  # of the trace's answer
}

READING = ("mass", "even_excess", "excess", "entropy", "effective_tokens")  # that every view has

LENGTHS = (*READING, "walk", "diagonal", "local_cover", "covered")

BROKEN = ("walk", "diagonal", "local_cover")  # that may say something of the answer

LEAST_OUTCOMES = 5  # right answers, and wrong ones, without which a regression says nothing

LEAST_TRACES = 5  # without which the places of phrases are not exchanged

FIRST = 10  # heads by mass, as in the paper


def head_table(walks: pl.DataFrame, near_uniform: float) -> pl.DataFrame:
    """Average over traces, and rank what is left without near-uniform heads: layer, head, means, ranks, length_<score>.

    walks: rows of one view.
    length_<score>: Pearson's r of the score and the tokens of the reasoning over traces. A head `reads` unless it reads
    no more than even reading does, or evenly: entropy of `near_uniform` or more. rank_by_excess: among heads that read.
    """
    length = pl.col("n_reasoning_tokens").cast(pl.Float64)
    r = {f"length_{name}": pl.corr(pl.col(name).cast(pl.Float64), length).fill_nan(None) for name in LENGTHS}
    heads = walks.group_by("layer", "head", maintain_order=True).agg(
        *(pl.col(name).cast(pl.Float64).mean() for name in MEASURES),
        pl.col("parallel").cast(pl.Float64).mean(),
        **r,
    )
    return with_ranks(heads.sort("layer", "head"), near_uniform)


def with_ranks(heads: pl.DataFrame, near_uniform: float) -> pl.DataFrame:
    """Add reads, rank_by_mass and rank_by_excess. heads: mass, excess, even_excess, entropy (null: unknown)."""
    reads = (pl.col("even_excess") > 0).fill_null(value=False)
    reads &= (pl.col("entropy") < near_uniform).fill_null(value=True)

    def rank(column: pl.Expr) -> pl.Expr:
        return column.rank("ordinal", descending=True).cast(pl.Int32)

    return heads.with_columns(
        reads=reads,
        rank_by_mass=rank(pl.col("mass")),
        rank_by_excess=rank(pl.when(reads).then(pl.col("excess"))),
    )


def walk_record(walks: pl.DataFrame, params: WalksParams) -> dict[str, Any]:
    """Reduce the table of one model and dataset: the answer's view, and any other under `views`."""
    views = by_view(walks)
    walks = views.pop("answer", walks)
    heads = head_table(walks, params.near_uniform)
    first_by_excess = first_beyond(heads)
    best = best_walks(walks, params.heads)
    first = heads.filter(pl.col("rank_by_mass") <= FIRST).sort("rank_by_mass")
    return {
        "n_traces": walks["item_id"].n_unique(),
        "n_heads": heads.height,
        "reading": int(heads["reads"].sum()),
        "first_dropped": names(first.filter(~pl.col("reads"))),
        "first_by_excess": first_by_excess,
        "length": {name: length_record(heads[f"length_{name}"]) for name in LENGTHS},
        "best": {
            "heads": names(best.sort("walk_rank", "layer", "head").unique(["layer", "head"], maintain_order=True)),
            **{name: best[name].cast(pl.Float64).mean() for name in (*MEASURES, "parallel")},
        },
        "question": question_record(best, params),
        "ends": ends_record(best, params),
        "broken": {name: broken_record([best], name) for name in BROKEN},
        "views": {view: view_record(rows, first_by_excess, params) for view, rows in views.items()},
    }


def view_record(rows: pl.DataFrame, of_answer: Sequence[str], params: WalksParams) -> dict[str, Any]:
    """Reduce a view of the reasoning's own rows: how its heads read, mean over heads, and the first of them.

    excess: with its 95% interval over traces; shared: how many of these heads are among those of the answer.
    """
    heads = head_table(rows, params.near_uniform)
    by_item = (
        rows.group_by("item_id", maintain_order=True).agg(pl.col("excess").cast(pl.Float64).mean()).sort("item_id")
    )
    excess = mean_with_interval(by_item["excess"], params.bootstrap_draws, params.seed)
    first = first_beyond(heads)
    return {
        "n_traces": by_item.height,
        "n_heads": heads.height,
        "reading": int(heads["reads"].sum()),
        **{name: heads[name].mean() for name in READING},
        "excess": {"mean": excess.mean, "low": excess.low, "high": excess.high},
        "first_by_excess": first,
        "shared": len(set(first) & set(of_answer)),
        "length": {name: length_record(heads[f"length_{name}"]) for name in READING},
    }


def first_beyond(heads: pl.DataFrame) -> list[str]:
    """Name the first heads by excess."""
    return names(heads.filter(pl.col("rank_by_excess") <= FIRST).sort("rank_by_excess"))


def best_walks(walks: pl.DataFrame, count: int) -> pl.DataFrame:
    """Keep the rows of the heads that walk best, chosen for each trace by the half of the traces it is not in."""
    return walks.filter(pl.col("walk_rank") <= count)


def names(heads: pl.DataFrame) -> list[str]:
    """Name heads, in their order."""
    found: list[Head] = list(heads.select("layer", "head").iter_rows())
    return [head_name(*head) for head in found]


def length_record(r: pl.Series) -> dict[str, Any]:
    """Describe how heads' scores go with the length of the reasoning."""
    known = r.drop_nulls()
    return {"median": known.median(), "high": (known.abs() > 0.5).mean(), "n_heads": known.len()}


def by_trace(best: pl.DataFrame, score: str) -> pl.DataFrame:
    """Average a score over the best walks of each trace; traces without it or a graded answer are left out."""
    mean = pl.col(score).cast(pl.Float64).mean()
    traces = best.group_by("item_id", maintain_order=True).agg(mean, pl.col("n_reasoning_tokens", "score").first())
    return traces.drop_nulls([score, "score"])


def question_record(best: pl.DataFrame, params: WalksParams) -> dict[str, Any] | None:
    """Compare the walk over the reasoning with that over the question, trace by trace; None without any."""
    both = (
        best.drop_nulls(["walk", "question_walk"])
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("walk", "question_walk").mean())
    )
    if both.is_empty():
        return None
    both = both.sort("item_id").cast({"walk": pl.Float64, "question_walk": pl.Float64})
    gap = mean_with_interval(both["walk"] - both["question_walk"], params.bootstrap_draws, params.seed)
    means = {"walk": both["walk"].mean(), "question_walk": both["question_walk"].mean()}
    return {"n_traces": both.height, **means, "mean": gap.mean, "low": gap.low, "high": gap.high}


def ends_record(best: pl.DataFrame, params: WalksParams) -> dict[str, Any] | None:
    """Compare how near to a reflection paths end with what the reflections of other traces give; None without any.

    The distance of an end to the nearest, in fractions of the reasoning, mean over a trace's ends, then over traces.
    Chance deals the traces' reflections out anew, each at its fraction of the reasoning, as both may lie late; p is the
    share of deals, the real one included, that come as near, None below LEAST_TRACES.
    """
    ends, marks = [], []
    for _, rows in best.sort(KEY).group_by("item_id", maintain_order=True):
        n = rows["n_reasoning_tokens"][0]
        own = rows["ends"].explode().drop_nulls().to_numpy() / n, rows["reflection"][0].to_numpy() / n
        if all(map(len, own)):
            ends.append(own[0])
            marks.append(own[1])
    if not ends:
        return None
    away = np.array([[distance(own, other) for other in marks] for own in ends])  # (ends of, marks of)
    generator, at = np.random.default_rng(params.seed), np.arange(len(ends))
    dealt = np.array([away[at, generator.permutation(at)].mean() for _ in range(params.permutations)])
    own = float(away.diagonal().mean())
    p = (1 + int((dealt <= own + 1e-12).sum())) / (1 + len(dealt)) if len(ends) >= LEAST_TRACES else None
    return {"n_traces": len(ends), "distance": own, "chance": float(away.mean()), "p": p}


def distance(ends: NDArray[np.floating], marks: NDArray[np.floating]) -> float:
    """Average over ends the distance to the nearest mark."""
    return float(np.abs(ends[:, None] - marks).min(1).mean())


def broken_record(datasets: Sequence[pl.DataFrame], score: str) -> dict[str, Any]:
    """Ask whether a trace whose best walks are one standard deviation worse more often has a wrong answer.

    Logistic regression with the logarithm of the reasoning's length as covariate and an intercept per dataset, over the
    datasets that have both outcomes (n and n_wrong are theirs); odds_ratio is None, and reason says why, where it has
    no estimate. datasets: rows of the best walks of each.
    """
    traces = pl.concat([by_trace(best, score).with_columns(dataset=pl.lit(at)) for at, best in enumerate(datasets)])
    traces = traces.with_columns(
        wrong=(pl.col("score") < 1).cast(pl.Float64), log_length=pl.col("n_reasoning_tokens").cast(pl.Float64).log()
    )
    used = traces.filter(pl.col("wrong").n_unique().over("dataset") > 1)
    counts = {"n": used.height, "n_wrong": int(used["wrong"].sum())}
    none: dict[str, Any] = dict.fromkeys(("odds_ratio", "low", "high", "p"))
    if used.is_empty():
        return counts | none | {"reason": "no dataset has right and wrong ones"}
    if min(counts["n_wrong"], counts["n"] - counts["n_wrong"]) < LEAST_OUTCOMES:
        return counts | none | {"reason": f"fewer than {LEAST_OUTCOMES} of an outcome"}
    own = used["dataset"].unique(maintain_order=True)
    intercepts = [(used["dataset"] == each).cast(pl.Float64).to_numpy() for each in own]
    walk, length = (standardised(used[name].to_numpy()) for name in (score, "log_length"))
    fit = fit_logistic(np.column_stack([-walk, length, *intercepts]), used["wrong"].to_numpy())
    if fit is None:
        return counts | none | {"reason": "no finite estimate"}
    beta, error = float(fit.coefficients[0]), float(fit.errors[0])
    ends = {"low": exp(beta - NORMAL_95 * error), "high": exp(beta + NORMAL_95 * error)}
    p = erfc(abs(beta) / error / sqrt(2))
    return counts | {"odds_ratio": exp(beta), **ends, "p": p, "reason": None}


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale to mean 0 and standard deviation 1; zeros where all are equal."""
    sd = values.std()
    return (values - values.mean()) / sd if sd > 0 else np.zeros_like(values)


def pooled_record(walks: Mapping[str, pl.DataFrame], params: WalksParams) -> dict[str, Any]:
    """Ask the same of all datasets of a model together."""
    best = [best_walks(frame, params.heads) for frame in walks.values()]
    return {name: broken_record(best, name) for name in BROKEN}
