"""How one layer attends: what its rows see, and its head outputs z, computed for a block of rows at a time.

LayerCall, queries, keys (after RoPE, not repeated for GQA) and values, MaskSpec -> z, the input of the layer's output
projection. Attention is causal, with or without a sliding window or masked padding, by SDPA. Layers with a softcap or
sinks, which SDPA lacks, go through the model's own eager function. Masks and eager weights exist for a block of query
rows at a time: no token x token matrix is ever built.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError

MASK_ROWS = 512  # query rows per SDPA call where a window or masked padding needs an explicit mask
EAGER_ELEMENTS = 4_000_000  # attention weights per call of a model's own eager function
EAGER_ROWS = 64  # least query rows of such a call, since each call repeats the keys for every head


@dataclass(frozen=True)
class LayerAttention:
    """How one layer turns queries and keys into attention weights.

    weights = softmax over keys of scaling * q.k, passed through softcap * tanh(. / softcap) where softcap is set,
    joined by one logit per head in `sinks`, which takes its share of the mass and is then dropped. Row i sees keys
    (i - window, i].
    """

    layer: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    scaling: float
    softcap: float | None = None
    window: int | None = None  # tokens, the row's own included
    sinks: tuple[float, ...] | None = None  # logits, one per head


@dataclass(frozen=True)
class LayerCall:
    """One layer's call of the attention function."""

    layer: LayerAttention
    eager: Callable[..., Any] | None  # (query, key, value, mask) -> z and weights; None where SDPA computes the same


@dataclass(frozen=True)
class SlidingCausalMask:
    """A mask found to be causal: rows see themselves and earlier tokens, the last `window` of them where set."""

    window: int | None


def sliding_causal_mask(
    q_length: int, kv_length: int, mask_function: Callable[..., Tensor], attention_mask: Tensor | None = None, **kw: Any
) -> SlidingCausalMask:
    """Find the window in transformers' own mask function, by the edges of what it lets a row see.

    Raises R2AError for any other shape of mask (padding, packed sequences, chunks, bidirectional parts).
    """
    padded = attention_mask is not None and not bool(attention_mask.all())
    if q_length != kv_length or kw.get("q_offset", 0) != 0 or padded:
        raise R2AError("recording takes one whole sequence, without padding or cache", "pass the token ids alone")
    rows = torch.arange(q_length, device=kw.get("device", "cpu"))
    zero = torch.zeros_like(rows)

    def visible(row: Tensor, key: Tensor) -> Tensor:
        return mask_function(zero[: len(row)], zero[: len(row)], row, key).expand(len(row))

    window = max(1, int(visible(rows[-1:].expand(q_length), rows).sum()))
    edges = [visible(rows, rows), visible(rows[:window], zero[:window]), ~visible(rows[:-1], rows[1:])]
    edges += [visible(rows[window - 1 :], rows[: q_length - window + 1]), ~visible(rows[window:], rows[:-window])]
    if not all(bool(edge.all()) for edge in edges):
        raise R2AError("this model's attention mask is neither causal nor a sliding window", "use another model")
    return SlidingCausalMask(None if window == q_length else window)


@dataclass(frozen=True)
class MaskSpec:
    """Which tokens of one padded sequence see which: causal, padding left out when masked, sliding window if any.

    keep (token,), False on masked padding, or None when padding is visible; positions (token,), RoPE positions: a
    window counts in these, so that masked padding takes no room in it. A token sees itself, so that no row is empty.
    """

    positions: Tensor
    keep: Tensor | None

    def is_causal(self, window: int | None) -> bool:
        """Return whether nothing but causality limits what a token sees."""
        return self.keep is None and (window is None or window >= len(self.positions))

    def keys(self, window: int | None, start: int, stop: int) -> slice:
        """Return the keys among which are all that the tokens start..stop see."""
        return slice(0 if window is None or self.keep is not None else max(0, start - window + 1), stop)

    def rows(self, window: int | None, start: int, stop: int) -> Tensor:
        """Return (query token, key token) for the tokens start..stop and their `keys`, True where visible."""
        keys = self.keys(window, start, stop)
        if self.keep is None:
            return visible_keys(start, stop, keys.start, window, self.positions.device)
        visible = visible_keys(start, stop, 0, None, self.positions.device) & self.keep[keys]
        if window is not None:
            visible &= self.positions[start:stop, None] - self.positions[keys] < window
        return visible | visible_keys(start, stop, 0, 1, self.positions.device)


def visible_keys(start: int, stop: int, low: int, window: int | None, device: Any) -> Tensor:
    """Return (row, key) bool for rows start..stop and keys low..stop: True where the row sees the key."""
    distance = torch.arange(start, stop, device=device)[:, None] - torch.arange(low, stop, device=device)
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)


def check_inputs(call: LayerCall, query: Tensor, key: Tensor) -> None:
    """Raise R2AError at the first NaN or infinity of a layer's queries or keys: SDPA would turn them into zeros."""
    for name, values in (("queries", query), ("keys", key)):
        check_finite(values, f"{name} of layer {call.layer.layer}", ("row", "head", "token", "dimension"))


