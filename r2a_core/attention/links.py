"""Which reasoning tokens each answer token attends to: the strongest few by map, and how much mass they leave out.

stored activations, attention and head frames -> LINK_SCHEMA, one row an item, map and answer token. The maps are those
of attention/maps.py: single heads, the mean of the Reasoning-Focus Heads, the mean of all heads.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from r2a_core.activations.reading import ActivationReader, RecordedTrace
from r2a_core.attention.choices import choose_traces, ranked_heads
from r2a_core.attention.maps import VIEW_SCHEMA, MapConfig, View, choose_views, row_chunks

LINK_SCHEMA = {
    **VIEW_SCHEMA,  # kind: head | rfh_mean | head_mean; layer and head are null for means
    "row": pl.Int32,  # the answer token
    "tokens": pl.List(pl.Int32),  # reasoning tokens by falling weight, ties by place; all of a short reasoning
    "weights": pl.List(pl.Float32),  # attention weight of each
    "reasoning": pl.Float32,  # attention mass on the whole reasoning
    "outside": pl.Float32,  # attention mass on the reasoning tokens that are not in `tokens`
}


def attention_links(
    reader: ActivationReader,
    attention: pl.DataFrame,
    heads: pl.DataFrame,
    config: MapConfig,
    strongest: int,
    device: str = "cpu",
) -> pl.DataFrame:
    """The `strongest` reasoning tokens of every answer token, for the traces and maps that `attention_maps` draws.

    attention: ATTENTION_SCHEMA of the dataset; heads: rows of HEAD_SCHEMA of the dataset. Raises R2AError when a chosen
    trace or head does not exist.
    """
    rfh = ranked_heads(heads)[: config.top]
    items = config.items if config.items is not None else choose_traces(attention, rfh, config.traces)
    rows: list[dict[str, object]] = []
    for item_id in items:
        trace = reader.trace(item_id)
        rows += link_rows(item_id, trace, choose_views(trace, rfh, config), strongest, device)
    return pl.DataFrame(rows, schema=LINK_SCHEMA)


def link_rows(
    item_id: str, trace: RecordedTrace, views: Sequence[View], strongest: int, device: str
) -> list[dict[str, object]]:
    """Rows of LINK_SCHEMA of one trace, maps in the order of `views`, answer tokens in theirs."""
    by_view: list[list[dict[str, object]]] = [[] for _ in views]
    reasoning = trace.segments.reasoning
    for chunk in row_chunks(trace, views, trace.segments.answer, device):
        for rows, view, weights in zip(by_view, views, chunk.weights, strict=True):
            part = weights[:, reasoning.start : reasoning.stop]  # (row, reasoning token)
            for row, link in zip(chunk.rows, strongest_links(part, reasoning.start, strongest), strict=True):
                rows.append({**view.key(item_id), "row": row, **link})
    return [row for rows in by_view for row in rows]


def strongest_links(weights: np.ndarray, first_token: int, strongest: int) -> Iterator[dict[str, object]]:
    """For each row of `weights` (row, reasoning token): its strongest tokens, their weights, all mass and the rest."""
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
