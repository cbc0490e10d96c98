"""Single traces to read: tokens, and which reasoning tokens each answer token attends to (paper section 4, Figure 4).

tokens, maps, links, attention and sentence files -> one record a model and dataset with its first traces.

The walk of every head along the reasoning of one trace, small enough to travel in the page.

attention frame of one model and dataset, trace -> centroid and spread by head and group of answer tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from r2a_core.config import ReportParams
from r2a_core.report.encode import pack, pack_json, weight_levels
from r2a_core.report.sources import MissingParts, ReportSources, Run, read_frame
from r2a_core.results import MappedTrace, PooledMap, head_sets, map_name, mapped_traces, pooled_maps

SETTING = "with_reasoning"

VIEW = ["item_id", "kind", "layer", "head"]

NO_TOKEN = 65535  # fills the rows of links that hold fewer tokens


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
        """Rows of a frame that belong to this view."""
        same = pl.col("kind") == self.kind
        if self.kind == "head":
            same = same & (pl.col("layer") == self.layer) & (pl.col("head") == self.head)
        return same


def traces_section(sources: ReportSources, params: ReportParams, top: int, gaps: MissingParts) -> list[dict[str, Any]]:
    """One record for each model and dataset that has traces to read."""
    records = []
    for model, dataset in sources.runs:
        if not sources.tokens[model, dataset].is_file() or not sources.maps[model, dataset].is_file():
            gaps.add("Attention", f"no maps of {model} on {dataset}", "maps")
            continue
        reader = TraceReader(sources, params, (model, dataset), top)
        traces = [reader.record(trace) for trace in [*reader.traces.values()][: params.traces]]
        records.append({"model": model, "dataset": dataset, "items": traces})
        if reader.links is None:
            gaps.add("Attention", f"no links between answer and reasoning tokens of {model} on {dataset}", "maps")
        if reader.sentences is None:
            gaps.add("Attention", f"no sentence masses of {model} on {dataset}", "attention")
    return records


class TraceReader:
    """The files of one model and dataset, read once."""

    def __init__(self, sources: ReportSources, params: ReportParams, run: Run, top: int) -> None:
        self.params, case = params, (*run, SETTING)
        columns = ["item_id", "tokens", "think_open", "think_close", "n_tokens", "reflection"]
        tokens = read_frame(sources.tokens[run], columns, "maps")
        maps = read_frame(sources.maps[run], [*VIEW, "row_token", "col_token", "pattern"], "maps")
        assert tokens is not None
        assert maps is not None
        self.traces = mapped_traces(tokens)
        self.maps = pooled_maps(maps, self.traces)
        self.views = maps.select(VIEW)
        columns = [*VIEW, "row", "tokens", "weights", "reasoning", "outside"]
        self.links = read_frame(sources.links[run], columns, "maps")
        walk = ["item_id", "layer", "head", "source", "walk_correlation", "centroid", "spread"]
        wanted = case in sources.attention
        self.attention = read_frame(sources.attention[case], walk, "attention") if wanted else None
        columns = ["item_id", "sentence", "start", "end", "layer", "head", "mass", "reflection"]
        self.sentences = read_frame(sources.sentences[case], columns, "attention") if wanted else None
        self.rfh = self.rfh_heads(sources, run, top)

    @staticmethod
    def rfh_heads(sources: ReportSources, run: Run, top: int) -> pl.DataFrame | None:
        """(layer, head) of the Reasoning-Focus Heads of the dataset."""
        columns = ["layer", "head", "dataset", "rank", "count_rank", "induction", "retrieval"]
        frame = read_frame(sources.heads[run[0]], columns, "heads")
        if frame is None:
            return None
        rfh = head_sets(frame.filter(pl.col("dataset") == run[1]), top).rfh
        return pl.DataFrame(rfh, schema={name: frame.schema[name] for name in ("layer", "head")}, orient="row")

    def record(self, trace: MappedTrace) -> dict[str, Any]:
        """One trace, in the views chosen for the page."""
        views = self.views_of(trace.item_id)
        return {
            "item_id": trace.item_id,
            "think_open": trace.segments.think_open,
            "think_close": trace.segments.think_close,
            "n_tokens": trace.segments.n_tokens,
            "reflection": trace.reflection,
            "tokens": pack_json(trace.tokens),
            "views": [{"name": view.name, "kind": view.kind, "layer": view.layer, "head": view.head} for view in views],
            "maps": [map_record(self.maps[view.name, trace.item_id], trace, self.params) for view in views],
            "links": [self.link_record(trace, view) for view in views] if self.links is not None else None,
            "walks": walk_record(self.attention, trace),
            "sentences": self.sentence_record(trace, views),
        }

    def views_of(self, item_id: str) -> list[TraceView]:
        """The means, then the first single heads of the trace, as they lie in the file."""
        own = self.views.filter(pl.col("item_id") == item_id).select(VIEW[1:])
        views = [TraceView(*row) for row in own.iter_rows()]
        means = sorted((view for view in views if view.kind != "head"), key=lambda view: view.kind, reverse=True)
        return [*means, *[view for view in views if view.kind == "head"][: self.params.heads]]

    def link_record(self, trace: MappedTrace, view: TraceView) -> dict[str, Any] | None:
        """By answer token: its strongest reasoning tokens and their weights, and the mass on all and on the rest."""
        assert self.links is not None
        rows = self.links.filter((pl.col("item_id") == trace.item_id) & view.rows()).sort("row")
        if rows.is_empty():
            return None
        width = int(rows["tokens"].list.len().max())  # type: ignore[arg-type]
        tokens = np.full((rows.height, width), NO_TOKEN)
        weights = np.zeros((rows.height, width))
        for number, (places, values) in enumerate(rows.select("tokens", "weights").iter_rows()):
            tokens[number, : len(places)] = places
            weights[number, : len(values)] = values
        masses = {name: pack(shares(rows[name].to_numpy()), "u2") for name in ("reasoning", "outside")}
        first = int(rows["row"][0])
        return {"first_row": first, "tokens": pack(tokens, "u2"), "weights": pack(shares(weights), "u2"), **masses}

    def sentence_record(self, trace: MappedTrace, views: Sequence[TraceView]) -> dict[str, Any] | None:
        """Token ranges of the sentences of the reasoning, and mass from the answer by (view, sentence)."""
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
        """Sentence rows of the heads that a view is the mean of; None when they are not known."""
        if view.kind == "head":
            return rows.filter((pl.col("layer") == view.layer) & (pl.col("head") == view.head))
        if view.kind == "head_mean":
            return rows
        return (
            None if self.rfh is None else rows.join(self.rfh, on=["layer", "head"], how="semi", maintain_order="left")
        )


def shares(values: np.ndarray) -> np.ndarray:
    """Attention weights and masses 0..1 as 0..65535."""
    return np.rint(np.clip(values, 0, 1) * 65535)


def map_record(pattern: PooledMap, trace: MappedTrace, params: ReportParams) -> dict[str, Any]:
    """The answer x reasoning part of a map, pooled by its maximum to at most `rows` x `columns` cells."""
    reasoning, answer = trace.segments.reasoning, trace.segments.answer
    (left, right), (top, bottom) = (reasoning.start, reasoning.stop), (answer.start, answer.stop)
    rows = np.flatnonzero((pattern.row_edges[:-1] >= top) & (pattern.row_edges[1:] <= bottom))
    columns = np.flatnonzero((pattern.col_edges[:-1] >= left) & (pattern.col_edges[1:] <= right))
    if not len(rows) or not len(columns):
        return {"rows": [], "columns": [], "cells": pack(np.zeros((0, 0)), "u1")}
    part = pattern.weights[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    row_cuts, column_cuts = cuts(len(rows), params.rows), cuts(len(columns), params.columns)
    pooled = np.maximum.reduceat(np.maximum.reduceat(part, row_cuts, axis=0), column_cuts, axis=1)
    return {
        "rows": [*pattern.row_edges[rows[row_cuts]].tolist(), bottom],
        "columns": [*pattern.col_edges[columns[column_cuts]].tolist(), right],
        "cells": pack(weight_levels(pooled), "u1"),
    }


def cuts(count: int, most: int) -> np.ndarray:
    """First of each group when `count` cells are pooled, equally many a group, to at most `most`."""
    return np.arange(0, count, -(-count // most))


GROUPS = 32  # most groups of answer tokens

STEPS = 254  # a fraction 0..1 of the reasoning in whole steps

UNKNOWN = 255  # a group whose rows see none of the reasoning


def walk_record(attention: pl.DataFrame | None, trace: MappedTrace) -> dict[str, Any] | None:
    """Centroid and spread, (head, group), and walk correlation, (head,), of all heads by layer and head.

    None when the trace has no walks.
    """
    if attention is None:
        return None
    own = (pl.col("item_id") == trace.item_id) & (pl.col("source") == "answer") & pl.col("centroid").is_not_null()
    rows = attention.filter(own).sort("layer", "head")
    if rows.is_empty():
        return None
    start, stop = trace.segments.answer.start, trace.segments.answer.stop
    width = -(-(stop - start) // GROUPS)
    return {
        "layer": rows["layer"].to_list(),
        "head": rows["head"].to_list(),
        "first_row": start,
        "last_row": stop,
        "width": width,
        "correlation": pack(rows["walk_correlation"].cast(pl.Float64).fill_null(float("nan")).to_numpy(), "f4"),
        **{name: pack(fractions(np.array(rows[name].to_list()), width), "u1") for name in ("centroid", "spread")},
    }


def fractions(values: np.ndarray, width: int) -> np.ndarray:
    """Means of `values` (head, row) over groups of `width` answer rows, in steps of 1 / STEPS; NaN does not count."""
    starts = np.arange(0, values.shape[1], width)
    known = ~np.isnan(values)
    totals = np.add.reduceat(np.where(known, values, 0.0), starts, axis=1)
    counts = np.add.reduceat(known.astype(float), starts, axis=1)
    means = np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)
    return np.where(np.isnan(means), UNKNOWN, np.rint(np.clip(np.nan_to_num(means), 0, 1) * STEPS))