def attend(call: LayerCall, query: Tensor, key: Tensor, value: Tensor, mask: MaskSpec) -> Tensor:
    """Compute a layer's attention over whole sequences: z (row, token, head, head_dim of the values), contiguous."""
    if call.eager is not None:
        return eager_by_blocks(call, query, key, value, mask)
    if mask.is_causal(call.layer.window):
        return causal_sdpa(call.layer, query, key, value)
    return masked_sdpa(call.layer, query, key, value, mask)


def causal_sdpa(layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Compute causal SDPA without a mask.

    On CUDA only the flash kernel shares keys among the heads of a group, and it takes no float32. The math kernel
    that is left would build the token x token matrix; so there the keys are repeated for each head.
    """
    groups = layer.n_heads // layer.n_kv_heads
    if query.is_cuda and query.dtype == torch.float32:
        key, value, groups = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), 1
    z = scaled_dot_product_attention(query, key, value, is_causal=True, scale=layer.scaling, enable_gqa=groups > 1)
    return z.transpose(1, 2).contiguous()


def causal_sdpa_with_log_sums(
    call: LayerCall, query: Tensor, key: Tensor, value: Tensor, mask: MaskSpec
) -> tuple[Tensor, Tensor] | None:
    """Compute z by the kernel that SDPA chooses on a CPU, bit by bit the z of `attend`, and what it also returns.

    That is the log-sum-exp (row, head, token) over the logits that a token sees: float32, or float64 of a float64
    model. It is up to 6e-5 too small in bfloat16 and float16, for which the kernel has a faster exponential. None for
    layers and devices where SDPA runs another kernel.
    """
    plain = call.eager is None and mask.is_causal(call.layer.window)
    same_width = value.shape[-1] == query.shape[-1]
    if not plain or query.device.type != "cpu" or not same_width or query.stride(-1) != 1:
        return None
    groups = call.layer.n_heads // call.layer.n_kv_heads
    repeated = (each.repeat_interleave(groups, 1) for each in (key, value))  # contiguous, too
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    z, log_sums = kernel(query, *repeated, is_causal=True, scale=call.layer.scaling)
    return z.transpose(1, 2).contiguous(), log_sums


def masked_sdpa(layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor, mask: MaskSpec) -> Tensor:
    """Compute SDPA over blocks of query rows, each with the keys and the mask of its rows."""
    n_tokens, groups = query.shape[2], layer.n_heads // layer.n_kv_heads
    out = torch.empty_like(query.transpose(1, 2)[..., : value.shape[-1]]).contiguous()
    for start in range(0, n_tokens, MASK_ROWS):
        stop = min(start + MASK_ROWS, n_tokens)
        seen = mask.keys(layer.window, start, stop)
        z = scaled_dot_product_attention(
            query[:, :, start:stop],
            key[:, :, seen].repeat_interleave(groups, 1),
            value[:, :, seen].repeat_interleave(groups, 1),
            attn_mask=mask.rows(layer.window, start, stop),
            scale=layer.scaling,
        )
        out[:, start:stop] = z.transpose(1, 2)
    return out


def eager_by_blocks(
    call: LayerCall, query: Tensor, key: Tensor, value: Tensor, mask: MaskSpec, first: int = 0
) -> Tensor:
    """Compute z by the model's own eager function, in blocks of about EAGER_ELEMENTS attention weights.

    query (row, head, token, head_dim) holds the tokens from `first` on; key and value hold all tokens.
    """
    assert call.eager is not None
    n_rows, n_heads, n_tokens, _ = query.shape
    window, n_keys = call.layer.window, key.shape[2]
    per_head = rows_per_block(EAGER_ELEMENTS // n_heads, n_keys, window if mask.keep is None else None)
    tokens = min(n_tokens, max(EAGER_ROWS, per_head))
    rows = max(1, EAGER_ELEMENTS // (n_heads * tokens * n_keys))
    out = query.new_empty(n_rows, n_tokens, n_heads, value.shape[-1])
    for start in range(0, n_tokens, tokens):
        part = slice(start, min(start + tokens, n_tokens))
        seen = mask.keys(window, first + part.start, first + part.stop)
        unseen = ~mask.rows(window, first + part.start, first + part.stop)
        bias = torch.zeros_like(unseen, dtype=query.dtype).masked_fill_(unseen, torch.finfo(query.dtype).min)
        for first_row in range(0, n_rows, rows):
            some = slice(first_row, first_row + rows)
            block = (query[some, :, part], key[some, :, seen], value[some, :, seen], bias[None, None])
            out[some, part] = call.eager(*block)[0]
    return out


def rows_per_block(elements: int, n_tokens: int, window: int | None) -> int:
    """Return the rows of a block of at most `elements` weights per head; n rows see n + window - 1 keys, or all."""
    whole = elements // n_tokens
    banded = 0 if window is None else (math.isqrt(window**2 + 4 * elements) - window) // 2
    return max(1, whole, banded)
