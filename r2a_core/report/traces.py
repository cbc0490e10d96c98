"""The page's trace reader: tokens, and which of them each token attends to (paper section 4, Figure 4).

maps, tokens, links, lines, attention and sentence files -> one record per model and dataset, with its first traces:
pooled maps, strongest links, lines by lines, sentence masses, and the walk of every head along the reasoning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from r2a_core.attention_maps import (
    MappedTrace,
    PooledMap,
    floor_of,
    group_width,
    grouped,
    map_name,
    mapped_traces,
    pooled_maps,
    thinned,
)
from r2a_core.infra.files import read_frame
from r2a_core.report.encode import CODES, pack, pack_json, weight_levels
from r2a_core.report.inputs import Gaps, ReportInputs, add_gap, read_if_there
from r2a_core.report.trace_links import line_record, link_blocks
from r2a_core.results import SET_COLUMNS, group_starts, head_sets

VIEW = ["item_id", "kind", "layer", "head"]

WALK = ("row_mass", "centroid", "spread")  # of each answer row

READ = 10_000  # most reasoning tokens, over the views of a trace, of which the page has what they read


@dataclass(frozen=True)
class TraceView:
    """One way to look at a trace: a head, or the mean of several."""

    kind: str  # head | rfh_mean | head_mean
    layer: int | None
    head: int | None

    @property
    def name(self) -> str:
        return map_name(self.kind, self.layer, self.head)

    def rows(self) -> pl.Expr:
        """Returns the rows of a frame that belong to this view."""
        same = pl.col("kind") == self.kind
        if self.kind == "head":
            same = same & (pl.col("layer") == self.layer) & (pl.col("head") == self.head)
        return same


def traces_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset that has traces to read."""
    records = []
    for model, dataset in inputs.runs:
        if not all(path(model, dataset).is_file() for path in (inputs.paths.map_tokens, inputs.paths.maps)):
            add_gap(gaps, "Attention", f"no maps of {model} on {dataset}", "maps")
            continue
        reader = TraceReader(inputs, model, dataset)
        traces = [reader.record(trace) for trace in [*reader.traces.values()][: inputs.params.traces]]
        records.append({"model": model, "dataset": dataset, "items": traces})
        if reader.links is None:
            add_gap(gaps, "Attention", f"no links between the tokens of {model} on {dataset}", "maps")
        if reader.lines is None:
            add_gap(gaps, "Attention", f"no lines by lines of {model} on {dataset}", "maps")
        if reader.sentences is None:
            add_gap(gaps, "Attention", f"no sentence masses of {model} on {dataset}", "attention")
    return records


