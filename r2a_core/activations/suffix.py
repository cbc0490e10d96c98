"""Attention of the last tokens of sequences, whose keys and values before them are known.

queries of some tokens, keys and values of all, a mask -> z. Patched runs, knock-outs, changed and hidden reasoning use
it: each runs only the rows behind what a run shares with an unchanged one.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from r2a_core.activations.layer_attention import MASK_ROWS, LayerCall, MaskSpec, eager_by_blocks


@dataclass
class SuffixAttention:
    """A layer's attention for the last tokens of sequences, which see keys of the whole; masks of a pass are made once.

    mask: of one sequence, which may be longer than the keys at hand.
    """

    mask: MaskSpec
    biases: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict)

    def attend(self, call: LayerCall, first: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return z (row, token, head, head_dim) of the tokens from `first` on; keys and values hold all tokens."""
        if call.eager is not None:
            return eager_by_blocks(call, query, keys, values, self.mask, first)
        layer = call.layer
        n_rows, n_heads, n_tokens, _ = query.shape
        n_kv_heads = keys.shape[1]  # the layer's, or some of them with their heads
        grouped = query.reshape(n_rows, n_kv_heads, -1, layer.head_dim)  # GQA groups become further query tokens
        bias = self.bias(first, keys.shape[2], layer.window, n_heads // n_kv_heads, query.dtype)
        seen = self.mask.keys(layer.window, first, keys.shape[2])
        z = scaled_dot_product_attention(
            grouped, keys[:, :, seen], values[:, :, seen], attn_mask=bias, scale=layer.scaling
        )
        return z.reshape(n_rows, n_heads, n_tokens, -1).transpose(1, 2)

    def by_blocks(self, call: LayerCall, first: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Do as `attend`, in blocks of MASK_ROWS tokens whose masks are not kept where there are more."""
        n_new = query.shape[2]
        if n_new <= MASK_ROWS:
            return self.attend(call, first, query, keys, values)
        blocks = [slice(start, min(start + MASK_ROWS, n_new)) for start in range(0, n_new, MASK_ROWS)]
        found = []
        for part in blocks:
            seen, once = (slice(None), slice(None), slice(first + part.stop)), SuffixAttention(self.mask)
            found.append(once.attend(call, first + part.start, query[:, :, part], keys[seen], values[seen]))
        return torch.cat(found, 1)

    def bias(self, first: int, stop: int, window: int | None, groups: int, dtype: torch.dtype) -> Tensor:
        """Return (group x token, key token) of the tokens first..stop: 0 where visible, else -inf."""
        if (first, stop, window) not in self.biases:
            visible = self.mask.rows(window, first, stop).repeat(groups, 1)
            bias = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, -torch.inf)
            self.biases[first, stop, window] = bias
        return self.biases[first, stop, window]
