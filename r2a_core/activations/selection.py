"""Which responses are captured: the first well-formed one of each item.

rows of data/generations/<model>/<dataset>/<setting>.parquet -> TokenTrace records in item order.
"""

from dataclasses import dataclass

import polars as pl

from r2a_core.traces.segments import TraceSegments


@dataclass(frozen=True)
class TokenTrace:
    """One trace as token ids, final EOS included."""

    item_id: str
    token_ids: tuple[int, ...]
    segments: TraceSegments


def select_traces(generations: pl.DataFrame, limit: int | None = None) -> list[TokenTrace]:
    """The first response with status `ok` of each item, in the order in which items appear, the first `limit` of them.

    More items, or more runs of items that have a trace, leave the traces before them as they are.
    """
    order = generations["item_id"].unique(maintain_order=True)
    well_formed = generations.filter(pl.col("status") == "ok").sort("run", maintain_order=True)
    first = well_formed.unique("item_id", keep="first", maintain_order=True)
    rows = order.to_frame().join(first, on="item_id", maintain_order="left").head(limit or len(order))
    traces = []
    for row in rows.iter_rows(named=True):
        token_ids = (*row["prompt_ids"], *row["response_ids"])
        segments = TraceSegments(row["think_open"], row["think_close"], len(token_ids))
        traces.append(TokenTrace(row["item_id"], token_ids, segments))
    return traces
