"""What patching found in one model: mean NLD curves by layer, their peaks, and the layer where they cross (section 5).

rows of data/pairs/<model>.parquet, of the index of clean runs and of data/patching/<model>.parquet -> the record of
data/metrics/patching-<model>.json: how many pairs each filter drops, and per probe the best mean NLD of the flipping
token and of the last position, the largest mean NLD of the other probe tokens, and the crossing with its bootstrap
interval. Needs no torch.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from r2a_core.config import CrossingParams
from r2a_core.infra.checks import check_columns
from r2a_core.infra.errors import R2AError


def patching_summary(
    model: str, pairs: pl.DataFrame, index: pl.DataFrame, cells: pl.DataFrame, params: CrossingParams
) -> dict[str, Any]:
    """Return the record of one model; a probe that no pair is left for has null numbers."""
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
    """Count the pairs that each filter drops, by status."""
    dropped = pairs.filter((pl.col("probe") == probe) & (pl.col("status") != "aligned"))["status"].to_list()
    weak = index.filter((pl.col("probe") == probe) & (pl.col("status") == "weak"))["status"].to_list()
    return {status: (dropped + weak).count(status) for status in sorted({*dropped, *weak})}


def probe_summary(cells: pl.DataFrame, probe: str, params: CrossingParams) -> dict[str, Any]:
    """Return the numbers of one probe, from resid_pre."""
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
    """Return where the mean curve is highest, and where it starts and ends."""
    means = layer_curves(cells).filter(pl.col("curve") == curve).sort("layer")
    best = means.sort("mean", "layer", descending=[True, False]).row(0, named=True)
    return {
        "nld": best["mean"],
        "layer": best["layer"],
        "first_layer_nld": means["mean"][0],
        "last_layer_nld": means["mean"][-1],
    }


def largest_other(cells: pl.DataFrame) -> dict[str, Any] | None:
    """Return the probe token, other than the flipping one, whose mean NLD is farthest from 0.

    offset: tokens to `</think>`.
    """
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


FINAL = "final"  # the curve of the very last position, where the answer is read off


@dataclass(frozen=True)
class Crossing:
    """Layer from which on the final position restores more than the flipping token; bootstrap interval over pairs.

    layer is interpolated between two measured layers, None where the mean curves do not cross. low and high are
    measured layers: of the resamples that cross, `confidence` do so between them, `share_crossing` says how many cross
    at all. Since nothing is known between two layers, high lies above low. One pair has no interval.
    """

    probe: str
    n_pairs: int
    layer: float | None
    low: int | None
    high: int | None
    share_crossing: float
    confidence: float
    n_resamples: int


def pair_curves(frame: pl.DataFrame) -> pl.DataFrame:
    """Return NLD of resid_pre by pair, probe, curve and layer, averaged over the positions of the curve.

    Curves are the roles, and `final`, the last position, which `answer_end` leaves out. Of the flipping tokens only
    those before `</think>` count where the probe stands in the answer too. Raises R2AError where an NLD is not finite.
    """
    cell = ("pair_id", "probe", "layer", "position")
    check_columns(frame, ["nld"], cell, "patching", "rebuild it with: dvc repro patch")
    keys = ["pair_id", "probe", "curve", "layer"]
    resid = frame.filter(pl.col("component") == "resid_pre")
    in_pair = ["pair_id", "probe"]
    close = pl.col("position").filter(pl.col("role") == "think_close").min().over(in_pair)
    resid = resid.with_columns(
        early=pl.col("position") < close.fill_null(0), last=pl.col("position").max().over(in_pair) == pl.col("position")
    )
    has_early = (pl.col("early") & (pl.col("role") == "flip")).any().over(in_pair)
    counts = (
        pl.when(pl.col("role") == "flip")
        .then(pl.col("early") | ~has_early)
        .otherwise((pl.col("role") != "answer_end") | ~pl.col("last"))
    )
    roles = resid.filter(counts).with_columns(curve=pl.col("role"))
    final = resid.filter("last").with_columns(curve=pl.lit(FINAL))
    both = pl.concat([roles, final]).sort([*keys, "position"], maintain_order=True)
    return both.group_by(keys, maintain_order=True).agg(pl.col("nld").mean())


def layer_curves(frame: pl.DataFrame) -> pl.DataFrame:
    """Return mean and sample standard deviation of NLD over pairs by probe, curve and layer, with the number of pairs.

    sd is null for a single pair.
    """
    keys = ["probe", "curve", "layer"]
    return (
        pair_curves(frame)
        .sort([*keys, "pair_id"], maintain_order=True)
        .group_by(keys, maintain_order=True)
        .agg(mean=pl.col("nld").mean(), sd=pl.col("nld").std(ddof=1), n_pairs=pl.len())
    )


def crossing_layer(rising: NDArray[np.float64], falling: NDArray[np.float64]) -> float | None:
    """Return the fractional layer from which on `rising` stays at or above `falling` (both by layer), or None.

    Interpolated between the last layer where it is below and the next. None when it ends below, or never was below.
    """
    gap = rising - falling
    below = np.flatnonzero(gap < 0)
    if len(below) == 0 or below[-1] == len(gap) - 1:
        return None
    last = below[-1]
    return float(last + gap[last] / (gap[last] - gap[last + 1]))


def crossing(frame: pl.DataFrame, probe: str, params: CrossingParams) -> Crossing:
    """Find where the mean `final` curve overtakes the mean `flip` curve, resampling pairs with replacement.

    Raises R2AError when the table holds no pair of `probe`.
    """
    curves = pair_curves(frame.filter(pl.col("probe") == probe))
    final, flip = curve_matrix(curves, FINAL), curve_matrix(curves, "flip")
    if len(final) == 0 or final.shape != flip.shape:
        raise R2AError(
            f"probe {probe!r} has {len(final)} pairs with a final curve and {len(flip)} with a flip curve",
            "patch at least one pair of this probe at every layer",
        )
    generator = np.random.default_rng(params.seed)
    draws = generator.integers(0, len(final), (params.bootstrap_draws, len(final)))
    found = [crossing_layer(final[draw].mean(0), flip[draw].mean(0)) for draw in draws]
    layers = np.array([layer for layer in found if layer is not None])
    below = np.ceil(layers).astype(int) - 1  # the last layer at which the final position restores less
    tail, low, high = (1 - params.confidence) / 2, None, None
    if len(layers) and len(final) > 1:
        low = int(np.quantile(below, tail, method="inverted_cdf"))
        high = int(np.quantile(below + 1, 1 - tail, method="inverted_cdf"))
    share = len(layers) / params.bootstrap_draws
    layer = crossing_layer(final.mean(0), flip.mean(0))
    return Crossing(probe, len(final), layer, low, high, share, params.confidence, params.bootstrap_draws)


def curve_matrix(curves: pl.DataFrame, curve: str) -> NDArray[np.float64]:
    """Return one curve as (pair, layer), pairs in the order of their ids."""
    chosen = curves.filter(pl.col("curve") == curve).sort(["pair_id", "layer"])
    n_pairs = chosen["pair_id"].n_unique()
    return chosen["nld"].to_numpy().reshape(n_pairs, len(chosen) // max(n_pairs, 1))
