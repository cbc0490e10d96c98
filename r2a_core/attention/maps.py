"""Attention maps of chosen heads and traces, and where chosen spans attend (paper section 4, Figures 4, 5, 11 and 12).

stored activations, token texts, attention and head tables -> MapTables:
    maps    one row per item and map: a single head, the mean of the Reasoning-Focus Heads, or the mean of all heads
    tokens  one row per item
    spans   one row per item, span and map: mean attention to each token from the rows that write the span
    links   what each row attends to most, see map_links.py
    lines   which line of a trace reads which, see map_lines.py

The row that writes a token is the one before it: its output is the next token. All but spans come of one pass over the
rows of a trace, a block of them at a time.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from r2a_core.activations.store import ActivationReader, RecordedTrace
from r2a_core.attention.map_lines import LINE_SCHEMA, LineWeights
from r2a_core.attention.map_links import LINK_SCHEMA, block_links
from r2a_core.attention.map_selection import ShownMaps, Span, choose_maps, default_span
from r2a_core.attention.map_views import VIEW_SCHEMA, HeadGroup, QueryBlock, choose_views, query_blocks
from r2a_core.config import MapParams, WalkThresholds
from r2a_core.infra.errors import R2AError
from r2a_core.models.job import ModelJob
from r2a_core.models.load import choose_device
from r2a_core.results import group_starts
from r2a_core.tokenizer import reflection_ranges, token_pieces
from r2a_core.trace import TraceSegments

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class MapTables:
    """MAP_SCHEMA, TOKEN_SCHEMA, SPAN_SCHEMA, LINK_SCHEMA and LINE_SCHEMA."""

    maps: pl.DataFrame
    tokens: pl.DataFrame
    spans: pl.DataFrame
    links: pl.DataFrame
    lines: pl.DataFrame


SCHEMAS = (MAP_SCHEMA, TOKEN_SCHEMA, SPAN_SCHEMA, LINK_SCHEMA, LINE_SCHEMA)  # of MapTables


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
        return MapTables(*(pl.DataFrame(schema=each) for each in SCHEMAS))
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
    """Compute the tables of the chosen traces of one dataset.

    pieces: text of each token, by item id (of the chosen ones at least). Raises R2AError when a chosen trace, head or
    span does not exist.
    """
    maps, tokens, spans, lines, links = [], [], [], [], [pl.DataFrame(schema=LINK_SCHEMA)]
    for item_id in chosen.items:
        trace = reader.trace(item_id)
        texts = pieces[item_id]
        views = choose_views(trace, chosen)
        pooled, by_line = PooledPatterns(trace, views, params.cells), LineWeights(trace, views, texts)
        for block in query_blocks(trace, views, captured_rows(trace), device):
            pooled.add(block)
            by_line.add(block)
            links.append(block_links(item_id, block, views, trace.segments, params.links))
        maps += pooled.map_rows(item_id)
        lines += by_line.rows(item_id)
        tokens.append(token_row(item_id, trace.segments, texts, reflection_phrases))
        own = [span for span in chosen.spans if span.item_id == item_id]
        for span in own or written_span(default_span(item_id, trace.segments, texts), trace):
            spans += span_rows(trace, span, views, device)
    rows = (maps, tokens, spans, pl.concat(links), lines)
    return MapTables(*(pl.DataFrame(each, schema=schema) for each, schema in zip(rows, SCHEMAS, strict=True)))


def captured_rows(trace: RecordedTrace) -> range:
    """The rows that were captured, without the final EOS."""
    return range(trace.first_row, trace.segments.n_tokens - 1)


class PooledPatterns:
    """Pools the weights of blocks by their maximum over cells."""

    def __init__(self, trace: RecordedTrace, views: Sequence[HeadGroup], cells: int) -> None:
        self.segments, self.views = trace.segments, views
        self.rows = first_tokens(trace.segments, captured_rows(trace), cells)
        self.columns = first_tokens(trace.segments, range(trace.segments.n_tokens - 1), cells)
        self.patterns = [np.zeros((len(self.rows), len(self.columns)), np.float32) for _ in views]

    def add(self, block: QueryBlock) -> None:
        """Pool consecutive rows into the cells they lie in."""
        place = np.searchsorted(self.rows, block.rows, side="right") - 1
        for target, weights in zip(self.patterns, block.weights, strict=True):
            by_column = np.maximum.reduceat(weights[:, : self.segments.n_tokens - 1], self.columns, axis=1)
            np.maximum.at(target, place, by_column)

    def map_rows(self, item_id: str) -> Iterator[dict[str, object]]:
        """Make one row of MAP_SCHEMA per view."""
        axes = {"row_token": self.rows.tolist(), "col_token": self.columns.tolist()}
        for view, pattern in zip(self.views, self.patterns, strict=True):
            size = {"n_tokens": self.segments.n_tokens}
            yield {**view.key(item_id), **size, **axes, "pattern": pattern.ravel().tolist()}


def first_tokens(segments: TraceSegments, tokens: range, cells: int) -> np.ndarray:
    """Cut `tokens` into at most `cells` cells, equally wide in a segment, none over a border: first token of each."""
    borders = [bound for each in segments.ranges().values() for bound in (each.start, each.stop)]
    cuts = sorted({tokens.start, tokens.stop, *(bound for bound in borders if bound in tokens)})
    return np.array(group_starts([range(start, stop) for start, stop in itertools.pairwise(cuts)], cells))


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
