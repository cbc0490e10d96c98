"""The views of which maps are made, and their attention weights a block of rows at a time.

stored queries and keys, ShownMaps -> HeadGroups: a head by itself, or the mean of several -> QueryBlocks, so that a
token x token matrix never exists.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.map_selection import ShownMaps
from r2a_core.attention.patterns import pattern_blocks
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError
from r2a_core.results import Head, head_name

CHUNK_ELEMENTS = 4_000_000  # attention weights per view and block of rows

VIEW_SCHEMA = {"item_id": pl.String, "kind": pl.String, "layer": pl.Int16, "head": pl.Int16}


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
class QueryBlock:
    """Attention weights of consecutive query positions over all tokens, one matrix per view."""

    rows: range
    weights: list[np.ndarray]  # each (row, token)


def choose_views(trace: RecordedTrace, chosen: ShownMaps) -> list[HeadGroup]:
    """List the maps of a trace: single heads, the mean of the Reasoning-Focus Heads if any, the mean of all heads."""
    everything = [(layer, head) for layer in sorted(trace.layers) for head in range(trace.layers[layer].n_heads)]
    absent = [head for head in [*chosen.heads, *chosen.rfh] if tuple(head) not in everything]
    if absent:
        raise R2AError(f"{head_name(*absent[0])} was not captured", "choose another head for the maps")
    single = [HeadGroup("head", (head,)) for head in chosen.heads]
    rfh = [HeadGroup("rfh_mean", chosen.rfh)] if chosen.rfh else []
    return [*single, *rfh, HeadGroup("head_mean", tuple(everything))]


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
