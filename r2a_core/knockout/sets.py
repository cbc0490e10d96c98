"""Which heads are cut out: ranked sets, their sizes, and random sets of the same layers as chance.

rows of data/heads/<model>.parquet of one dataset, params `knockout` -> HeadSet, each run once per kind as an Arm. Needs
no torch.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from r2a_core.config import KnockoutKind, KnockoutParams, WalkThresholds
from r2a_core.results import SET_COLUMNS, Head, first_heads, head_sets, walking_heads

# Of HEAD_SCHEMA.
RANKED_COLUMNS = ("dataset", "focus", "answer_to_reasoning", "walk_correlation_weighted", "walk_null_95", *SET_COLUMNS)

NONE = "none"  # the set without heads: the run again, computed as the others are


@dataclass(frozen=True)
class HeadSet:
    """Heads that are cut together. draw: number of a random set of the same layers as the set `name`; else None."""

    name: str
    k: int  # heads asked for; of a kind there may be fewer
    draw: int | None
    heads: tuple[Head, ...]  # sorted


@dataclass(frozen=True, order=True)
class Arm:
    """One way to run an answer: these heads cut in this way."""

    first_layer: int  # the lowest that changes; 0 without heads, so that the run is computed again
    kind: KnockoutKind
    heads: tuple[Head, ...]

    @classmethod
    def of(cls, kind: KnockoutKind, heads: Sequence[Head]) -> "Arm":
        ordered = tuple(sorted(heads))
        return cls(ordered[0][0] if ordered else 0, kind, ordered)


def chosen_sets(heads: pl.DataFrame, params: KnockoutParams, walk: WalkThresholds) -> list[HeadSet]:
    """Name the sets to cut, `none` first; none at all where no head was ranked.

    A set that has fewer than k heads is taken whole, once. heads: rows of HEAD_SCHEMA of one dataset.
    """
    if heads.is_empty():
        return []
    ranked = ranked_heads(heads, walk)
    sets = [HeadSet(NONE, 0, None, ())]
    for name in params.sets:
        sizes = sorted({min(k, len(ranked[name])) for k in params.k} - {0})
        sizes = sizes if name != "all" else [heads.height]
        sets += [HeadSet(name, size, None, tuple(sorted(ranked[name][:size]))) for size in sizes]
    for name in params.random.sets:
        target = largest(sets, name, params.random.k)
        if target is not None:
            sets += [random_set(target, heads, params.random.seed, draw) for draw in range(params.random.draws)]
    return sets


def ranked_heads(heads: pl.DataFrame, walk: WalkThresholds) -> dict[str, tuple[Head, ...]]:
    """Order the heads of every kind, the best first; a kind that few heads are of has few."""
    kinds = head_sets(heads)
    by_focus = heads.filter(pl.col("focus").is_not_null()).sort("focus", "rank", descending=[True, False])
    return {
        "mass": first_heads(heads, heads.height),
        "focus": tuple(by_focus.select("layer", "head").iter_rows()),
        "walking": walking_heads(heads, walk),
        "induction": kinds.induction,
        "retrieval": kinds.retrieval,
        "all": first_heads(heads, heads.height),
    }


def largest(sets: Sequence[HeadSet], name: str, k: int) -> HeadSet | None:
    """Find the largest set of a kind with at most k heads; the set `all` whatever k is."""
    own = [each for each in sets if each.name == name and each.draw is None and (each.k <= k or name == "all")]
    return max(own, key=lambda each: each.k, default=None)


def random_set(target: HeadSet, heads: pl.DataFrame, seed: int, draw: int) -> HeadSet:
    """Draw as many heads of each layer as the target has there, from all heads of the layer, its own included.

    So the target is one of the sets that chance could give, and its rank among draws is a test.
    """
    generator = np.random.default_rng([seed, draw, target.k, zlib.crc32(target.name.encode())])
    drawn: list[Head] = []
    for layer, count in sorted(Counter(layer for layer, _ in target.heads).items()):
        own = heads.filter(pl.col("layer") == layer)["head"].sort().to_numpy()
        drawn += [(layer, int(head)) for head in generator.choice(own, count, replace=False)]
    return HeadSet(target.name, target.k, draw, tuple(sorted(drawn)))
