"""Queries and keys of a head with known targets."""

import torch

from r2a_core.activations.attention import LayerAttention


def pointing(n_tokens: int, targets: dict[int, int], n_heads: int = 1):
    """query, key and layer of heads whose row i looks at token targets[i] alone, and at itself elsewhere."""
    keys = 60 * torch.eye(n_tokens)[None]
    query = torch.eye(n_tokens)[[targets.get(row, row) for row in range(n_tokens)]][None].repeat(n_heads, 1, 1)
    return LayerAttention(0, n_heads, 1, n_tokens, 1.0), query, keys
