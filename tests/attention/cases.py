"""A trace of 33 tokens, what eager attention makes of a text, and heads with known targets."""

from typing import Any

import torch

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.trace import TraceSegments

SEGMENTS = TraceSegments(think_open=6, think_close=22, n_tokens=33)
IDS = torch.randint(1, 64, (33,), generator=torch.Generator().manual_seed(1)).tolist()
REASONING = ["\n", *"abc", ".", " Wait", " d", "e", ".\n", *"fgh", ".", " k", "\n"]
THOUGHT = ["<s>", *"qqqqq", "<think>", *REASONING, "</think>"]


def eager_patterns(model: Any, ids: list[int]) -> torch.Tensor:
    """(layer, head, row, key), by the model's own eager attention."""
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False)
    return torch.stack(out.attentions)[:, 0]


def pointing(n_tokens: int, targets: dict[int, int], n_heads: int = 1):
    """query, key and layer of heads whose row i looks at token targets[i] alone, and at itself elsewhere."""
    keys = 60 * torch.eye(n_tokens)[None]
    query = torch.eye(n_tokens)[[targets.get(row, row) for row in range(n_tokens)]][None].repeat(n_heads, 1, 1)
    return LayerAttention(0, n_heads, 1, n_tokens, 1.0), query, keys


def masses(means: torch.Tensor, ranges: dict[str, range]) -> dict[str, torch.Tensor]:
    """Mass of each token range, (head,), from mean weights (head, token)."""
    return {name: means[:, tokens.start : tokens.stop].sum(dim=1) for name, tokens in ranges.items()}
