"""Induction scores: do heads look at what followed the last occurrence of the current token?

model, token ids to draw from -> layer, head, induction, induction_match, on repeated sequences of random tokens.

    induction        mean attention, over the rows of the second repeat, on the token after the same token's first
                     occurrence
    induction_match  share of all attention that lies on such keys, over all rows: what TransformerLens's
                     detect_head(..., "induction_head") computes with its default error measure
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from r2a_core.activations.attention import Recorder, recording
from r2a_core.activations.capture import forward
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.patterns import pattern_blocks
from r2a_core.config import InductionParams
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError


@dataclass
class InductionRecorder(Recorder):
    """Scores each layer when it runs; sums over sequences."""

    token_ids: Tensor  # (token,)
    first: int  # first row of the second repeat
    period: int
    offset: dict[int, Tensor]  # layer -> (head,), sum over sequences
    match: dict[int, Tensor]

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor, log_sums: Tensor | None = None) -> None:
        tokens, zero = self.token_ids, torch.zeros(layer.n_heads)
        on_offset, on_match, total = zero.clone(), zero.clone(), zero.clone()
        for block in pattern_blocks(query, key, 0, layer, range(len(tokens))):
            rows = torch.arange(block.rows.start, block.rows.stop)[:, None]
            keys = torch.arange(block.keys.start, block.keys.stop)
            same = tokens[block.rows.start : block.rows.stop, None] == tokens[(keys - 1).clamp(min=0)]
            weights = block.weights.cpu()
            on_match += (weights * (same & (keys > 0) & (keys - 1 < rows))).sum((1, 2))
            on_offset += (weights * ((keys == rows - self.period + 1) & (rows >= self.first))).sum((1, 2))
            total += weights.sum((1, 2))
        for name, values in (("induction score", on_offset), ("attention", total)):
            check_finite(values, f"{name} of layer {layer.layer} on repeated random tokens", ("head",))
        self.offset[layer.layer] = self.offset.get(layer.layer, zero) + on_offset / self.period
        self.match[layer.layer] = self.match.get(layer.layer, zero) + on_match / total


@torch.no_grad()
def induction_scores(model: Any, vocabulary: Sequence[int], bos: int | None, config: InductionParams) -> pl.DataFrame:
    """Returns the scores of all heads, by layer and head. `vocabulary`: ordinary token ids (no tags).

    Raises R2AError when the vocabulary is too small for a period without repeats.
    """
    if len(vocabulary) < config.period:
        message = f"a period of {config.period} tokens needs as many ordinary tokens, found {len(vocabulary)}"
        raise R2AError(message, "lower heads.induction.period")
    generator = np.random.default_rng(config.seed)
    offset: dict[int, Tensor] = {}
    match: dict[int, Tensor] = {}
    for _ in range(config.sequences):
        repeat = generator.choice(np.asarray(vocabulary), config.period, replace=False).tolist()
        ids = ([] if bos is None else [bos]) + repeat + repeat
        recorder = InductionRecorder(torch.tensor(ids), len(ids) - config.period, config.period, offset, match)
        with recording(model, recorder):
            forward(model, ids)
    rows = [
        {"layer": layer, "head": head, "induction": on_offset, "induction_match": on_match}
        for layer in sorted(offset)
        for head, (on_offset, on_match) in enumerate(zip(offset[layer].tolist(), match[layer].tolist(), strict=True))
    ]
    schema = {"layer": pl.Int16, "head": pl.Int16, "induction": pl.Float64, "induction_match": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema)
    return frame.with_columns(pl.col("induction", "induction_match") / config.sequences)


def ordinary_tokens(tokenizer: Any, n_embeddings: int) -> list[int]:
    """Returns the token ids that stand for plain text: neither special nor added, and with a row in the embedding."""
    added = set(tokenizer.get_added_vocab().values()) | set(tokenizer.all_special_ids)
    return [token for token in sorted(tokenizer.get_vocab().values()) if token not in added and token < n_embeddings]
