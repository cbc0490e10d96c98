"""The walk of every head along the reasoning of one trace, small enough to travel in the page.

attention frame of one model and dataset, trace -> centroid and spread by head and group of answer tokens.
"""

from typing import Any

import numpy as np
import polars as pl

from r2a_core.figures.maps import Trace
from r2a_core.report.packing import pack

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
