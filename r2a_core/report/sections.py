"""The page's sections on evaluation (paper section 3), attention and heads (section 4), and patching (section 5).

ReportInputs -> records: one per model and dataset (evaluation, heads), per model, dataset and setting (attention), or
per model (patching). What is absent goes to `gaps`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from r2a_core import paper
from r2a_core.evaluation.funnel import EVALUATION_SCHEMA
from r2a_core.evaluation.judged_scores import OVERALL, areas_in_order
from r2a_core.evaluation.paired import deciding_p, stars
from r2a_core.patching.summary import crossing, layer_curves
from r2a_core.report.encode import pack
from r2a_core.report.inputs import WITH_REASONING, Gaps, ReportInputs, add_gap, read_if_there, words
from r2a_core.report.items import item_table, items_record
from r2a_core.report.pair_sides import pair_sides
from r2a_core.results import (
    EVEN,
    MASS_COLUMNS,
    SEGMENT_LABELS,
    SET_COLUMNS,
    head_grid,
    head_means,
    head_sets,
    read_summary,
    segment_boxes,
    trace_means,
)

SCORES = (
    "answer_to_reasoning",
    "rank",
    "top10_count",
    "uniform_share",
    "focus",
    "uniformity",
    "walk_correlation",
    "walk_correlation_weighted",
    "walk_null_95",
    "walk_p",
    "effective_rows",
    "n_reworded",
    "answer_to_reasoning_reworded",
    "walk_correlation_weighted_reworded",
    "reflection",
    "induction",
    "retrieval",
)


def attention_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model, dataset and setting whose attention has been measured."""
    records = []
    for model, dataset in inputs.runs:
        for setting in inputs.settings:
            frame = read_if_there(inputs.paths.attention(model, dataset, setting), MASS_COLUMNS, "attention")
            if frame is None or frame.is_empty():
                what = "has no captured traces" if frame is not None else "has not been measured"
                if setting == WITH_REASONING or frame is not None:
                    add_gap(gaps, "Attention", f"{model} on {dataset}, {words(setting)}, {what}", "attention")
                continue
            case = {"model": model, "dataset": dataset, "setting": setting}
            published = paper.segment_medians(model, dataset, setting)
            records.append({**case, **masses_record(frame), "published": published})
    return records


def masses_record(frame: pl.DataFrame) -> dict[str, Any]:
    """Describes the boxes of each source, and the mean mass of each head on each segment from answer tokens.

    grids: by segment, (layer, head), mean over traces, NaN for layers that were not captured. even: mass on the
    reasoning of even reading, sinks too, by source.
    """
    means, heads = trace_means(frame), head_means(frame)
    boxes = {}
    for source in ("answer", "reasoning"):
        own = means.filter(pl.col("source") == source)
        if own.height:
            segments = {name: asdict(box) for name, box in segment_boxes(means, source).items()}
            boxes[source] = {"items": own["item_id"].to_list(), "segments": segments, "even": own[EVEN].mean()}
    return {
        "n_traces": means.filter(pl.col("source") == "answer").height,
        "boxes": boxes,
        "grids": {name: pack(head_grid(heads, name), "f8") for name in SEGMENT_LABELS} if heads.height else {},
    }


def heads_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose heads have been ranked: every score, and the marked heads."""
    records = []
    for model in inputs.models:
        columns = [*dict.fromkeys([*SET_COLUMNS, *SCORES, "dataset", "n_traces"])]
        frame = read_if_there(inputs.paths.heads(model), columns, "heads")
        if frame is None:
            add_gap(gaps, "Attention", f"the heads of {model} have not been ranked", "heads")
            continue
        for dataset in inputs.datasets:
            rows = frame.filter(pl.col("dataset") == dataset).sort("layer", "head")
            if rows.is_empty():
                continue
            sets = head_sets(rows)
            record = {"model": model, "dataset": dataset, "n_traces": rows["n_traces"][0]}
            record["scores"] = {name: rows[name].to_list() for name in ("layer", "head", *SCORES)}
            record |= {"n_heads": rows.height, "n_above_even": int((rows["focus"] > 0).sum())}
            record["marks"] = {kind: getattr(sets, kind) for kind in ("rfh", "induction", "retrieval")}
            records.append(record)
    return records


def evaluation_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset that has been evaluated."""
    records = []
    for model, dataset in inputs.runs:
        path = inputs.paths.summary(model, dataset)
        frame = read_if_there(inputs.paths.evaluation(model, dataset), list(EVALUATION_SCHEMA), "evaluate")
        if frame is None or not path.is_file():
            add_gap(gaps, "Evaluation", f"{model} on {dataset} has not been evaluated", "evaluate")
            continue
        summary = read_summary(path)
        published = paper.accuracy(model, dataset, summary["decoding"])
        records.append(
            {
                "model": model,
                "dataset": dataset,
                "summary": summary,
                "stars": stars(deciding_p(summary["paired"])),
                "published": None if published is None else asdict(published),
                "judged": judged_areas(summary),
                **items_record(inputs, (model, dataset), item_table(frame, summary["runs"]), gaps),
            }
        )
    return records


