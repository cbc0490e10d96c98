"""The attention of one layer over one whole sequence, as output alone: no matrix of tokens x tokens is ever built.

queries, keys and values of a layer -> its output, by SDPA, or by the model's own eager function, a block of rows at a
time, where SDPA cannot (softcap, sinks).
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from r2a_core.infra.errors import R2AError

WINDOW_ROWS = 512  # query rows a call where a sliding window needs an explicit mask

EAGER_ELEMENTS = 4_000_000  # attention weights a call of the model's own eager function

EAGER_ROWS = 64  # query rows of such a call at the least: each call gives every head its keys anew


@dataclass(frozen=True)
class LayerAttention:
    """How one layer turns queries and keys into attention weights.

    weights = softmax over keys of scaling * q.k, passed through softcap * tanh(. / softcap) where softcap is set,
    joined by one logit a head in `sinks`, which takes its share of the mass and is then dropped. Row i sees keys (i -
    window, i].
    """

    layer: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    scaling: float
    softcap: float | None = None
    window: int | None = None  # tokens, the row's own included
    sinks: tuple[float, ...] | None = None  # logits, one a head


def attend(
    module: Any, layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor, kwargs: dict[str, Any]
) -> Tensor:
    """Output of a layer's attention, (batch, token, head, head_dim of the values)."""
    if layer.softcap is not None or layer.sinks is not None:
        return eager_by_rows(module, layer, query, key, value, {**kwargs, "scaling": layer.scaling})
    if layer.window is not None:
        return windowed_sdpa(layer, query, key, value)
    return causal_sdpa(layer, query, key, value)


def causal_sdpa(layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """SDPA of one whole sequence.

    On CUDA only the flash kernel shares keys among grouped heads, and it takes no float32: the way that is left would
    build the matrix of tokens by tokens, so there each head gets its keys.
    """
    groups = layer.n_heads // layer.n_kv_heads
    if query.is_cuda and query.dtype == torch.float32:
        key, value, groups = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), 1
    z = scaled_dot_product_attention(query, key, value, is_causal=True, scale=layer.scaling, enable_gqa=groups > 1)
    return z.transpose(1, 2).contiguous()


def windowed_sdpa(layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """SDPA over blocks of rows, each with the keys its rows see."""
    assert layer.window is not None
    out = torch.empty_like(query.transpose(1, 2)[..., : value.shape[-1]])
    groups = layer.n_heads // layer.n_kv_heads
    for start in range(0, query.shape[2], WINDOW_ROWS):
        stop = min(start + WINDOW_ROWS, query.shape[2])
        low = max(0, start - layer.window + 1)
        z = scaled_dot_product_attention(
            query[:, :, start:stop],
            key[:, :, low:stop].repeat_interleave(groups, 1),
            value[:, :, low:stop].repeat_interleave(groups, 1),
            attn_mask=visible_keys(start, stop, low, layer.window, query.device),
            scale=layer.scaling,
        )
        out[:, start:stop] = z.transpose(1, 2)
    return out.contiguous()


def eager_by_rows(
    module: Any, layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor, kwargs: dict[str, Any]
) -> Tensor:
    """The model's own eager attention, a block of rows at a time. Raises R2AError when its module has none."""
    eager = eager_function(module)
    n_tokens = query.shape[2]
    rows = eager_rows(layer.n_heads, n_tokens, layer.window)
    blocks = []
    for start in range(0, n_tokens, rows):
        stop = min(start + rows, n_tokens)
        low = 0 if layer.window is None else max(0, start - layer.window + 1)
        visible = visible_keys(start, stop, low, layer.window, query.device)
        mask = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, torch.finfo(query.dtype).min)
        part = (query[:, :, start:stop], key[:, :, low:stop], value[:, :, low:stop], mask[None, None])
        blocks.append(eager(module, *part, dropout=0.0, **kwargs)[0])
    return torch.cat(blocks, dim=1)


def eager_rows(n_heads: int, n_tokens: int, window: int | None) -> int:
    """Query rows of a call of the model's own eager function."""
    return max(EAGER_ROWS, rows_per_block(EAGER_ELEMENTS // n_heads, n_tokens, window))


def rows_per_block(elements: int, n_tokens: int, window: int | None) -> int:
    """Rows of a block of at most `elements` weights a head; n rows see n + window - 1 keys, and never more than all."""
    whole = elements // n_tokens
    banded = 0 if window is None else (math.isqrt(window**2 + 4 * elements) - window) // 2
    return max(1, whole, banded)


def eager_function(module: Any) -> Callable[..., Any]:
    """The eager attention that the model's own file defines. Raises R2AError when there is none."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise R2AError(f"{type(module).__name__} has softcap or sinks but no eager function", "use another model")
    return eager


def visible_keys(start: int, stop: int, low: int, window: int | None, device: Any) -> Tensor:
    """(row, key) bool for rows start..stop and keys low..stop: True where the row sees the key."""
    distance = torch.arange(start, stop, device=device)[:, None] - torch.arange(low, stop, device=device)
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)
