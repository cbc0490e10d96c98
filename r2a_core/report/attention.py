"""Where answer tokens look: what the page shows of the attention and heads stages (paper section 4).

attention and head files -> one record a model, dataset and setting: boxes over traces, layer x head grids; and one
record a model and dataset with the scores of every head and its marks.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from r2a_core.figures.attention import (
    PAPER_MEDIANS,
    PAPER_RUN,
    SEEN_BY,
    SEGMENTS,
    AttentionRun,
    Source,
    head_means,
    read_head_marks,
    trace_means,
)
from r2a_core.report.packing import pack
from r2a_core.report.sources import Gaps, ReportSources, plain, read_frame

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


def attention_section(sources: ReportSources, gaps: Gaps) -> list[dict[str, Any]]:
    """One record for each model, dataset and setting whose attention has been measured."""
    records = []
    for model, dataset in sources.runs:
        for setting in sources.settings:
            path = sources.attention[model, dataset, setting]
            frame = read_frame(path, ["item_id", "layer", "head", "source", *SEGMENTS], "attention")
            if frame is None or frame.is_empty():
                what = "has no captured traces" if frame is not None else "has not been measured"
                if setting == "with_reasoning" or frame is not None:
                    gaps.add("Attention", f"{model} on {dataset}, {setting.replace('_', ' ')}, {what}", "attention")
                continue
            run = AttentionRun(model, dataset, setting, path)
            records.append({"model": model, "dataset": dataset, "setting": setting, **masses_record(run, frame)})
    return records


def masses_record(run: AttentionRun, frame: pl.DataFrame) -> dict[str, Any]:
    """Boxes of each source, and the mean mass of each head on each segment from answer tokens.

    grids: by segment, (layer, head), mean over traces, NaN for layers that were not captured.
    """
    wide = frame.with_columns(pl.col(SEGMENTS).cast(pl.Float64)).sort("item_id", "layer", "head")
    sources: dict[Source, pl.DataFrame] = {
        "answer": wide.filter(pl.col("source") == "answer"),
        "reasoning": wide.filter(pl.col("source") == "reasoning"),
    }
    published = PAPER_MEDIANS.get(run.model) if (run.dataset, run.setting) == PAPER_RUN else None
    answer = sources["answer"]
    return {
        "n_traces": answer["item_id"].n_unique(),
        "boxes": {name: boxes(part, name) for name, part in sources.items() if part.height},
        "published": None if published is None else dict(zip(SEGMENTS, published, strict=True)),
        "grids": {name: pack(head_means(answer, name), "f8") for name in SEGMENTS} if answer.height else {},
    }


def boxes(masses: pl.DataFrame, source: Source) -> dict[str, Any]:
    """By segment, what a box of Figure 2 is drawn from: each trace's mean over layers and heads, and five numbers.

    Whiskers reach the last trace within 1.5 interquartile ranges of the box.
    """
    means = trace_means(masses.select("item_id", *SEEN_BY[source]))
    found = {}
    for segment in SEEN_BY[source]:
        values = means[segment].drop_nulls().to_numpy()
        if not len(values):
            continue
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        reach = 1.5 * (high - low)
        inside = values[(values >= low - reach) & (values <= high + reach)]
        ends = {"whisker_low": inside.min(), "whisker_high": inside.max()}
        numbers = {"q1": low, "median": middle, "q3": high, **ends}
        found[segment] = {name: float(value) for name, value in numbers.items()} | {"values": values.tolist()}
    return {"items": means["item_id"].to_list(), "segments": found}


def heads_section(sources: ReportSources, top: int, gaps: Gaps) -> list[dict[str, Any]]:
    """One record for each model and dataset whose heads have been ranked: every score, and the marked heads."""
    records = []
    for model in sources.models:
        path = sources.heads[model]
        frame = read_frame(path, ["layer", "head", "dataset", "n_traces", *SCORES], "heads")
        if frame is None:
            gaps.add("Attention", f"the heads of {model} have not been ranked", "heads")
            continue
        for dataset in sources.datasets:
            rows = frame.filter(pl.col("dataset") == dataset).sort("layer", "head")
            if rows.is_empty():
                continue
            scores = {name: plain(rows[name].to_list()) for name in ("layer", "head", *SCORES)}
            records.append(
                {
                    "model": model,
                    "dataset": dataset,
                    "n_traces": rows["n_traces"][0],
                    "scores": scores,
                    "marks": asdict(read_head_marks(path, dataset, top)),
                }
            )
    return records
