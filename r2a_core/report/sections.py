"""Where answer tokens look: what the page shows of the attention and heads stages (paper section 4).

attention and head files -> one record a model, dataset and setting: boxes over traces, layer x head grids; and one
record a model and dataset with the scores of every head and its marks.

Does reasoning improve the answer: what the page shows of the evaluate stage (paper section 3).

summaries, evaluation, generation and dataset files -> one record a model and dataset: summary, items, texts.

Does changing reasoning activations change the answer: what the page shows of the patch stage (paper section 5).

data/patching/<model>.parquet -> one record a model: layer curves, crossing layers, cells of single pairs, head means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

import numpy as np
import polars as pl

from r2a_core import paper
from r2a_core.config import CrossingParams, ReportParams
from r2a_core.evaluation.funnel import EVALUATION_SCHEMA, STEP_REACHED
from r2a_core.evaluation.judged_scores import OVERALL, areas_in_order
from r2a_core.evaluation.paired import stars
from r2a_core.patching.summary import crossing, layer_curves
from r2a_core.report.encode import pack, pack_json
from r2a_core.report.sources import MissingParts, ReportSources, Run, plain, read_frame
from r2a_core.results import (
    MASS_COLUMNS,
    SEGMENT_LABELS,
    head_grid,
    head_means,
    head_sets,
    read_summary,
    segment_boxes,
    trace_means,
)
from r2a_core.trace import SETTINGS

SCORES = (
    "answer_to_reasoning",
    "rank",
    "top10_count",
    "uniform_share",
    "above_uniform",
    "uniformity",
    "walk_correlation",
    "reflection",
    "induction",
    "retrieval",
)


def attention_section(sources: ReportSources, gaps: MissingParts) -> list[dict[str, Any]]:
    """One record for each model, dataset and setting whose attention has been measured."""
    records = []
    for model, dataset in sources.runs:
        for setting in sources.settings:
            path = sources.attention[model, dataset, setting]
            frame = read_frame(path, MASS_COLUMNS, "attention")
            if frame is None or frame.is_empty():
                what = "has no captured traces" if frame is not None else "has not been measured"
                if setting == "with_reasoning" or frame is not None:
                    gaps.add("Attention", f"{model} on {dataset}, {setting.replace('_', ' ')}, {what}", "attention")
                continue
            case = {"model": model, "dataset": dataset, "setting": setting}
            published = paper.segment_medians(model, dataset, setting)
            records.append({**case, **masses_record(frame), "published": published})
    return records


def masses_record(frame: pl.DataFrame) -> dict[str, Any]:
    """Boxes of each source, and the mean mass of each head on each segment from answer tokens.

    grids: by segment, (layer, head), mean over traces, NaN for layers that were not captured.
    """
    means, heads = trace_means(frame), head_means(frame)
    boxes = {}
    for source in ("answer", "reasoning"):
        own = means.filter(pl.col("source") == source)
        if own.height:
            segments = {name: asdict(box) for name, box in segment_boxes(means, source).items()}
            boxes[source] = {"items": own["item_id"].to_list(), "segments": segments}
    return {
        "n_traces": means.filter(pl.col("source") == "answer").height,
        "boxes": boxes,
        "grids": {name: pack(head_grid(heads, name), "f8") for name in SEGMENT_LABELS} if heads.height else {},
    }


def heads_section(sources: ReportSources, top: int, gaps: MissingParts) -> list[dict[str, Any]]:
    """One record for each model and dataset whose heads have been ranked: every score, and the marked heads."""
    records = []
    for model in sources.models:
        path = sources.heads[model]
        frame = read_frame(path, ["layer", "head", "dataset", "n_traces", "count_rank", *SCORES], "heads")
        if frame is None:
            gaps.add("Attention", f"the heads of {model} have not been ranked", "heads")
            continue
        for dataset in sources.datasets:
            rows = frame.filter(pl.col("dataset") == dataset).sort("layer", "head")
            if rows.is_empty():
                continue
            sets = head_sets(rows, top)
            scores = {name: plain(rows[name].to_list()) for name in ("layer", "head", *SCORES)}
            records.append(
                {
                    "model": model,
                    "dataset": dataset,
                    "n_traces": rows["n_traces"][0],
                    "scores": scores,
                    "marks": {kind: getattr(sets, kind) for kind in ("rfh", "induction", "retrieval")},
                }
            )
    return records


OUTCOMES = ("win", "loss", "unpaired", "tie")  # the order in which items with texts are chosen, one of each in turn

SHOWN = ("item_id", "status", "extracted", "score", "common", "run", "gold")


def evaluation_section(sources: ReportSources, params: ReportParams, gaps: MissingParts) -> list[dict[str, Any]]:
    """One record for each model and dataset that has been evaluated."""
    records = []
    for run in sources.runs:
        model, dataset = run
        path = sources.summaries[run]
        frame = read_frame(sources.evaluations[run], list(EVALUATION_SCHEMA), "evaluate")
        if not path.is_file() or frame is None:
            gaps.add("Evaluation", f"{model} on {dataset} has not been evaluated", "evaluate")
            continue
        summary = read_summary(path)
        published = paper.accuracy(model, dataset, summary["decoding"])
        items = item_table(frame, int(summary["runs"]))
        chosen = items_with_texts(items["outcome"].to_list(), params.texts)
        records.append(
            {
                "model": model,
                "dataset": dataset,
                "summary": plain(summary),
                "stars": stars(summary["paired"]["p"]),
                "published": None if published is None else asdict(published),
                "judged": plain(judged_areas(summary)),
                "items": {name: items[name].to_list() for name in items.columns},
                "texts": pack_json(texts(sources, run, items, chosen, gaps)),
            }
        )
    return records


def judged_areas(summary: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Mean judge scores by area, `overall` last, each with its stars and the paper's; None where nothing was judged."""
    if "areas" not in summary:
        return None
    records = []
    for area in [*areas_in_order([area for area in summary["areas"] if area != OVERALL]), OVERALL]:
        record, published = summary["areas"][area], paper.judge_score(summary["model"], summary["dataset"], area)
        theirs = None if published is None else asdict(published)
        records.append({**record, "area": area, "stars": stars(record["p"]), "published": theirs})
    return records


