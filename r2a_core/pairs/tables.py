"""The table of aligned pairs, data/pairs/<model>.parquet, and its records: one row per pair and probe.

No grader is imported here, so that an edit of the grading reruns no forward pass of a pair.
"""

from typing import Any

import polars as pl

from r2a_core.infra.shards import fingerprint
from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition

PAIR_SCHEMA: Any = {
    "pair_id": pl.String,
    "probe": pl.String,
    "domain": pl.String,
    "status": pl.String,  # aligned | not_selected | no_response | unfinished | bad_think | no_answer | wrong |
    # not_alignable
    "reason": pl.String,  # null where aligned
    "clean_answer": pl.String,
    "corrupted_answer": pl.String,
    # null from here on where the pair is not aligned
    "clean_ids": pl.List(pl.Int32),
    "corrupted_ids": pl.List(pl.Int32),
    "clean_pad": pl.List(pl.Boolean),
    "corrupted_pad": pl.List(pl.Boolean),
    "masked": pl.Boolean,  # padding is not attended to
    "positions": pl.List(pl.Int32),
    "roles": pl.List(pl.String),
    "clean_tokens": pl.List(pl.String),
    "corrupted_tokens": pl.List(pl.String),
    "answer_a": pl.Int32,
    "answer_b": pl.Int32,
    "think_open": pl.Int32,
    "think_close": pl.Int32,
}

SIDES = ("clean", "corrupted")


def aligned_pairs(frame: pl.DataFrame) -> list[AlignedPair]:
    """Makes the records of all aligned rows of PAIR_SCHEMA, in their order."""
    pairs = []
    for row in frame.filter(pl.col("status") == "aligned").iter_rows(named=True):
        clean, corrupted = (
            PaddedSequence(tuple(row[f"{side}_ids"]), tuple(row[f"{side}_pad"]), row["masked"]) for side in SIDES
        )
        places = zip(row["positions"], row["roles"], row["clean_tokens"], row["corrupted_tokens"], strict=True)
        positions = tuple(PatchPosition(*place) for place in places)
        same = {name: row[name] for name in ("pair_id", "probe", "answer_a", "answer_b", "think_open", "think_close")}
        pairs.append(AlignedPair(clean=clean, corrupted=corrupted, positions=positions, **same))
    return pairs


def pair_digest(pair: AlignedPair) -> str:
    """Digests all that patching depends on of an aligned pair."""
    sides = [[side.ids, side.pad, side.masked] for side in (pair.clean, pair.corrupted)]
    places = [[each.index, each.role, each.clean_token, each.corrupted_token] for each in pair.positions]
    return fingerprint(
        pair_id=pair.pair_id,
        probe=pair.probe,
        sides=sides,
        positions=places,
        answers=[pair.answer_a, pair.answer_b],
        tags=[pair.think_open, pair.think_close],
    )
