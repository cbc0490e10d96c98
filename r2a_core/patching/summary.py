"""What patching found in one model, as the record of data/metrics/patching-<model>.json (paper section 5).

rows of data/pairs/<model>.parquet, of the captured index and of data/patching/<model>.parquet -> a JSON-able record:
how many pairs each filter drops, and by probe the best mean NLD of the flipping token and of the last position, the
largest mean NLD of the other probe tokens, and the layer where the two curves cross. No torch is needed here.
"""

from dataclasses import asdict
from typing import Any

import polars as pl

from r2a_core.patching.statistics import FINAL, CrossingParams, crossing, layer_curves


def patching_summary(
    model: str, pairs: pl.DataFrame, index: pl.DataFrame, cells: pl.DataFrame, params: CrossingParams
) -> dict[str, Any]:
    """The record of one model; a probe that no pair is left for has null numbers."""
    probes = pairs["probe"].unique(maintain_order=True).to_list()
    return {
        "model": model,
        "n_candidates": pairs["pair_id"].n_unique(),
        "probes": {
            probe: {"left_out": left_out(pairs, index, probe), **probe_summary(cells, probe, params)}
            for probe in probes
        },
    }


def left_out(pairs: pl.DataFrame, index: pl.DataFrame, probe: str) -> dict[str, int]:
    """Pairs that one filter or another drops, by status."""
    dropped = pairs.filter((pl.col("probe") == probe) & (pl.col("status") != "aligned"))["status"].to_list()
    weak = index.filter((pl.col("probe") == probe) & (pl.col("status") == "weak"))["status"].to_list()
    return {status: (dropped + weak).count(status) for status in sorted({*dropped, *weak})}


def probe_summary(cells: pl.DataFrame, probe: str, params: CrossingParams) -> dict[str, Any]:
    """Numbers of one probe, from resid_pre."""
    own = cells.filter((pl.col("probe") == probe) & (pl.col("component") == "resid_pre"))
    if own.is_empty():
        return {"n_pairs": 0, "flip": None, "final": None, "other_probe": None, "crossing": None}
    found = asdict(crossing(own, probe, params))
    del found["probe"], found["n_pairs"]
    return {
        "n_pairs": own["pair_id"].n_unique(),
        "flip": peak(own, "flip"),
        "final": peak(own, FINAL),
        "other_probe": largest_other(own),
        "crossing": found,
    }


def peak(cells: pl.DataFrame, curve: str) -> dict[str, Any]:
    """Where the mean curve is highest, and where it starts and ends."""
    means = layer_curves(cells).filter(pl.col("curve") == curve).sort("layer")
    best = means.sort("mean", "layer", descending=[True, False]).row(0, named=True)
    return {
        "nld": best["mean"],
        "layer": best["layer"],
        "first_layer_nld": means["mean"][0],
        "last_layer_nld": means["mean"][-1],
    }


def largest_other(cells: pl.DataFrame) -> dict[str, Any] | None:
    """The probe token, other than the flipping one, whose mean NLD is farthest from 0. offset: tokens to `</think>`."""
    close = pl.col("position").filter(pl.col("role") == "think_close").min().over("pair_id")
    others = cells.with_columns(offset=pl.col("position") - close).filter(pl.col("role") == "probe")
    if others.is_empty():
        return None
    means = (
        others.sort("offset", "layer", "pair_id")
        .group_by("offset", "layer", maintain_order=True)
        .agg(nld=pl.col("nld").mean(), token=pl.col("clean_token").first())
    )
    best = means.sort(pl.col("nld").abs(), "offset", "layer", descending=[True, False, False]).row(0, named=True)
    return {"nld": best["nld"], "layer": best["layer"], "offset": best["offset"], "token": best["token"]}
