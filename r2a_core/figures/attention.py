"""Draws all attention figures of one dataset: segment masses, head maps, walks, readers, attention maps and coloured
tokens.

data/attention/, data/heads/, data/maps/ -> pictures (PNG and PDF) that the other modules here describe. Models without
captured traces are left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from r2a_core.config import WalkThresholds
from r2a_core.figures.head_maps import head_map_figure
from r2a_core.figures.maps import draw_attention_maps
from r2a_core.figures.readers import reader_figure
from r2a_core.figures.segment_masses import segment_mass_figure
from r2a_core.figures.style import save_figure
from r2a_core.figures.tokens import draw_span_figures
from r2a_core.figures.walks import walk_overview_figure
from r2a_core.infra.files import read_frame
from r2a_core.paths import StudyPaths
from r2a_core.results import (
    MASS_COLUMNS,
    READ_COLUMNS,
    SET_COLUMNS,
    head_changes,
    head_means,
    head_sets,
    trace_means,
)

REASONED = "with_reasoning"

HEAD_COLUMNS = [
    *("dataset", "answer_to_reasoning", "walk_correlation_weighted", "uniformity"),
    *SET_COLUMNS,
]


def draw_dataset(
    paths: StudyPaths,
    models: Sequence[str],
    readers: Mapping[str, str],
    dataset: str,
    settings: Sequence[str],
    thresholds: WalkThresholds,
) -> list[Path]:
    """Draw every figure of one dataset into data/figures/attention; return the files, none without captured traces.

    readers: whose texts each of them reads. Raises R2AError when something to draw from is missing.
    """
    folder = paths.figures("attention")
    means, by_head = [], {}
    for setting in settings:
        for model in models:
            attention = read_frame(paths.attention(model, dataset, setting), MASS_COLUMNS, "attention")
            if not (attention["source"] == "answer").any():
                continue
            names = [pl.lit(name).alias(key) for key, name in (("model", model), ("setting", setting))]
            means.append(trace_means(attention).with_columns(names))
            if setting == REASONED:
                by_head[model] = head_means(attention)
    if not means:
        return []
    traces = pl.concat(means)
    written = save_figure(segment_mass_figure(traces, dataset), folder / f"segment-masses-{dataset}")
    from_reasoning = traces.filter((pl.col("setting") == REASONED) & (pl.col("source") == "reasoning"))
    if from_reasoning.height:
        figure = segment_mass_figure(from_reasoning, dataset, "reasoning")
        written += save_figure(figure, folder / f"segment-masses-{dataset}-from-reasoning")
    if by_head:
        written += draw_heads(paths, by_head, dataset, thresholds)
    for model in by_head:
        written += draw_attention_maps(paths, model, dataset, folder)
        written += draw_span_figures(paths, model, dataset, folder)
    return written + draw_readers(paths, readers, dataset, thresholds)


def draw_heads(
    paths: StudyPaths, means: Mapping[str, pl.DataFrame], dataset: str, thresholds: WalkThresholds
) -> list[Path]:
    """Draw the maps of all heads, and which of them walk. means: `results.head_means` by model."""
    folder = paths.figures("attention")
    heads = {
        model: read_frame(paths.heads(model), HEAD_COLUMNS, "heads").filter(pl.col("dataset") == dataset)
        for model in means
    }
    sets = {model: head_sets(rows) for model, rows in heads.items()}
    overview = walk_overview_figure(heads, dataset, thresholds)
    return [
        *save_figure(head_map_figure(means, sets), folder / f"head-maps-{dataset}"),
        *save_figure(overview, folder / f"walk-overview-{dataset}"),
    ]


def draw_readers(paths: StudyPaths, readers: Mapping[str, str], dataset: str, thresholds: WalkThresholds) -> list[Path]:
    """Draw what training added to the heads, a picture a reader. readers: whose texts each of them reads."""
    folder, written = paths.figures("attention"), []
    for reader, texts in readers.items():
        heads = read_frame(paths.read_heads(reader, texts, dataset), READ_COLUMNS, "read")
        if heads.height:
            figure = reader_figure(head_changes(heads, reader, texts, thresholds), reader, texts, dataset)
            written += save_figure(figure, folder / f"reader-{reader}-{texts}-{dataset}")
    return written
