"""Which tokens the rows of a trace attend to most, exactly (paper section 4).

QueryBlock -> LINK_SCHEMA: one row per map, row that writes a token of reasoning or answer, and part of the text that
the row sees: the tokens of the part that it attends to most, and the mass on all of it.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch

from r2a_core.attention.map_views import VIEW_SCHEMA, HeadGroup, QueryBlock
from r2a_core.trace import TEXT_PARTS, TraceSegments

LINK_SCHEMA = {
    **VIEW_SCHEMA,  # kind: head | rfh_mean | head_mean; layer and head are null for means
    "row": pl.Int32,  # the token that attends; it writes the next
    "part": pl.String,  # query | reasoning | answer: where `tokens` lie
    # of the part, by falling weight, ties by place; all that the row sees of a short part, with a sliding window also
    # tokens that it does not see, at weight 0
    "tokens": pl.List(pl.Int32),
    "weights": pl.List(pl.Float32),  # attention weight of each
    "mass": pl.Float32,  # attention mass on the whole part
}

PLACES = 2**32 - 1  # more than any place: a key is the bits of a weight, then PLACES less the place


def block_links(
    item_id: str, block: QueryBlock, views: Sequence[HeadGroup], segments: TraceSegments, strongest: int
) -> pl.DataFrame:
    """Make the rows of LINK_SCHEMA of one block; `<think>` writes the first token of the reasoning."""
    frames = [pl.DataFrame(schema=LINK_SCHEMA)]
    for part in TEXT_PARTS:
        tokens = segments.ranges()[part]
        rows = range(max(block.rows.start, segments.think_open, tokens.start), block.rows.stop)
        if not (rows and tokens):
            continue
        seen = slice(tokens.start, min(tokens.stop, rows.stop))
        for view, weights in zip(views, block.weights, strict=True):
            columns = strongest_links(weights[rows.start - block.rows.start :, seen], tokens.start, rows, strongest)
            frames.append(pl.DataFrame(view.key(item_id) | columns | {"part": part}, schema=LINK_SCHEMA))
    return pl.concat(frames)


def strongest_links(weights: np.ndarray, first_token: int, rows: range, strongest: int) -> dict[str, object]:
    """Find the strongest tokens of each row of `weights` (row, token of a part), their weights, and all mass."""
    places = strongest_places(weights, strongest)
    chosen = np.take_along_axis(weights, places, axis=1)
    seen = [row + 1 - first_token for row in rows]  # later tokens weigh nothing and come last
    return {
        "row": list(rows),
        "tokens": [each[:most].tolist() for each, most in zip(places + first_token, seen, strict=True)],
        "weights": [each[:most].tolist() for each, most in zip(chosen, seen, strict=True)],
        "mass": weights.sum(axis=1, dtype=np.float64),
    }


def strongest_places(weights: np.ndarray, strongest: int) -> np.ndarray:
    """Return the columns of the largest of each row, falling, ties by place: (row, at most `strongest`)."""
    bits = torch.from_numpy(np.ascontiguousarray(weights, dtype=np.float32)).view(torch.int32).long()
    keys = (bits << 32) + (PLACES - torch.arange(weights.shape[1]))  # of weights from 0 on, bits order as numbers do
    return (PLACES - (keys.topk(min(strongest, weights.shape[1]), dim=1).values & PLACES)).numpy()
