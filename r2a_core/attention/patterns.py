"""Attention weights of one layer, a block of rows at a time.

queries (head, row, head_dim) and keys (kv_head, token, head_dim) of one layer -> PatternBlocks. Weights are computed in
float32, whatever the stored type; a block fits into the cache of a CPU, so no matrix of all rows and tokens exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention, rows_per_block, visible_keys

CPU_ELEMENTS = 1_000_000  # attention weights a block: 4 MB

GPU_ELEMENTS = 64_000_000  # attention weights a block: 256 MB

ALIGNED = 16  # blocks end at multiples of as many keys, which are quicker to compute with

MASKED_LOGIT = -1e30  # logit of a key that a row does not see; its weight is exactly 0


@dataclass(frozen=True)
class PatternBlock:
    """Consecutive rows of one layer and the keys that they see."""

    rows: range  # tokens
    keys: range  # tokens; from the first key that any row sees to the last row's own
    logits: Tensor  # (head, row, key), before the softmax, MASKED_LOGIT where the row does not see the key
    weights: Tensor  # (head, row, key), attention weight; sums to 1 over keys (to less with sinks)

    @property
    def seen(self) -> Tensor:
        """Tells which keys each row sees, (row, key)."""
        return self.logits[0] > MASKED_LOGIT / 2

    def place(self, tokens: range) -> slice:
        """Returns the place of tokens among the keys."""
        return slice(max(tokens.start - self.keys.start, 0), max(tokens.stop - self.keys.start, 0))

    def own(self, values: Tensor) -> Tensor:
        """Returns the part of values (..., row, key) that each row has for its own token, (..., row): a view."""
        return values.diagonal(self.rows.start - self.keys.start, -2, -1)

    def without_own(self) -> "PatternBlock":
        """Hides from each row its own token; what it gives to others stays."""
        logits, weights = self.logits.clone(), self.weights.clone()
        self.own(logits).fill_(MASKED_LOGIT)
        self.own(weights).zero_()
        return replace(self, logits=logits, weights=weights)


def pattern_blocks(
    queries: Tensor, keys: Tensor, first_row: int, layer: LayerAttention, rows: range, max_elements: int | None = None
) -> Iterator[PatternBlock]:
    """Blocks over the tokens `rows`, in order. Query row 0 is token `first_row`; `rows` must lie within the queries.

    Runs on the device of the queries.
    """
    n_heads, n_rows, head_dim = queries.shape
    assert (n_heads, head_dim, keys.shape[0]) == (layer.n_heads, layer.head_dim, layer.n_kv_heads)
    assert first_row <= rows.start <= rows.stop <= min(first_row + n_rows, keys.shape[1])
    elements = max_elements or (CPU_ELEMENTS if queries.device.type == "cpu" else GPU_ELEMENTS)
    step = rows_per_block(elements // n_heads, rows.stop, layer.window)
    keys = keys[:, : rows.stop].float()
    start = rows.start
    while start < rows.stop:
        stop = start + step
        stop = min(stop - stop % ALIGNED if step > ALIGNED else stop, rows.stop)
        low = 0 if layer.window is None else max(0, start - layer.window + 1)
        query = queries[:, start - first_row : stop - first_row].float()
        logits = block_logits(query, keys[:, low:stop], layer)
        mixed = low if layer.window is not None else start  # every row sees all keys from low to here
        unseen = ~visible_keys(start, stop, mixed, layer.window, logits.device)
        logits[:, :, mixed - low :].masked_fill_(unseen, MASKED_LOGIT)
        yield PatternBlock(range(start, stop), range(low, stop), logits, softmax_with_sinks(logits, layer))
        start = stop


def block_logits(query: Tensor, key: Tensor, layer: LayerAttention) -> Tensor:
    """Computes attention logits (head, row, key); the query heads of a KV group share its keys."""
    n_kv, n_keys, head_dim = key.shape
    grouped = (query * layer.scaling).reshape(n_kv, -1, head_dim)
    logits = torch.bmm(grouped, key.transpose(1, 2)).reshape(layer.n_heads, -1, n_keys)
    return logits if layer.softcap is None else layer.softcap * torch.tanh(logits / layer.softcap)


def softmax_with_sinks(logits: Tensor, layer: LayerAttention) -> Tensor:
    """Computes the softmax over keys; a sink's share is left out of the result."""
    if layer.sinks is None:
        return torch.softmax(logits, dim=-1)
    sinks = torch.tensor(layer.sinks, device=logits.device)[:, None, None].expand(-1, logits.shape[1], 1)
    return torch.softmax(torch.cat([logits, sinks], dim=-1), dim=-1)[..., :-1]
