"""The attention function of patched runs, registered with transformers as `r2a_patching`.

Input: query, key, value of one layer (after RoPE, keys not repeated for GQA) and the attention plan passed to
`model.forward(..., patching=plan)`. Output: the head outputs z, (batch, token, head, head_dim).

Three plans: FullRun (one sequence, keys and values kept), PackedSuffixes (many patched rows that share a prefix) and
SwappedHeads (no attention at all: z is given). Each plan builds its own mask, so transformers' masks are switched off.
Attention is SDPA, with sliding windows in the mask; layers with softcap or sinks go through the model's own eager
function, which knows them, a block of rows at a time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from r2a_core.activations.blockwise import EAGER_ELEMENTS, eager_function, eager_rows
from r2a_core.infra.checks import check_finite
from r2a_core.infra.errors import R2AError

NAME = "r2a_patching"

BEYOND_SDPA = ("softcap", "s_aux")  # arguments of layers whose scores are capped, or that have sinks

MASKED_ROWS = 1024  # query rows a call where a window or masked padding needs an explicit mask


@dataclass(frozen=True)
class LayerCall:
    """How one layer attends."""

    layer: int
    scale: float
    window: int | None  # tokens, the row's own included
    eager: Callable[..., Any] | None  # (query, key, value, mask) -> z and weights; None where SDPA does the same


class AttentionPlan(Protocol):
    """How one forward pass attends. query is (row, head, token, head_dim); returns z, (row, token, head, head_dim)."""

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor: ...


def planned_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature; hands the work to the plan in the keyword `patching`."""
    plan: AttentionPlan | None = kwargs.pop("patching", None)
    window = kwargs.get("sliding_window")
    if problem := unsupported(module, plan, window, kwargs):
        raise R2AError(f"patching does not support {type(module).__name__}: {problem}", "use another model")
    assert plan is not None
    for name, values in (("queries", query), ("keys", key)):  # SDPA would make zeros of them
        check_finite(values, f"{name} of layer {module.layer_idx}", ("row", "head", "token", "dimension"))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    beyond = any(kwargs.get(name) is not None for name in BEYOND_SDPA)
    eager = partial(eager_function(module), module, dropout=0.0, **kwargs, scaling=scale) if beyond else None
    return plan.attend(LayerCall(module.layer_idx, scale, window, eager), query, key, value), None


def unsupported(module: Any, plan: AttentionPlan | None, window: int | None, kwargs: dict[str, Any]) -> str | None:
    """Why a layer's attention cannot be planned; None when it can."""
    if plan is None:
        return "it drops keyword arguments before its attention"
    if kwargs.get("position_bias") is not None:
        return "its attention uses position_bias"
    if not getattr(module, "is_causal", True):
        return "it attends in both directions"
    types = getattr(getattr(module, "config", None), "layer_types", None)
    if types and types[module.layer_idx] == "sliding_attention" and window is None:
        return f"layer {module.layer_idx} has a sliding window, of which its attention is not told"
    return None


def no_mask(*args: Any, **kwargs: Any) -> None:
    """Mask function of `r2a_patching`: the plans know what is visible."""


AttentionInterface.register(NAME, planned_attention)

AttentionMaskInterface.register(NAME, no_mask)


@contextmanager
def planned_attention_on(model: Any) -> Iterator[None]:
    """Runs `model` with `r2a_patching` attention inside the block, and with its own again after it."""
    own = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@dataclass
