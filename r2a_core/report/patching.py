"""Does changing reasoning activations change the answer: what the page shows of the patch stage (paper section 5).

data/patching/<model>.parquet -> one record a model: layer curves, crossing layers, cells of single pairs, head means.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from r2a_core.patching.statistics import CrossingParams, crossing, layer_curves
from r2a_core.report.packing import pack
from r2a_core.report.sources import Gaps, ReportParams, ReportSources, plain, read_frame

METRICS = ("nld", "logit_diff", "log_prob_diff", "prob_diff", "rank_diff")
COLUMNS = (
    *("pair_id", "probe", "component", "layer", "head", "position", "role", "clean_token", "corrupted_token"),
    *METRICS,
    *("ld_clean", "ld_corrupted"),
)


def patching_section(
    sources: ReportSources, params: ReportParams, crossing_params: CrossingParams, gaps: Gaps
) -> list[dict[str, Any]]:
    """One record for each model whose activations have been patched."""
    records = []
    for model in sources.models:
        frame = read_frame(sources.patching[model], COLUMNS, "patch")
        if frame is None or frame.is_empty():
            what = "has not been patched" if frame is None else "has no usable pair"
            gaps.add("Patching", f"{model} {what}", "patch")
            continue
        records.append({"model": model, **patching_record(frame, params, crossing_params)})
    return records


def patching_record(frame: pl.DataFrame, params: ReportParams, crossing_params: CrossingParams) -> dict[str, Any]:
    """Curves over all pairs, their crossings, and the cells of the first `pairs` pairs."""
    probes = frame["probe"].unique(maintain_order=True).sort().to_list()
    resid = frame.filter(pl.col("component") == "resid_pre")
    pairs = frame["pair_id"].unique(maintain_order=True).sort().to_list()
    shown = pairs[: params.pairs]
    return {
        "probes": probes,
        "n_pairs": len(pairs),
        "curves": curve_records(resid) if resid.height else [],
        "crossings": [plain(asdict(crossing(resid, probe, crossing_params))) for probe in crossing_probes(resid)],
        "sweeps": [sweep_record(cells) for cells in sweeps(resid.filter(pl.col("pair_id").is_in(shown)))],
        "heads": head_records(frame.filter(pl.col("component") == "z")),
    }


def curve_records(resid: pl.DataFrame) -> list[dict[str, Any]]:
    """By probe and curve: mean and standard deviation of NLD over pairs by layer, and the number of pairs."""
    records = []
    for (probe, curve), rows in layer_curves(resid).group_by("probe", "curve", maintain_order=True):
        values = {name: plain(rows[name].to_list()) for name in ("layer", "mean", "sd", "n_pairs")}
        records.append({"probe": probe, "curve": curve, **values})
    return records


def crossing_probes(resid: pl.DataFrame) -> list[str]:
    """Probes that have a flipping token, so that two curves can cross."""
    return resid.filter(pl.col("role") == "flip")["probe"].unique().sort().to_list()


def sweeps(resid: pl.DataFrame) -> list[pl.DataFrame]:
    """The cells of each pair and probe, by layer and position."""
    ordered = resid.sort("pair_id", "probe", "layer", "position", maintain_order=True)
    return [rows for _, rows in ordered.group_by("pair_id", "probe", maintain_order=True)]


def sweep_record(cells: pl.DataFrame) -> dict[str, Any]:
    """One pair and probe: tokens and roles by position, metrics (layer, position); NaN for a cell that is missing."""
    places = cells.unique("position", keep="first", maintain_order=True).sort("position")
    layers = cells["layer"].unique().sort().to_list()
    rows = np.searchsorted(layers, cells["layer"].to_numpy())
    columns = np.searchsorted(places["position"].to_numpy(), cells["position"].to_numpy())
    grids = {}
    for metric in METRICS:
        grid = np.full((len(layers), places.height), np.nan)
        grid[rows, columns] = cells[metric].to_numpy()
        grids[metric] = pack(grid, "f8" if metric == "nld" else "f4")
    first = cells.row(0, named=True)
    return {
        **{name: first[name] for name in ("pair_id", "probe", "ld_clean", "ld_corrupted")},
        "layers": layers,
        **{name: places[name].to_list() for name in ("position", "role", "clean_token", "corrupted_token")},
        "grids": grids,
    }


def head_records(z: pl.DataFrame) -> list[dict[str, Any]]:
    """By probe and role: mean NLD of patching one head's z, (layer, head), over pairs and positions of the role."""
    records = []
    ordered = z.sort("probe", "role", "layer", "head", "pair_id", "position", maintain_order=True)
    for (probe, role), rows in ordered.group_by("probe", "role", maintain_order=True):
        means = rows.group_by("layer", "head", maintain_order=True).agg(pl.col("nld").mean())
        shape = (int(means["layer"].max()) + 1, int(means["head"].max()) + 1)  # type: ignore[arg-type]
        grid = np.full(shape, np.nan)
        grid[means["layer"].to_numpy(), means["head"].to_numpy()] = means["nld"].to_numpy()
        n_pairs = rows["pair_id"].n_unique()
        records.append({"probe": probe, "role": role, "n_pairs": n_pairs, "grid": pack(grid, "f8")})
    return records
