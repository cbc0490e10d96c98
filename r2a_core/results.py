"""Reductions that metrics, figures and the page share, so that one claim has one number.

tables of the stages (polars frames) -> heads by how well they walk (paper section 4).
"""

import polars as pl

from r2a_core.config import WalkThresholds

Head = tuple[int, int]  # layer, head


def rank_by_walk(heads: pl.DataFrame, thresholds: WalkThresholds) -> pl.DataFrame:
    """Keep the heads of the middle half of the layers that have a walk, by falling `margin`, ties by layer and head.

    margin: the smaller of mass and walk correlation, each over its threshold; from 1 on the head walks. Early and late
    heads are left out: there, much mass on the reasoning comes from maps that are near-uniform (paper, Figure 11).

    heads: layer, head, answer_to_reasoning, walk_correlation of all captured heads of a model on one dataset; layers
    are counted up to the last one that was captured.
    """
    if heads.is_empty():
        return heads.with_columns(margin=pl.lit(None, pl.Float64))
    n_layers = int(heads["layer"].max()) + 1  # type: ignore[arg-type]
    middle = (pl.col("layer") >= n_layers / 4) & (pl.col("layer") < n_layers * 3 / 4)
    margin = pl.min_horizontal(
        pl.col("answer_to_reasoning") / thresholds.mass, pl.col("walk_correlation") / thresholds.correlation
    )
    known = heads.filter(middle & pl.col("walk_correlation").is_not_null()).with_columns(margin=margin)
    return known.sort("margin", "layer", "head", descending=[True, False, False])


def walking_heads(heads: pl.DataFrame, thresholds: WalkThresholds) -> tuple[Head, ...]:
    """Name the heads that walk along the reasoning, the best first. heads: as for `rank_by_walk`."""
    walking = rank_by_walk(heads, thresholds).filter(pl.col("margin") >= 1)
    return tuple(walking.select("layer", "head").iter_rows())