def judged_areas(summary: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Lists mean judge scores by area, `overall` last, with stars and the paper's; None where nothing was judged."""
    if "areas" not in summary:
        return None
    records = []
    for area in [*areas_in_order([area for area in summary["areas"] if area != OVERALL]), OVERALL]:
        record, published = summary["areas"][area], paper.judge_score(summary["model"], summary["dataset"], area)
        theirs = None if published is None else asdict(published)
        records.append({**record, "area": area, "stars": stars(record["p"]), "published": theirs})
    return records


METRICS = ("nld", "logit_diff", "log_prob_diff", "prob_diff", "rank_diff")

COLUMNS = (
    *("pair_id", "probe", "component", "layer", "head", "position", "role", "clean_token", "corrupted_token"),
    *METRICS,
    *("ld_clean", "ld_corrupted"),
)


def patching_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model whose activations have been patched: curves, crossings, cells of single pairs."""
    records = []
    for model in inputs.models:
        frame = read_if_there(inputs.paths.patching(model), COLUMNS, "patch")
        if frame is None or frame.is_empty():
            what = "has not been patched" if frame is None else "has no usable pair"
            add_gap(gaps, "Patching", f"{model} {what}", "patch")
            continue
        resid = frame.filter(pl.col("component") == "resid_pre")
        flipping = resid.filter(pl.col("role") == "flip")["probe"].unique().sort().to_list()
        pairs = frame["pair_id"].unique().sort().to_list()
        shown = resid.filter(pl.col("pair_id").is_in(pairs[: inputs.params.pairs]))
        records.append(
            {
                "model": model,
                "probes": frame["probe"].unique().sort().to_list(),
                "n_pairs": len(pairs),
                "left_out": pairs_left_out(inputs.paths.pairs(model), len(pairs)),
                "curves": curve_records(resid) if resid.height else [],
                "crossings": [asdict(crossing(resid, probe, inputs.crossing)) for probe in flipping],
                "sweeps": [sweep_record(cells) for cells in sweeps(shown)],
                "sides": pair_sides(inputs, model, pairs[: inputs.params.pairs]),
                "heads": head_records(frame.filter(pl.col("component") == "z")),
            }
        )
    return records


def pairs_left_out(path: Path, n_pairs: int) -> dict[str, int]:
    """Counts the candidate pairs that were not patched, by status (of probes the aligned one's); {} without table."""
    frame = read_if_there(path, ["pair_id", "status"], "pairs")
    if frame is None:
        return {}
    aligned_first = frame.sort(pl.col("status") != "aligned", maintain_order=True)
    of_pairs = aligned_first.unique("pair_id", keep="first", maintain_order=True)["status"]
    counts = of_pairs.value_counts().sort("count", "status", descending=[True, False])
    found = dict(counts.iter_rows())
    weak = found.pop("aligned", 0) - n_pairs  # the clean runs of the patch stage were not clear enough
    return found | ({"weak": weak} if weak > 0 else {})


def curve_records(resid: pl.DataFrame) -> list[dict[str, Any]]:
    """Describes each curve: mean and standard deviation of NLD over pairs by layer, and the number of pairs."""
    records = []
    for (probe, curve), rows in layer_curves(resid).group_by("probe", "curve", maintain_order=True):
        values = {name: rows[name].to_list() for name in ("layer", "mean", "sd", "n_pairs")}
        records.append({"probe": probe, "curve": curve, **values})
    return records


def sweeps(resid: pl.DataFrame) -> list[pl.DataFrame]:
    """Splits cells by pair and probe, each by layer and position."""
    ordered = resid.sort("pair_id", "probe", "layer", "position", maintain_order=True)
    return [rows for _, rows in ordered.group_by("pair_id", "probe", maintain_order=True)]


def sweep_record(cells: pl.DataFrame) -> dict[str, Any]:
    """Describes one pair and probe: tokens and roles by position, metrics (layer, position); NaN for a missing cell."""
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
    """Averages NLD of patching one head's z, (layer, head), over pairs and positions, by probe and role."""
    records = []
    ordered = z.sort("probe", "role", "layer", "head", "pair_id", "position", maintain_order=True)
    for (probe, role), rows in ordered.group_by("probe", "role", maintain_order=True):
        means = rows.group_by("layer", "head", maintain_order=True).agg(pl.col("nld").mean())
        n_pairs = rows["pair_id"].n_unique()
        records.append({"probe": probe, "role": role, "n_pairs": n_pairs, "grid": pack(head_grid(means, "nld"), "f8")})
    return records
