"""Runs continuations of one sequence whose keys and values are known: only the tokens behind the shared ones.

model, PackedPlan, token ids -> logits of chosen rows. Sequences lie one behind the other in one row of a forward pass,
each with its own positions and attention, so that no padding is computed. Exact; only rounding differs from one full
forward pass for each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.layer_attention import LayerCall, MaskSpec, attend, check_inputs
from r2a_core.activations.suffix import SuffixAttention

Cache = dict[int, tuple[Tensor, Tensor]]  # layer -> keys after RoPE and values, (1, kv_head, token, head_dim)


@dataclass
class PackedPlan:
    """Attention of several sequences that lie one behind the other, each the continuation of its own cache."""

    shared: Cache  # of the unchanged trace
    common: list[int]  # tokens that each sequence takes from there
    lengths: list[int]  # tokens of each in this pass
    suffix: SuffixAttention  # for positions of any of them
    grown: list[Cache]  # what each sequence has computed itself

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        check_inputs(call, query, key)
        layer, found = call.layer.layer, []
        parts = zip(*(each.split(self.lengths, 2) for each in (query, key, value)), strict=True)
        for common, grown, (own, *new) in zip(self.common, self.grown, parts, strict=True):
            before = grown.get(layer)
            grown[layer] = tuple(new) if before is None else tuple(map(joined, before, new))  # type: ignore[assignment]
            keys, values = grown[layer]
            if common:
                shared = (each[:, :, :common] for each in self.shared[layer])
                keys, values = map(joined, shared, grown[layer])
            found.append(self.continued(call, own, keys, values))
        return torch.cat(found, 1)

    def continued(self, call: LayerCall, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of the last tokens of one sequence; no matrix of the tokens of a long trace is ever built."""
        first = keys.shape[2] - query.shape[2]
        if not first:
            return attend(call, query, keys, values, self.suffix.mask)
        return self.suffix.by_blocks(call, first, query, keys, values)


def suffix_attention(model: Any, n_tokens: int) -> SuffixAttention:
    """Attention for sequences of at most so many tokens."""
    return SuffixAttention(MaskSpec(torch.arange(n_tokens, device=model.device), None))


def joined(before: Tensor, after: Tensor) -> Tensor:
    """Append tokens to keys or values."""
    return torch.cat([before, after], 2)


def packed_pass(
    model: Any, plan: PackedPlan, ids: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]
) -> Tensor:
    """Run sequences of ids, each from position `starts` on: logits (row, vocabulary) of these rows of the pack."""
    places = [start + offset for each, start in zip(ids, starts, strict=True) for offset in range(len(each))]
    device = model.device
    with planned_attention(model, plan):
        return model(
            input_ids=torch.tensor([[token for each in ids for token in each]], device=device),
            position_ids=torch.tensor([places], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(rows, device=device),
        ).logits[0]