class MaskSpec:
    """Which tokens of one padded sequence see which: causal, padding left out when masked, sliding window if any.

    keep (token,), False on masked padding, or None when padding is visible; positions (token,), RoPE positions: a
    window counts in these, so that masked padding takes no room in it. A token sees itself, so that no row is empty.
    """

    positions: Tensor
    keep: Tensor | None

    def plain(self, window: int | None) -> bool:
        """True when nothing but causality limits what a token sees."""
        return self.keep is None and (window is None or window >= len(self.positions))

    def rows(self, window: int | None, start: int, stop: int) -> Tensor:
        """(query token, key token) for the tokens start..stop and all keys, True where visible."""
        tokens = torch.arange(len(self.positions), device=self.positions.device)
        rows = tokens[start:stop, None]
        visible = tokens <= rows
        if self.keep is not None:
            visible &= self.keep
        if window is not None:
            visible &= self.positions[start:stop, None] - self.positions < window
        return visible | (tokens == rows)

    def keys(self, window: int | None, start: int, stop: int) -> slice:
        """Keys among which are all that the tokens start..stop see. A window counts in tokens only without padding."""
        return slice(0 if window is None or self.keep is not None else max(0, start - window + 1), stop)


def by_own_eager(
    call: LayerCall, query: Tensor, key: Tensor, value: Tensor, visibility: MaskSpec, first: int = 0
) -> Tensor:
    """z by the model's own eager function, in blocks of about EAGER_ELEMENTS weights.

    query (row, head, token, head_dim) of the tokens from `first` on; key and value of all tokens.
    """
    assert call.eager is not None
    n_rows, n_heads, n_tokens, _ = query.shape
    tokens = min(n_tokens, eager_rows(n_heads, key.shape[2], call.window if visibility.keep is None else None))
    rows = max(1, EAGER_ELEMENTS // (n_heads * tokens * key.shape[2]))
    out = query.new_empty(n_rows, n_tokens, n_heads, value.shape[-1])
    for start in range(0, n_tokens, tokens):
        part = slice(start, min(start + tokens, n_tokens))
        seen = visibility.keys(call.window, first + part.start, first + part.stop)
        unseen = ~visibility.rows(call.window, first + part.start, first + part.stop)[:, seen]
        mask = torch.zeros_like(unseen, dtype=query.dtype).masked_fill_(unseen, torch.finfo(query.dtype).min)
        for first_row in range(0, n_rows, rows):
            some = slice(first_row, first_row + rows)
            block = (query[some, :, part], key[some, :, seen], value[some, :, seen], mask[None, None])
            out[some, part] = call.eager(*block)[0]
    return out


@dataclass
class FullPlan:
    """Attention of one whole sequence (batch 1). Keeps keys and values if asked, and z of the tokens in `z_tokens`."""

    visibility: MaskSpec
    keep_cache: bool = False
    z_tokens: Tensor | None = None
    keys: dict[int, Tensor] = field(default_factory=dict)  # layer -> (kv_head, token, head_dim), after RoPE
    values: dict[int, Tensor] = field(default_factory=dict)  # layer -> (kv_head, token, head_dim)
    z: dict[int, Tensor] = field(default_factory=dict)  # layer -> (token, head, head_dim)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = self.mixed(call, query, key, value)
        if self.keep_cache:
            self.keys[call.layer], self.values[call.layer] = key[0], value[0]
        if self.z_tokens is not None:
            self.z[call.layer] = out[0, self.z_tokens]
        return out.contiguous()

    def mixed(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """z, (1, token, head, head_dim). Masks are made for a block of rows at a time, never for all."""
        if call.eager is not None:
            return by_own_eager(call, query, key, value, self.visibility)
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        if self.visibility.plain(call.window):
            z = scaled_dot_product_attention(query, key, value, is_causal=True, scale=call.scale)
            return z.transpose(1, 2)
        n_tokens = query.shape[2]
        out = query.new_empty(1, n_tokens, query.shape[1], value.shape[-1])
        for start in range(0, n_tokens, MASKED_ROWS):
            stop = min(start + MASKED_ROWS, n_tokens)
            seen = self.visibility.keys(call.window, start, stop)
            mask = self.visibility.rows(call.window, start, stop)[:, seen]
            part = (query[:, :, start:stop], key[:, :, seen], value[:, :, seen])
            z = scaled_dot_product_attention(*part, attn_mask=mask, scale=call.scale)
            out[:, start:stop] = z.transpose(1, 2)
        return out


@dataclass
class SuffixPlan:
    """Attention of many patched rows of one sequence. A row holds the suffixes [start, T) one after the other.

    A suffix sees the unpatched run's keys and values before its start, and its own from there on. The suffixes are
    handled from the last start to the first: each overwrites the key buffer from its start on, so that what lies before
    is still the unpatched run's. In the last layer only the last token of a suffix attends: z of the others is 0.
    """

    starts: list[int]  # first token of each suffix, in packed order
    keys: dict[int, Tensor]  # layer -> (kv_head, token, head_dim) of the unpatched run
    values: dict[int, Tensor]
    visibility: MaskSpec
    last_layer: int
    bias: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        n_rows, n_heads, n_slots, head_dim = query.shape
        n_tokens = self.keys[call.layer].shape[1]
        out = query.new_zeros(n_rows, n_slots, n_heads, head_dim)
        all_keys = self.keys[call.layer].repeat(n_rows, 1, 1, 1)  # (row, kv_head, token, head_dim)
        all_values = self.values[call.layer].repeat(n_rows, 1, 1, 1)
        for start, packed in sorted(zip(self.starts, self.packed_slices(n_tokens), strict=True), key=lambda s: -s[0]):
            all_keys[:, :, start:] = key[:, :, packed]
            all_values[:, :, start:] = value[:, :, packed]
            asked = packed if call.layer < self.last_layer else slice(packed.stop - 1, packed.stop)
            first = n_tokens - (asked.stop - asked.start)
            out[:, asked] = self.suffix(call, first, query[:, :, asked], all_keys, all_values)
        return out

    def suffix(self, call: LayerCall, start: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """z of one suffix, (row, token, head, head_dim); keys and values are those of the whole sequence."""
        if call.eager is not None:
            return by_own_eager(call, query, keys, values, self.visibility, start)
        n_rows, n_heads, _, head_dim = query.shape
        n_kv = keys.shape[1]
        grouped = query.reshape(n_rows, n_kv, -1, head_dim)  # GQA groups become further query tokens
        bias = self.suffix_bias(start, call.window, n_heads // n_kv, query.dtype)
        seen = self.visibility.keys(call.window, start, keys.shape[2])
        z = scaled_dot_product_attention(
            grouped, keys[:, :, seen], values[:, :, seen], attn_mask=bias, scale=call.scale
        )
        return z.reshape(n_rows, n_heads, -1, head_dim).transpose(1, 2)

    def packed_slices(self, n_tokens: int) -> list[slice]:
        """Where each suffix lies in a row."""
        slices, at = [], 0
        for start in self.starts:
            slices.append(slice(at, at + n_tokens - start))
            at += n_tokens - start
        return slices

    def suffix_bias(self, start: int, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """(group x suffix token, key token), 0 where visible, else -inf; made once for each suffix and window.

        Of the keys that the suffix sees (`Visibility.keys`).
        """
        if (start, window) not in self.bias:
            stop = len(self.visibility.positions)
            seen = self.visibility.keys(window, start, stop)
            visible = self.visibility.rows(window, start, stop)[:, seen].repeat(groups, 1)
            self.bias[start, window] = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, -torch.inf)
        return self.bias[start, window]


@dataclass
class HeadSwapPlan:
    """No attention: row h of the batch gets the z of the unpatched run with head h taken from the clean run."""

    base: dict[int, Tensor]  # layer -> (token, head, head_dim)
    clean: Tensor  # (layer, token, head, head_dim)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        n_heads = query.shape[1]
        z = self.base[call.layer].repeat(n_heads, 1, 1, 1)  # (row, token, head, head_dim)
        rows = torch.arange(n_heads, device=z.device)
        z[rows, :, rows] = self.clean[call.layer].transpose(0, 1).to(z.dtype)
        return z
