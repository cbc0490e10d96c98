"""Attention weights of chosen rows, a block at a time, from queries and keys alone.

queries (head, row, head_dim) and keys (kv_head, token, head_dim) of one layer -> PatternBlock records. A block is
small enough to stay in the cache of a CPU, so no matrix of all rows and tokens ever exists and the work is about that
of the layer's own attention. Everything is float32, whatever the stored type.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from r2a_core.activations.attending import LayerAttention, rows_per_block, visible_keys

CPU_ELEMENTS = 1_000_000  # attention weights a block: 4 MB
GPU_ELEMENTS = 64_000_000  # attention weights a block: 256 MB
ALIGNED = 16  # blocks end at multiples of as many keys, which are quicker to compute with
UNSEEN = -1e30  # logit of a key that a row does not see; its weight is exactly 0


@dataclass(frozen=True)
class PatternBlock:
    """Consecutive rows of one layer and the keys that they see."""

    rows: range  # tokens
    keys: range  # tokens; from the first key that any row sees to the last row's own
    logits: Tensor  # (head, row, key), before the softmax, UNSEEN where the row does not see the key
    weights: Tensor  # (head, row, key), attention weight; sums to 1 over keys (to less with sinks)


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
        logits[:, :, mixed - low :].masked_fill_(unseen, UNSEEN)
        yield PatternBlock(range(start, stop), range(low, stop), logits, softmax_with_sinks(logits, layer))
        start = stop


def block_logits(query: Tensor, key: Tensor, layer: LayerAttention) -> Tensor:
    """(head, row, key) attention logits; the query heads of a KV group share its keys."""
    n_kv, n_keys, head_dim = key.shape
    grouped = (query * layer.scaling).reshape(n_kv, -1, head_dim)
    logits = torch.bmm(grouped, key.transpose(1, 2)).reshape(layer.n_heads, -1, n_keys)
    return logits if layer.softcap is None else layer.softcap * torch.tanh(logits / layer.softcap)


def softmax_with_sinks(logits: Tensor, layer: LayerAttention) -> Tensor:
    """Softmax over keys; a sink's share is left out of the result."""
    if layer.sinks is None:
        return torch.softmax(logits, dim=-1)
    sinks = torch.tensor(layer.sinks, device=logits.device)[:, None, None].expand(-1, logits.shape[1], 1)
    return torch.softmax(torch.cat([logits, sinks], dim=-1), dim=-1)[..., :-1]
