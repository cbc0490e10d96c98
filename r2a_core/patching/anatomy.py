"""Where the residual streams of a Hugging Face decoder are, and whether patching can be exact on it.

Input: a loaded causal language model. Output: its decoder layers and sizes; models with layers that the sweep cannot
reproduce (chunked or linear attention, state spaces) are refused by name.
"""

from dataclasses import dataclass
from typing import Any

import torch

from r2a_core.errors import R2AError
from r2a_core.models.sizes import head_size, n_kv_heads

SUPPORTED_LAYER_TYPES = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class Anatomy:
    """Decoder layers in order and the sizes of one model."""

    layers: tuple[Any, ...]  # nn.Module
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_model: int
    d_mlp: int  # of the experts of one token together
    n_vocab: int
    dtype: torch.dtype
    device: torch.device

    @property
    def n_layers(self) -> int:
        return len(self.layers)


def anatomy(model: Any) -> Anatomy:
    """Decoder layers and sizes of `model`. Raises R2AError when it is in training mode or of an unsupported kind."""
    name = type(model).__name__
    if model.training:
        raise R2AError(f"{name} is in training mode: dropout would change every cell", "call model.eval() first")
    config = model.config.get_text_config()
    unsupported = sorted(set(getattr(config, "layer_types", None) or []) - SUPPORTED_LAYER_TYPES)
    layers = tuple[Any, ...](getattr(model.get_decoder(), "layers", ()))
    if unsupported or not layers or not all(hasattr(layer, "self_attn") for layer in layers):
        found = (
            f"layers of type {', '.join(unsupported)}" if unsupported else "no list of decoder layers with self_attn"
        )
        raise R2AError(f"patching does not support {name}: it has {found}", "use a model with softmax attention layers")
    embedding = model.get_input_embeddings().weight
    return Anatomy(
        layers=layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=n_kv_heads(config),
        head_dim=head_size(config),
        d_model=config.hidden_size,
        d_mlp=config.intermediate_size * (getattr(config, "num_experts_per_tok", None) or 1),
        n_vocab=config.vocab_size,
        dtype=embedding.dtype,
        device=embedding.device,
    )
