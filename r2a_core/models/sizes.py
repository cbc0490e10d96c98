"""Sizes that a transformers config may leave to be derived from others."""

from typing import Any


def head_size(text: Any) -> int:
    """Numbers in one head's query, key or value, from the text part of a transformers config."""
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def n_kv_heads(text: Any) -> int:
    """Heads of keys and values in a layer, from the text part of a transformers config: all heads without GQA."""
    return getattr(text, "num_key_value_heads", None) or text.num_attention_heads