def item_table(frame: pl.DataFrame, runs: int) -> pl.DataFrame:
    """One row an item, in file order: gold, outcome, and by setting status, extracted answer, score and shown run.

    A score is the mean over the runs that count in the paired test, as in the test itself; outcome is win, tie or loss
    with reasoning, or unpaired. The shown attempt is the first that counts, else the one that got furthest.
    """
    first_run = pl.when(pl.col("run") < runs).then("run").otherwise(pl.col("run") - runs)
    ranked = frame.with_row_index("place").with_columns(
        first_run=first_run, reached=pl.col("status").replace_strict(STEP_REACHED, default=0)
    )
    order = ["common", "reached", "first_run", "run"]
    shown = ranked.sort(order, descending=[True, True, False, False], maintain_order=True)
    shown = shown.unique(["setting", "item_id"], keep="first", maintain_order=True).sort("place")
    scores = (
        frame.filter("common")
        .group_by("setting", "item_id", maintain_order=True)
        .agg(mean_score=pl.col("score").mean())
    )
    shown = shown.join(scores, on=["setting", "item_id"], how="left", maintain_order="left")
    items = frame.select("item_id", "gold").unique("item_id", keep="first", maintain_order=True)
    for setting in SETTINGS:
        side = shown.filter(pl.col("setting") == setting)
        columns = {"status": "status", "extracted": "extracted", "run": "run", "score": "mean_score"}
        named = [pl.col(column).alias(f"{name}_{setting}") for name, column in columns.items()]
        items = items.join(side.select("item_id", *named), on="item_id", how="left", maintain_order="left")
    ours, theirs = (pl.col(f"score_{setting}") for setting in SETTINGS)
    outcome = (
        pl.when(ours > theirs)
        .then(pl.lit("win"))
        .when(ours < theirs)
        .then(pl.lit("loss"))
        .when(ours == theirs)
        .then(pl.lit("tie"))
        .otherwise(pl.lit("unpaired"))
    )
    return items.with_columns(outcome=outcome)


def items_with_texts(outcomes: Sequence[str], count: int) -> list[int]:
    """Rows of the items whose texts the page carries: a win, a loss, an unpaired item, a tie and so on, in order."""
    by_outcome = [[row for row, outcome in enumerate(outcomes) if outcome == kind] for kind in OUTCOMES]
    turns = [row for turn in zip_longest(*by_outcome) for row in turn if row is not None]
    return sorted(turns[:count])


def texts(
    sources: ReportSources, run: Run, items: pl.DataFrame, chosen: Sequence[int], gaps: MissingParts
) -> dict[str, dict[str, Any]]:
    """By row of the item table: the question and the response in each setting, null where there is none."""
    model, dataset = run
    rows = items[list(chosen)]
    found: dict[str, dict[str, Any]] = {str(row): {"question": None} for row in chosen}
    questions = read_frame(sources.items[dataset], ["item_id", "question"], "prepare_dataset")
    if questions is None:
        gaps.add("Evaluation", f"the questions of {dataset} are not here", "prepare_dataset")
    else:
        by_item = dict(questions.iter_rows())
        for row, item_id in zip(chosen, rows["item_id"], strict=True):
            found[str(row)]["question"] = by_item.get(item_id)
    for setting in SETTINGS:
        responses = None
        if (model, dataset, setting) in sources.generations:
            columns = ["item_id", "run", "response"]
            responses = read_frame(sources.generations[model, dataset, setting], columns, "generate")
        if responses is None:
            gaps.add("Evaluation", f"the texts of {model} on {dataset}, {setting.replace('_', ' ')}", "generate")
            continue
        by_attempt = {(item_id, number): text for item_id, number, text in responses.iter_rows()}
        for row, item_id, number in zip(chosen, rows["item_id"], rows[f"run_{setting}"], strict=True):
            found[str(row)][setting] = by_attempt.get((item_id, number))
    return found


METRICS = ("nld", "logit_diff", "log_prob_diff", "prob_diff", "rank_diff")

COLUMNS = (
    *("pair_id", "probe", "component", "layer", "head", "position", "role", "clean_token", "corrupted_token"),
    *METRICS,
    *("ld_clean", "ld_corrupted"),
)


def patching_section(
    sources: ReportSources, params: ReportParams, crossing_params: CrossingParams, gaps: MissingParts
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
        n_pairs = rows["pair_id"].n_unique()
        records.append({"probe": probe, "role": role, "n_pairs": n_pairs, "grid": pack(head_grid(means, "nld"), "f8")})
    return records
