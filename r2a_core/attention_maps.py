"""Attention maps as figures and page draw them (Figure 4): pooled cells, marks of reflection, groups of answer rows.

frames of MAP_SCHEMA and TOKEN_SCHEMA -> traces with their bounds and texts, and their maps by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from r2a_core.infra.errors import R2AError
from r2a_core.results import LOOKS, head_name
from r2a_core.trace import TraceSegments


@dataclass(frozen=True)
class MappedTrace:
    """A trace that has maps: its bounds and, of each token, the text."""

    item_id: str
    segments: TraceSegments
    tokens: list[str]
    reflection: list[int]  # tokens at which a reflection phrase of the reasoning starts


@dataclass(frozen=True)
class PooledMap:
    """One attention map; cell (i, j) covers tokens row_edges[i:i+2] x col_edges[j:j+2]."""

    row_edges: np.ndarray  # (rows + 1,) token index
    col_edges: np.ndarray  # (columns + 1,) token index
    weights: np.ndarray  # (rows, columns), attention weight, the maximum over the cell


def mapped_traces(tokens: pl.DataFrame) -> dict[str, MappedTrace]:
    """Index traces by item id, in the order of a frame of TOKEN_SCHEMA."""
    columns = ("item_id", "think_open", "think_close", "n_tokens", "tokens", "reflection")
    return {
        item_id: MappedTrace(item_id, TraceSegments(think_open, think_close, n_tokens), texts, reflection)
        for item_id, think_open, think_close, n_tokens, texts, reflection in tokens.select(columns).iter_rows()
    }


FLOOR = 1e-3  # attention weight below which a map is empty, or less in long traces: see `floor_of`

MARKS = 60  # most marks of reflection tokens along a map

GROUPS = 32  # most groups of answer rows in a walk as it is drawn


def floor_of(trace: MappedTrace) -> float:
    """Return FLOOR or, in a long trace, half of even reading's weight: the map of an even head is not empty."""
    return min(FLOOR, 0.5 / trace.segments.n_tokens)


def thinned(reflection: Sequence[int], n_tokens: int) -> list[int]:
    """Choose marks that lie at least n_tokens / MARKS apart, from the first on."""
    kept: list[int] = []
    for token in reflection:
        if not kept or token - kept[-1] >= n_tokens / MARKS:
            kept.append(token)
    return kept


def group_width(n_rows: int) -> int:
    """Count the answer rows in each group of a walk but the last, which may have fewer."""
    return -(-n_rows // GROUPS)


def grouped(values: np.ndarray, mass: np.ndarray, width: int) -> np.ndarray:
    """Average `values` (any, row) over groups of `width` answer rows, rows weighted by `mass`: (any, group).

    NaN for a group whose mean mass is below LOOKS.
    """
    starts = np.arange(0, values.shape[-1], width)
    totals = np.add.reduceat(np.where(np.isnan(values), 0.0, values) * mass, starts, axis=-1)
    masses = np.add.reduceat(mass, starts, axis=-1)
    rows = np.add.reduceat(np.ones(mass.shape[-1]), starts)
    return np.divide(totals, masses, out=np.full(totals.shape, np.nan), where=masses >= LOOKS * rows)


def map_name(kind: str, layer: int | None, head: int | None) -> str:
    """Name a map: L10.H31 for a head, `RFH mean` and `head mean` for the two means."""
    if layer is not None and head is not None:
        return head_name(layer, head)
    return {"rfh_mean": "RFH mean", "head_mean": "head mean"}[kind]


def pooled_maps(maps: pl.DataFrame, traces: Mapping[str, MappedTrace]) -> dict[tuple[str, str], PooledMap]:
    """Index maps by (map name, item id), in the order of a frame of MAP_SCHEMA.

    Raises R2AError when a map is of no known trace, or not rows x columns long.
    """
    found = {}
    for number, row in enumerate(maps.select("kind", "layer", "head", "item_id").iter_rows()):
        name, trace = map_name(*row[:3]), traces.get(row[3])
        edges = [] if trace is None else [_edges(maps[axis][number], trace) for axis in ("row_token", "col_token")]
        shape, weights = tuple(len(each) - 1 for each in edges), maps["pattern"][number].to_numpy()
        if trace is None or len(weights) != shape[0] * shape[1]:
            message = f"the map {name} of {row[3]!r} does not fit the tokens of its trace"
            raise R2AError(message, "rebuild both with: dvc repro maps")
        found[name, trace.item_id] = PooledMap(edges[0], edges[1], weights.reshape(shape))
    return found


def _edges(first_tokens: pl.Series, trace: MappedTrace) -> np.ndarray:
    """Borders of pooled cells from the first token of each; the last cell ends before the final EOS."""
    return np.append(first_tokens.to_numpy(), max(int(first_tokens[-1]) + 1, trace.segments.n_tokens - 1))
