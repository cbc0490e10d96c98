"""What a token of the trace reader reads, and which line reads which, packed for the page.

rows of LINK_SCHEMA and LINE_SCHEMA of one trace and view -> blocks of ranked tokens, and a matrix of ratios. Of answer
tokens weights are exact; of reasoning tokens the page has fewer, in 8 bits, as it has ratios (see CODES).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from r2a_core.attention_maps import MappedTrace, floor_of
from r2a_core.report.encode import CODES, pack, pack_shares, ratio_levels, weight_levels
from r2a_core.trace import TEXT_PARTS

SHORT = 4  # tokens of question and answer that an answer token reads, and all that a reasoning token does

Ranked = tuple[np.ndarray, np.ndarray]  # tokens and their weights, (row, rank); no_token and 0 where a row has fewer


def link_blocks(rows: pl.DataFrame, trace: MappedTrace, with_reasoning: bool) -> list[dict[str, Any]]:
    """Packs what the tokens of an answer read, a block for each part of the text, and of the reasoning where wanted.

    The rows that write `</think>` and the final EOS are left out: neither is part of the text.
    """
    segments = trace.segments
    written = pl.col("row") + 1
    answer = rows.filter(written.is_between(segments.answer.start, segments.answer.stop - 1)).sort("row")
    parts = {part: answer.filter(part=part) for part in TEXT_PARTS}
    blocks = [answer_block(part, own) for part, own in parts.items() if own.height]
    before = rows.filter(written.is_between(segments.reasoning.start, segments.reasoning.stop - 1))
    return [*blocks, *([reasoning_block(before, floor_of(trace))] if with_reasoning and before.height else [])]


def answer_block(part: str, rows: pl.DataFrame) -> dict[str, Any]:
    """Packs one part of the text as answer tokens read it."""
    tokens, weights = (each[:, : None if part == "reasoning" else SHORT] for each in ranked(rows))
    mass = rows["mass"].to_numpy()
    outside = np.maximum(mass - weights.sum(axis=1), 0)
    shares = {"weights": weights, "mass": mass, "outside": outside}
    packed = {name: pack_shares(values) for name, values in shares.items()}
    return {"part": part, "first_row": int(rows["row"][0]), "tokens": pack(tokens, "u2"), **packed}


def reasoning_block(rows: pl.DataFrame, floor: float) -> dict[str, Any]:
    """Packs the strongest tokens that reasoning tokens read, of question and reasoning together."""
    each = rows.explode("tokens", "weights").sort("row", "weights", descending=[False, True], maintain_order=True)
    strongest = each.group_by("row", maintain_order=True).agg(pl.col("tokens", "weights").head(SHORT))
    tokens, weights = ranked(strongest)
    mass = rows.sort("row").group_by("row", maintain_order=True).agg(pl.col("mass").sum())["mass"].to_numpy()
    shares = {"weights": weights, "outside": np.maximum(mass - weights.sum(axis=1), 0)}
    packed = {name: pack(weight_levels(values, floor), "u1") for name, values in shares.items()}
    return {"part": "before", "first_row": int(strongest["row"][0]), "tokens": pack(tokens, "u2"), **packed}


def ranked(rows: pl.DataFrame) -> Ranked:
    """Arranges the lists of tokens and weights."""
    counts = rows["tokens"].list.len().cast(pl.Int64).to_numpy()
    row = np.repeat(np.arange(rows.height), counts)
    rank = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
    tokens = np.full((rows.height, counts.max()), CODES["no_token"])
    weights = np.zeros(tokens.shape)
    tokens[row, rank] = rows["tokens"].explode().to_numpy()
    weights[row, rank] = rows["weights"].explode().to_numpy()
    return tokens, weights


def line_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """Packs a row of LINE_SCHEMA: attention of lines on lines over even reading, and even reading itself."""
    shape = (len(row["start"]), len(row["start"]))
    weights, even = (np.array(row[name], dtype=np.float64).reshape(shape) for name in ("weights", "even"))
    return {"ratios": pack(ratio_levels(weights, even), "u1"), "even": pack(even, "f4")}
