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
from r2a_core.figures.maps import Pattern, Trace, map_name, read_traces
from r2a_core.infra.errors import R2AError
from r2a_core.report.encode import pack, pack_json, weight_levels
from r2a_core.report.sources import MissingParts, ReportSources, Run, read_frame

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
        traces = [*read_traces(sources.tokens[model, dataset]).values()][: params.traces]
        reader = TraceReader(sources, params, (model, dataset), top)
        records.append({"model": model, "dataset": dataset, "items": [reader.record(trace) for trace in traces]})
        if reader.links is None:
            gaps.add("Attention", f"no links between answer and reasoning tokens of {model} on {dataset}", "maps")
        if reader.sentences is None:
            gaps.add("Attention", f"no sentence masses of {model} on {dataset}", "attention")
    return records


class TraceReader:
    """The files of one model and dataset, read once."""

    def __init__(self, sources: ReportSources, params: ReportParams, run: Run, top: int) -> None:
        self.params, case = params, (*run, SETTING)
        self.map_file = sources.maps[run]
        self.maps = read_frame(self.map_file, [*VIEW, "row_token", "col_token", "pattern"], "maps")
        self.tokens = read_frame(sources.tokens[run], ["item_id", "tokens"], "maps")
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
        frame = read_frame(sources.heads[run[0]], ["layer", "head", "dataset", "rank"], "heads")
        if frame is None:
            return None
        chosen = frame.filter((pl.col("dataset") == run[1]) & (pl.col("rank") <= top))
        return chosen.select("layer", "head")

    def record(self, trace: Trace) -> dict[str, Any]:
        """One trace, in the views chosen for the page."""
        views = self.views_of(trace.item_id)
        return {
            "item_id": trace.item_id,
            "think_open": trace.think_open,
            "think_close": trace.think_close,
            "n_tokens": trace.n_tokens,
            "reflection": list(trace.reflection),
            "tokens": pack_json(self.texts_of(trace)),
            "views": [{"name": view.name, "kind": view.kind, "layer": view.layer, "head": view.head} for view in views],
            "maps": [map_record(self.pattern(trace, view), trace, self.params) for view in views],
            "links": [self.link_record(trace, view) for view in views] if self.links is not None else None,
            "walks": walk_record(self.attention, trace),
            "sentences": self.sentence_record(trace, views),
        }

    def views_of(self, item_id: str) -> list[TraceView]:
        """The means, then the first single heads of the trace, as they lie in the file."""
        assert self.maps is not None
        own = self.maps.filter(pl.col("item_id") == item_id).select(VIEW[1:])
        views = [TraceView(*row) for row in own.iter_rows()]
        means = sorted((view for view in views if view.kind != "head"), key=lambda view: view.kind, reverse=True)
        return [*means, *[view for view in views if view.kind == "head"][: self.params.heads]]

    def pattern(self, trace: Trace, view: TraceView) -> Pattern:
        """One map. Raises R2AError when its weights are not rows x columns."""
        assert self.maps is not None
        row = self.maps.filter((pl.col("item_id") == trace.item_id) & view.rows())
        rows, columns = (edges(row[name][0].to_numpy(), trace.n_tokens) for name in ("row_token", "col_token"))
        weights, shape = row["pattern"][0].to_numpy(), (len(rows) - 1, len(columns) - 1)
        if weights.size != shape[0] * shape[1]:
            name = f"the map {view.name} of {trace.item_id!r}"
            raise R2AError(f"{self.map_file}: {name} is not {shape[0]} x {shape[1]}", "rebuild it: dvc repro maps")
        return Pattern(rows, columns, weights.reshape(shape))

    def texts_of(self, trace: Trace) -> list[str]:
        """Text of each token. Raises R2AError when there is not one a token."""
        assert self.tokens is not None
        texts = self.tokens.filter(pl.col("item_id") == trace.item_id)["tokens"][0].to_list()
        if len(texts) != trace.n_tokens:
            message = f"{len(texts)} token texts for {trace.item_id!r}, which has {trace.n_tokens} tokens"
            raise R2AError(message, "rebuild them with: dvc repro maps")
        return texts

    def link_record(self, trace: Trace, view: TraceView) -> dict[str, Any] | None:
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

    def sentence_record(self, trace: Trace, views: Sequence[TraceView]) -> dict[str, Any] | None:
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


def edges(first_tokens: np.ndarray, n_tokens: int) -> np.ndarray:
    """Borders of pooled cells from the first token of each; the last cell ends before the final EOS."""
    return np.append(first_tokens, max(int(first_tokens[-1]) + 1, n_tokens - 1))


def shares(values: np.ndarray) -> np.ndarray:
    """Attention weights and masses 0..1 as 0..65535."""
    return np.rint(np.clip(values, 0, 1) * 65535)


def map_record(pattern: Pattern, trace: Trace, params: ReportParams) -> dict[str, Any]:
    """The answer x reasoning part of a map, pooled by its maximum to at most `rows` x `columns` cells."""
    (left, right), (top, bottom) = trace.segments["reasoning"], trace.segments["answer"]
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


def walk_record(attention: pl.DataFrame | None, trace: Trace) -> dict[str, Any] | None:
    """Centroid and spread, (head, group), and walk correlation, (head,), of all heads by layer and head.

    None when the trace has no walks.
    """
    if attention is None:
        return None
    own = (pl.col("item_id") == trace.item_id) & (pl.col("source") == "answer") & pl.col("centroid").is_not_null()
    rows = attention.filter(own).sort("layer", "head")
    if rows.is_empty():
        return None
    start, stop = trace.segments["answer"]
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
