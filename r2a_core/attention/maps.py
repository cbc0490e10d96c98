"""Attention maps of chosen heads and traces, and where chosen spans attend (paper section 4, Figures 4, 5, 11 and 12).

stored activations, token texts, attention and head tables -> MapTables:
    maps    one row per item and map: a single head, the mean of the Reasoning-Focus Heads, or the mean of all heads
    tokens  one row per item
    spans   one row per item, span and map: mean attention to each token from the rows that write the span
    links   one row per item, map and row that writes an answer token: the reasoning tokens it attends to most, and the
            mass they leave out

The row that writes a token is the one before it: its output is the next token.

Patterns are computed a block of rows at a time and pooled by maximum, so that a token x token matrix never exists.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from r2a_core.activations.attention import LayerAttention
from r2a_core.activations.store import ActivationReader, RecordedTrace
from r2a_core.attention.map_selection import ShownMaps, Span, choose_maps, default_span
from r2a_core.attention.patterns import pattern_blocks
from r2a_core.config import MapParams, WalkThresholds
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError
from r2a_core.models.job import ModelJob
from r2a_core.models.load import choose_device
from r2a_core.results import Head, head_name
from r2a_core.tokenizer import reflection_ranges, token_pieces
from r2a_core.trace import TraceSegments

log = logging.getLogger(__name__)

CHUNK_ELEMENTS = 4_000_000  # attention weights per map and block of rows

VIEW_SCHEMA = {"item_id": pl.String, "kind": pl.String, "layer": pl.Int16, "head": pl.Int16}

MAP_SCHEMA = {
    **VIEW_SCHEMA,  # kind: head | rfh_mean | head_mean; layer and head are null for means
    "n_tokens": pl.Int32,
    "row_token": pl.List(pl.Int32),  # first token of each pooled row
    "col_token": pl.List(pl.Int32),  # first token of each pooled column
    "pattern": pl.List(pl.Float32),  # attention weight, maximum over the cell; rows x columns, row by row
}

TOKEN_SCHEMA = {
    "item_id": pl.String,
    "tokens": pl.List(pl.String),
    "think_open": pl.Int32,
    "think_close": pl.Int32,
    "n_tokens": pl.Int32,
    "reflection": pl.List(pl.Int32),  # tokens at which a reflection phrase of the reasoning starts
}

SPAN_SCHEMA = {
    **VIEW_SCHEMA,
    "span_start": pl.Int32,
    "span_end": pl.Int32,
    "weights": pl.List(pl.Float32),  # by token, mean over the rows that write the span: span_start - 1 .. span_end - 2
}


LINK_SCHEMA = {
    **VIEW_SCHEMA,  # kind: head | rfh_mean | head_mean; layer and head are null for means
    "row": pl.Int32,  # the token that attends; it writes the next
    "tokens": pl.List(pl.Int32),  # reasoning tokens by falling weight, ties by place; all of a short reasoning
    "weights": pl.List(pl.Float32),  # attention weight of each
    "reasoning": pl.Float32,  # attention mass on the whole reasoning
    "outside": pl.Float32,  # attention mass on the reasoning tokens that are not in `tokens`
}


@dataclass(frozen=True)
class HeadGroup:
    """One map: a head, or the mean of several."""

    kind: str  # head | rfh_mean | head_mean
    heads: tuple[Head, ...]

    def key(self, item_id: str) -> dict[str, object]:
        """Return the columns that name a map."""
        layer, head = self.heads[0] if self.kind == "head" else (None, None)
        return {"item_id": item_id, "kind": self.kind, "layer": layer, "head": head}


@dataclass(frozen=True)
class MapTables:
    """MAP_SCHEMA, TOKEN_SCHEMA, SPAN_SCHEMA and LINK_SCHEMA."""

    maps: pl.DataFrame
    tokens: pl.DataFrame
    spans: pl.DataFrame
    links: pl.DataFrame


@dataclass(frozen=True)
class QueryBlock:
    """Attention weights of consecutive query positions over all tokens, one matrix per view."""

    rows: range
    weights: list[np.ndarray]  # each (row, token)


@dataclass(frozen=True)
class MapJob(ModelJob):
    """What the maps of one model and dataset are made of; of the model only the tokenizer is used."""

    model: str
    dataset: str
    activations: Path  # folder
    params: MapParams
    walk: WalkThresholds
    reflection_phrases: Sequence[str]


def trace_maps(job: MapJob, attention: pl.DataFrame, heads: pl.DataFrame) -> MapTables:
    """Make the maps of the traces that params choose; empty tables, with a warning, where no activations are stored.

    attention: ATTENTION_SCHEMA of the dataset; heads: rows of HEAD_SCHEMA of the dataset.
    """
    reader = ActivationReader(job.activations)
    if not (reader.item_ids and reader.is_stored):
        why = "no trace was captured" if reader.is_stored else "capture.store is false"
        log.warning("%s, %s: %s, so there are no maps", job.model, job.dataset, why)
        return MapTables(*(pl.DataFrame(schema=each) for each in (MAP_SCHEMA, TOKEN_SCHEMA, SPAN_SCHEMA, LINK_SCHEMA)))
    pieces = {trace.item_id: token_pieces(job.tokenizer.hf, trace.token_ids) for trace in reader.token_traces()}
    chosen = choose_maps(job.params, job.model, job.dataset, pieces, attention, heads, job.walk)
    device = str(choose_device(job.device))
    return attention_maps(reader, pieces, chosen, job.params, job.reflection_phrases, device)


def attention_maps(
    reader: ActivationReader,
    pieces: Mapping[str, Sequence[str]],
    chosen: ShownMaps,
    params: MapParams,
    reflection_phrases: Sequence[str],
    device: str,
) -> MapTables:
    """Compute maps, tokens, spans and links of the chosen traces of one dataset.

    pieces: text of each token, by item id (of the chosen ones at least). Raises R2AError when a chosen trace, head or
    span does not exist.
    """
    maps, tokens, spans, links = [], [], [], []
    for item_id in chosen.items:
        trace = reader.trace(item_id)
        texts = pieces[item_id]
        views = choose_views(trace, chosen)
        maps += map_rows(item_id, trace, views, params.cells, device)
        tokens.append(token_row(item_id, trace.segments, texts, reflection_phrases))
        own = [span for span in chosen.spans if span.item_id == item_id]
        for span in own or written_span(default_span(item_id, trace.segments, texts), trace):
            spans += span_rows(trace, span, views, device)
        links += link_rows(item_id, trace, views, params.links, device)
    return MapTables(
        pl.DataFrame(maps, schema=MAP_SCHEMA),
        pl.DataFrame(tokens, schema=TOKEN_SCHEMA),
        pl.DataFrame(spans, schema=SPAN_SCHEMA),
        pl.DataFrame(links, schema=LINK_SCHEMA),
    )


def choose_views(trace: RecordedTrace, chosen: ShownMaps) -> list[HeadGroup]:
    """List the maps of a trace: single heads, the mean of the Reasoning-Focus Heads if any, the mean of all heads."""
    everything = [(layer, head) for layer in sorted(trace.layers) for head in range(trace.layers[layer].n_heads)]
    absent = [head for head in [*chosen.heads, *chosen.rfh] if tuple(head) not in everything]
    if absent:
        raise R2AError(f"{head_name(*absent[0])} was not captured", "choose another head for the maps")
    single = [HeadGroup("head", (head,)) for head in chosen.heads]
    rfh = [HeadGroup("rfh_mean", chosen.rfh)] if chosen.rfh else []
    return [*single, *rfh, HeadGroup("head_mean", tuple(everything))]


def map_rows(
    item_id: str, trace: RecordedTrace, views: Sequence[HeadGroup], cells: int, device: str
) -> Iterator[dict[str, object]]:
    """Pool one row of MAP_SCHEMA per view; rows are those that were captured, without the final EOS."""
    n_tokens = trace.segments.n_tokens
    rows = first_tokens(trace.segments, range(trace.first_row, n_tokens - 1), cells)
    columns = first_tokens(trace.segments, range(n_tokens - 1), cells)
    pooled = [np.zeros((len(rows), len(columns)), np.float32) for _ in views]
    for chunk in query_blocks(trace, views, range(trace.first_row, n_tokens - 1), device):
        place = np.searchsorted(rows, chunk.rows, side="right") - 1
        for target, weights in zip(pooled, chunk.weights, strict=True):
            np.maximum.at(target, place, np.maximum.reduceat(weights[:, : n_tokens - 1], columns, axis=1))
    axes = {"n_tokens": n_tokens, "row_token": rows.tolist(), "col_token": columns.tolist()}
    for view, pattern in zip(views, pooled, strict=True):
        yield {**view.key(item_id), **axes, "pattern": pattern.ravel().tolist()}


def first_tokens(segments: TraceSegments, tokens: range, cells: int) -> np.ndarray:
    """Cut `tokens` into at most `cells` cells, equally wide in a segment, none over a border: first token of each."""
    borders = [bound for each in segments.ranges().values() for bound in (each.start, each.stop)]
    cuts = sorted({tokens.start, tokens.stop, *(bound for bound in borders if bound in tokens)})
    parts = [range(start, stop) for start, stop in itertools.pairwise(cuts)]
    width = 1
    while sum(-(-len(part) // width) for part in parts) > cells:
        width += 1
    return np.array([token for part in parts for token in part[::width]])


def written_span(span: Span, trace: RecordedTrace) -> list[Span]:
    """Return the part of a span whose writing rows were captured; none where that is nothing."""
    start = max(span.start, trace.first_row + 1)
    return [replace(span, start=start)] if start < span.end else []


def span_rows(trace: RecordedTrace, span: Span, views: Sequence[HeadGroup], device: str) -> list[dict[str, object]]:
    """Average one row of SPAN_SCHEMA per view. Raises R2AError when the rows that write it were not captured."""
    first, last = trace.first_row + 1, trace.segments.n_tokens - 1
    if not first <= span.start < span.end <= last:
        message = f"the span {span.start}..{span.end} of {span.item_id!r} is not within {first}..{last}"
        raise R2AError(message, "choose a span that captured rows write, or capture more rows")
    total = [np.zeros(trace.segments.n_tokens) for _ in views]
    for chunk in query_blocks(trace, views, range(span.start - 1, span.end - 1), device):
        for target, weights in zip(total, chunk.weights, strict=True):
            target += weights.sum(axis=0, dtype=np.float64)
    bounds = {"span_start": span.start, "span_end": span.end}
    return [
        {**view.key(span.item_id), **bounds, "weights": (weights / (span.end - span.start)).tolist()}
        for view, weights in zip(views, total, strict=True)
    ]


def query_blocks(trace: RecordedTrace, views: Sequence[HeadGroup], rows: range, device: str) -> Iterator[QueryBlock]:
    """Compute the weights of each view over blocks of `rows`, in order."""
    n_tokens = trace.segments.n_tokens
    wanted = sorted({head for view in views for head in view.heads})
    layers = {layer: [head for number, head in wanted if number == layer] for layer in sorted({n for n, _ in wanted})}
    tensors = {layer: (trace.queries(layer).to(device), trace.keys(layer).to(device)) for layer in layers}
    step = max(1, CHUNK_ELEMENTS // n_tokens)
    for start in range(rows.start, rows.stop, step):
        chunk = range(start, min(start + step, rows.stop))
        weights = [torch.zeros(len(chunk), n_tokens, device=device) for _ in views]
        for layer, heads in layers.items():
            queries, keys, attention = select_heads(*tensors[layer], trace.layers[layer], heads)
            for block in pattern_blocks(queries, keys, trace.first_row, attention, chunk):
                place = slice(block.rows.start - start, block.rows.stop - start)
                for view, target in zip(views, weights, strict=True):
                    own = [heads.index(head) for number, head in view.heads if number == layer]
                    if own:
                        target[place, block.keys.start : block.keys.stop] += block.weights[own].sum(dim=0)
        for view, w in zip(views, weights, strict=True):
            check_finite(w, f"attention map {view.kind}, layer and head {view.heads[0]}", ("row", "token"))
        yield QueryBlock(chunk, [(w / len(view.heads)).cpu().numpy() for view, w in zip(views, weights, strict=True)])


def select_heads(
    queries: Tensor, keys: Tensor, layer: LayerAttention, heads: Sequence[int]
) -> tuple[Tensor, Tensor, LayerAttention]:
    """Select queries, keys and attention of some heads of a layer, each head with keys of its own (no GQA groups)."""
    groups = layer.n_heads // layer.n_kv_heads
    sinks = None if layer.sinks is None else tuple(layer.sinks[head] for head in heads)
    selected = replace(layer, n_heads=len(heads), n_kv_heads=len(heads), sinks=sinks)
    return queries[list(heads)], keys[[head // groups for head in heads]], selected


def token_row(
    item_id: str, segments: TraceSegments, pieces: Sequence[str], phrases: Sequence[str]
) -> dict[str, object]:
    """Make one row of TOKEN_SCHEMA."""
    return {
        "item_id": item_id,
        "tokens": list(pieces),
        "think_open": segments.think_open,
        "think_close": segments.think_close,
        "n_tokens": segments.n_tokens,
        "reflection": [each.start for each in reflection_ranges(pieces, segments.reasoning, phrases)],
    }


def link_rows(
    item_id: str, trace: RecordedTrace, views: Sequence[HeadGroup], strongest: int, device: str
) -> list[dict[str, object]]:
    """Make the rows of LINK_SCHEMA of one trace, maps in the order of `views`; the first writes the first answer token.

    Where that is `</think>` and was not captured, they start with the first answer token.
    """
    by_view: list[list[dict[str, object]]] = [[] for _ in views]
    reasoning, answer = trace.segments.reasoning, trace.segments.answer
    for chunk in query_blocks(trace, views, range(max(trace.first_row, answer.start - 1), answer.stop), device):
        for rows, view, weights in zip(by_view, views, chunk.weights, strict=True):
            part = weights[:, reasoning.start : reasoning.stop]  # (row, reasoning token)
            for row, link in zip(chunk.rows, strongest_links(part, reasoning.start, strongest), strict=True):
                rows.append({**view.key(item_id), "row": row, **link})
    return [row for rows in by_view for row in rows]


def strongest_links(weights: np.ndarray, first_token: int, strongest: int) -> Iterator[dict[str, object]]:
    """Find the strongest tokens of each row of `weights` (row, reasoning token), their weights, all mass, the rest."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :strongest]
    chosen = np.take_along_axis(weights, order, axis=1)
    mass = weights.sum(axis=1, dtype=np.float64)
    outside = np.maximum(mass - chosen.sum(axis=1, dtype=np.float64), 0.0)
    for row in range(len(weights)):
        yield {
            "tokens": (order[row] + first_token).tolist(),
            "weights": chosen[row].tolist(),
            "reasoning": float(mass[row]),
            "outside": float(outside[row]),
        }
