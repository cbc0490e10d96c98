"""The attention function of patched runs, registered with transformers as `r2a_patching`.

Input: query, key, value of one layer (after RoPE, keys not repeated for GQA) and the attention plan passed to
`model.forward(..., patching=plan)`. Output: the head outputs z, (batch, token, head, head_dim).

Three plans: FullRun (one sequence, keys and values kept), PackedSuffixes (many patched rows that share a prefix) and
SwappedHeads (no attention at all: z is given). Each plan builds its own mask, so transformers' masks are switched off.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from r2a_core.errors import R2AError

NAME = "r2a_patching"
UNSUPPORTED = (
    "softcap",
    "s_aux",
    "position_bias",
)  # arguments by which models ask for more than plain softmax attention


class AttentionPlan(Protocol):
    """How one forward pass attends. query is (row, head, token, head_dim); returns z, (row, token, head, head_dim)."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor: ...


def planned_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature; hands the work to the plan in the keyword `patching`."""
    plan: AttentionPlan | None = kwargs.get("patching")
    asked = [name for name in UNSUPPORTED if kwargs.get(name) is not None]
    if plan is None or asked:
        problem = (
            f"its attention uses {', '.join(asked)}" if asked else "it drops keyword arguments before its attention"
        )
        raise R2AError(
            f"patching does not support {type(module).__name__}: {problem}", "use a model with plain attention"
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return plan.attend(module.layer_idx, query, key, value, scale, kwargs.get("sliding_window")), None


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
class Visibility:
    """Which tokens of one padded sequence see which: causal, padding left out when masked, sliding window if any.

    keep (token,), False on masked padding, or None when padding is visible; positions (token,), RoPE positions: a
    window counts in these, so that masked padding takes no room in it. A token sees itself, so that no row is empty.
    """

    positions: Tensor
    keep: Tensor | None
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    def plain(self, window: int | None) -> bool:
        """True when nothing but causality limits what a token sees."""
        return self.keep is None and (window is None or window >= len(self.positions))

    def mask(self, window: int | None) -> Tensor:
        """(query token, key token), True where visible; made once for each window."""
        if window not in self.masks:
            n = len(self.positions)
            visible = torch.ones(n, n, dtype=torch.bool, device=self.positions.device).tril()
            if self.keep is not None:
                visible &= self.keep
            if window is not None:
                visible &= self.positions[:, None] - self.positions < window
            self.masks[window] = visible | torch.eye(n, dtype=torch.bool, device=visible.device)
        return self.masks[window]


@dataclass
class FullRun:
    """Attention of one whole sequence (batch 1). Keeps keys and values if asked, and z of the tokens in `z_tokens`."""

    visibility: Visibility
    keep_cache: bool = False
    z_tokens: Tensor | None = None
    keys: dict[int, Tensor] = field(default_factory=dict)  # layer -> (kv_head, token, head_dim), after RoPE
    values: dict[int, Tensor] = field(default_factory=dict)  # layer -> (kv_head, token, head_dim)
    z: dict[int, Tensor] = field(default_factory=dict)  # layer -> (token, head, head_dim)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        plain = self.visibility.plain(window)
        groups = query.shape[1] // key.shape[1]
        out = scaled_dot_product_attention(
            query,
            key.repeat_interleave(groups, 1),
            value.repeat_interleave(groups, 1),
            attn_mask=None if plain else self.visibility.mask(window),
            is_causal=plain,
            scale=scale,
        ).transpose(1, 2)
        if self.keep_cache:
            self.keys[layer], self.values[layer] = key[0], value[0]
        if self.z_tokens is not None:
            self.z[layer] = out[0, self.z_tokens]
        return out.contiguous()


@dataclass
class PackedSuffixes:
    """Attention of many patched rows of one sequence. A row holds the suffixes [start, T) one after the other.

    A suffix sees the unpatched run's keys and values before its start, and its own from there on. The suffixes are
    handled from the last start to the first: each overwrites the key buffer from its start on, so that what lies before
    is still the unpatched run's.
    """

    starts: list[int]  # first token of each suffix, in packed order
    keys: dict[int, Tensor]  # layer -> (kv_head, token, head_dim) of the unpatched run
    values: dict[int, Tensor]
    visibility: Visibility
    bias: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        n_rows, n_heads, _, head_dim = query.shape
        n_kv, n_tokens = self.keys[layer].shape[:2]
        out = query.new_empty(n_rows, query.shape[2], n_heads, head_dim)
        all_keys = self.keys[layer].repeat(n_rows, 1, 1, 1)  # (row, kv_head, token, head_dim)
        all_values = self.values[layer].repeat(n_rows, 1, 1, 1)
        for start, packed in sorted(zip(self.starts, self.packed_slices(n_tokens), strict=True), key=lambda s: -s[0]):
            all_keys[:, :, start:] = key[:, :, packed]
            all_values[:, :, start:] = value[:, :, packed]
            grouped = query[:, :, packed].reshape(n_rows, n_kv, -1, head_dim)  # GQA groups become further query tokens
            bias = self.suffix_bias(start, window, n_heads // n_kv, query.dtype)
            z = scaled_dot_product_attention(grouped, all_keys, all_values, attn_mask=bias, scale=scale)
            out[:, packed] = z.reshape(n_rows, n_heads, -1, head_dim).transpose(1, 2)
        return out

    def packed_slices(self, n_tokens: int) -> list[slice]:
        """Where each suffix lies in a row."""
        slices, at = [], 0
        for start in self.starts:
            slices.append(slice(at, at + n_tokens - start))
            at += n_tokens - start
        return slices

    def suffix_bias(self, start: int, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """(group x suffix token, key token), 0 where visible, else -inf; made once for each suffix and window."""
        if (start, window) not in self.bias:
            visible = self.visibility.mask(window)[start:].repeat(groups, 1)
            self.bias[start, window] = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, -torch.inf)
        return self.bias[start, window]


@dataclass
class SwappedHeads:
    """No attention: row h of the batch gets the z of the unpatched run with head h taken from the clean run."""

    base: dict[int, Tensor]  # layer -> (token, head, head_dim)
    clean: Tensor  # (layer, token, head, head_dim)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None) -> Tensor:
        n_heads = query.shape[1]
        z = self.base[layer].repeat(n_heads, 1, 1, 1)  # (row, token, head, head_dim)
        rows = torch.arange(n_heads, device=z.device)
        z[rows, :, rows] = self.clean[layer].transpose(0, 1).to(z.dtype)
        return z