class TraceReader:
    """The files of one model and dataset, read once."""

    def __init__(self, inputs: ReportInputs, model: str, dataset: str) -> None:
        self.params, run, paths = inputs.params, (model, dataset), inputs.paths
        columns = ["item_id", "tokens", "think_open", "think_close", "n_tokens", "reflection"]
        self.traces = mapped_traces(read_frame(paths.map_tokens(*run), columns, "maps"))
        maps = read_frame(paths.maps(*run), [*VIEW, "row_token", "col_token", "pattern"], "maps")
        self.maps, self.views = pooled_maps(maps, self.traces), maps.select(VIEW)
        columns = [*VIEW, "row", "part", "tokens", "weights", "mass"]
        self.links = read_if_there(paths.map_links(*run), columns, "maps")
        columns = [*VIEW, "start", "end", "joined", "weights", "even"]
        self.lines = read_if_there(paths.map_lines(*run), columns, "maps")
        columns = ["item_id", "layer", "head", "source", "walk_correlation_weighted", *WALK]
        self.attention = read_if_there(paths.attention(*run), columns, "attention")
        columns = ["item_id", "sentence", "start", "end", "layer", "head", "mass", "reflection"]
        self.sentences = read_if_there(paths.sentences(*run), columns, "attention")
        self.rfh = None
        heads = read_if_there(paths.heads(model), ["dataset", *SET_COLUMNS], "heads")
        if heads is not None:
            rfh = head_sets(heads.filter(pl.col("dataset") == dataset)).rfh
            schema = {name: heads.schema[name] for name in ("layer", "head")}
            self.rfh = pl.DataFrame(rfh, schema=schema, orient="row")

    def record(self, trace: MappedTrace) -> dict[str, Any]:
        """Returns one trace, in the views chosen for the page."""
        views = self.views_of(trace.item_id)
        return {
            "item_id": trace.item_id,
            "think_open": trace.segments.think_open,
            "think_close": trace.segments.think_close,
            "n_tokens": trace.segments.n_tokens,
            "reflection": trace.reflection,
            "marks": thinned(trace.reflection, len(trace.segments.reasoning)),
            "floor": floor_of(trace),
            "tokens": pack_json(trace.tokens),
            "views": [{"name": view.name, "kind": view.kind, "layer": view.layer, "head": view.head} for view in views],
            "maps": [
                map_record(self.maps[view.name, trace.item_id], trace, self.params.rows, self.params.columns)
                for view in views
            ],
            "links": None if self.links is None else self.link_records(trace, views),
            "lines": self.line_records(trace, views),
            "looks": self.looks(trace, views),
            "walks": walk_record(self.attention, trace),
            "sentences": self.sentence_record(trace, views),
        }

    def views_of(self, item_id: str) -> list[TraceView]:
        """Returns the means, then the first single heads of the trace, as they lie in the file."""
        own = self.views.filter(pl.col("item_id") == item_id).select(VIEW[1:])
        views = [TraceView(*row) for row in own.iter_rows()]
        means = sorted((view for view in views if view.kind != "head"), key=lambda view: view.kind, reverse=True)
        return [*means, *[view for view in views if view.kind == "head"][: self.params.heads]]

    def link_records(self, trace: MappedTrace, views: Sequence[TraceView]) -> list[list[dict[str, Any]] | None]:
        """Returns by view what tokens read; what those of the reasoning do in as many views as READ permits, that of
        all heads last; see `link_blocks`."""
        assert self.links is not None
        count = max(1, READ // max(1, len(trace.segments.reasoning)))
        reading = sorted(views, key=lambda view: view.kind == "head_mean")[:count]
        own = self.links.filter(pl.col("item_id") == trace.item_id)
        rows = [own.filter(view.rows()) for view in views]
        return [link_blocks(each, trace, view in reading) or None for each, view in zip(rows, views, strict=True)]

    def line_records(self, trace: MappedTrace, views: Sequence[TraceView]) -> dict[str, Any] | None:
        """Returns the lines of a trace, and by view which of them reads which."""
        rows = None if self.lines is None else self.lines.filter(pl.col("item_id") == trace.item_id)
        if rows is None or rows.is_empty():
            return None
        own = [rows.filter(view.rows()).row(0, named=True) for view in views]
        return {name: own[0][name] for name in ("start", "end", "joined")} | {"views": [*map(line_record, own)]}

    def looks(self, trace: MappedTrace, views: Sequence[TraceView]) -> list[dict[str, float] | None]:
        """Returns by view centroid and spread of the answer's attention on the reasoning, as fractions of that."""
        if self.attention is None:
            return [None] * len(views)
        rows = answer_rows(self.attention, trace)
        heads = [self.heads_of(rows, view) for view in views]
        return [None if own is None or own.is_empty() else whole_look(own) for own in heads]

    def sentence_record(self, trace: MappedTrace, views: Sequence[TraceView]) -> dict[str, Any] | None:
        """Returns the token ranges of the sentences of the reasoning, and mass from the answer by (view, sentence)."""
        if self.sentences is None:
            return None
        rows = self.sentences.filter(pl.col("item_id") == trace.item_id).with_columns(pl.col("mass").cast(pl.Float64))
        rows = rows.sort("sentence", "layer", "head")
        ranges = rows.select("sentence", "start", "end", "reflection").unique(maintain_order=True)
        masses = np.full((len(views), ranges.height), np.nan)
        for number, view in enumerate(views):
            own = self.heads_of(rows, view)
            if own is not None and own.height:
                means = own.group_by("sentence", maintain_order=True).agg(pl.col("mass").mean()).sort("sentence")
                masses[number, : means.height] = means["mass"].to_numpy()
        columns = {name: ranges[name].to_list() for name in ("start", "end", "reflection")}
        return {**columns, "masses": pack(masses, "f4")}

    def heads_of(self, rows: pl.DataFrame, view: TraceView) -> pl.DataFrame | None:
        """Returns the rows of the heads that a view is the mean of; None when they are not known."""
        if view.kind == "head":
            return rows.filter((pl.col("layer") == view.layer) & (pl.col("head") == view.head))
        if view.kind == "head_mean":
            return rows
        return (
            None if self.rfh is None else rows.join(self.rfh, on=["layer", "head"], how="semi", maintain_order="left")
        )


def map_record(pattern: PooledMap, trace: MappedTrace, max_rows: int, max_columns: int) -> dict[str, Any]:
    """Pools the answer's rows of a map by their maximum to at most `max_rows` x `max_columns` cells; no cell lies in
    two segments."""
    segments = trace.segments
    rows = cells_within(pattern.row_edges, segments.answer)
    columns = [cells_within(pattern.col_edges, each) for each in segments.ranges().values()]
    row_cuts, column_cuts = group_starts([rows], max_rows), group_starts(columns, max_columns)
    if not row_cuts:
        return {"rows": [], "columns": [], "cells": pack(np.zeros((0, 0)), "u1")}
    by_row = np.maximum.reduceat(pattern.weights[: rows.stop], row_cuts, axis=0)
    pooled = np.maximum.reduceat(by_row, column_cuts, axis=1)
    return {
        "rows": [*pattern.row_edges[row_cuts].tolist(), segments.answer.stop],
        "columns": [*pattern.col_edges[column_cuts].tolist(), segments.answer.stop],
        "cells": pack(weight_levels(pooled, floor_of(trace)), "u1"),
    }


def cells_within(edges: np.ndarray, tokens: range) -> range:
    """Finds the cells that lie in a range of tokens."""
    start, stop = (int(np.searchsorted(edges[:-1], bound)) for bound in (tokens.start, tokens.stop))
    return range(start, stop)


def answer_rows(attention: pl.DataFrame, trace: MappedTrace) -> pl.DataFrame:
    """Finds the walks of a trace: the rows of its answer that have one."""
    own = (pl.col("item_id") == trace.item_id) & (pl.col("source") == "answer") & pl.col("centroid").is_not_null()
    return attention.filter(own).sort("layer", "head")


def whole_look(rows: pl.DataFrame) -> dict[str, float] | None:
    """Computes centroid and spread of the mean attention of some heads on the reasoning, from their walks."""
    mass, centroid, spread = (np.nan_to_num(np.array(rows[name].to_list(), float)) for name in WALK)
    if not mass.any():
        return None
    middle = float(np.average(centroid, weights=mass))
    return {"centroid": middle, "spread": float(np.average(spread**2 + (centroid - middle) ** 2, weights=mass)) ** 0.5}


def walk_record(attention: pl.DataFrame | None, trace: MappedTrace) -> dict[str, Any] | None:
    """Packs centroid and spread, (head, group), and weighted walk correlation, (head,), of all heads by layer and head.

    None when the trace has no walks.
    """
    if attention is None:
        return None
    rows = answer_rows(attention, trace)
    if rows.is_empty():
        return None
    start, stop = trace.segments.answer.start, trace.segments.answer.stop
    width, mass = group_width(stop - start), np.array(rows["row_mass"].to_list())
    correlation = rows["walk_correlation_weighted"].cast(pl.Float64).fill_null(float("nan"))
    return {
        "layer": rows["layer"].to_list(),
        "head": rows["head"].to_list(),
        "first_row": start,
        "last_row": stop,
        "width": width,
        "correlation": pack(correlation.to_numpy(), "f4"),
        **{name: pack(fractions(np.array(rows[name].to_list()), mass, width), "u1") for name in ("centroid", "spread")},
    }


def fractions(values: np.ndarray, mass: np.ndarray, width: int) -> np.ndarray:
    """Turns `values` (head, row) into steps of their `grouped` means (see CODES)."""
    means = grouped(values, mass, width)
    steps = np.rint(np.clip(np.nan_to_num(means), 0, 1) * CODES["walk_steps"])
    return np.where(np.isnan(means), CODES["walk_unknown"], steps)
