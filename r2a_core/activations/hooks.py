"""Where a Hugging Face decoder keeps its residual stream and head outputs, and hooks on both.

model -> ModelShape (decoder layers and sizes; architectures that patching cannot reproduce are refused by name), its
decoder layers and output projections by number. Hooks are context managers: outside the block the model is as it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from r2a_core.infra.errors import R2AError
from r2a_core.models.architecture import head_size, kv_bytes, n_kv_heads

SUPPORTED_LAYER_TYPES = {"full_attention", "sliding_attention"}

Edit = Callable[[int, Tensor], Tensor]  # (layer, residual stream) -> the residual stream that goes on


@dataclass(frozen=True)
class ModelShape:
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
    kv_bytes: int  # of the keys and values of one token in one layer

    @property
    def n_layers(self) -> int:
        return len(self.layers)


def model_shape(model: Any) -> ModelShape:
    """Return layers and sizes of a model to be patched.

    Raises R2AError when it is in training mode, or has layers that a sweep cannot reproduce (chunked or linear
    attention, state spaces).
    """
    name = type(model).__name__
    if model.training:
        raise R2AError(f"{name} is in training mode: dropout would change every cell", "call model.eval() first")
    config = model.config.get_text_config()
    other = sorted(set(getattr(config, "layer_types", None) or []) - SUPPORTED_LAYER_TYPES)
    layers = decoder_layers(model)
    if other or not layers or not all(hasattr(layer, "self_attn") for layer in layers):
        found = f"layers of type {', '.join(other)}" if other else "no list of decoder layers with self_attn"
        raise R2AError(f"patching does not support {name}: it has {found}", "use a model with softmax attention layers")
    embedding = model.get_input_embeddings().weight
    return ModelShape(
        layers=layers,
        n_heads=config.num_attention_heads,
        n_kv_heads=n_kv_heads(config),
        head_dim=head_size(config),
        d_model=config.hidden_size,
        d_mlp=config.intermediate_size * (getattr(config, "num_experts_per_tok", None) or 1),
        n_vocab=config.vocab_size,
        dtype=embedding.dtype,
        device=embedding.device,
        kv_bytes=kv_bytes(model),
    )


def decoder_layers(model: Any) -> tuple[Any, ...]:
    """Return the decoder layers in order; empty when the model keeps them elsewhere."""
    return tuple(getattr(model.get_decoder(), "layers", ()))


def decoder_layer(model: Any, number: int) -> Any:
    """Return a decoder layer by number. Raises R2AError when the model has no such layer."""
    layers = decoder_layers(model)
    if not layers:
        raise R2AError(
            f"{type(model).__name__} keeps its decoder layers in no list that is known here",
            "leave capture.residual_layers and capture.z_layers empty for this model",
        )
    if not 0 <= number < len(layers):
        raise R2AError(f"layer {number} of {type(model).__name__} does not exist", f"choose from 0..{len(layers) - 1}")
    return layers[number]


def output_projection(model: Any, number: int) -> Any:
    """Return a layer's attention output projection, whose input is z. Raises R2AError when it has another name."""
    projection = getattr(getattr(decoder_layer(model, number), "self_attn", None), "o_proj", None)
    if projection is None:
        raise R2AError(f"layer {number} of {type(model).__name__} has no self_attn.o_proj", "record no z of this model")
    return projection


@contextmanager
def residual_hooks(layers: Mapping[int, nn.Module], edit: Edit) -> Iterator[None]:
    """Call edit(layer, hidden) on the residual stream entering each of these layers, by number.

    hidden is (row, token, d_model); what `edit` returns goes on, with any number of rows.
    """

    def entering(number: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                return (edit(number, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": edit(number, kwargs["hidden_states"])}

        return hook

    with removed_after(
        [layer.register_forward_pre_hook(entering(number), with_kwargs=True) for number, layer in layers.items()]
    ):
        yield


@contextmanager
def every_residual(shape: ModelShape, edit: Edit) -> Iterator[None]:
    """Call edit(layer, hidden) on the residual stream entering each layer, and on the last one's output as layer L."""

    def leaving(module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            name = type(module).__name__
            raise R2AError(f"{name} returns no plain tensor", "patching needs another model architecture")
        return edit(shape.n_layers, output)

    with (
        residual_hooks(dict(enumerate(shape.layers)), edit),
        removed_after([shape.layers[-1].register_forward_hook(leaving)]),
    ):
        yield


@contextmanager
def skipped(layers: Sequence[Any]) -> Iterator[None]:
    """Let `layers` return what they get."""
    for layer in layers:
        layer.forward = identity_forward
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def identity_forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Return the input: the forward of a layer that is left out."""
    return hidden_states


@torch.no_grad()
def logits_of(model: Any, streams: Tensor) -> Tensor:
    """Compute logits (run, row, vocabulary) from streams that leave the last layer, as the model does."""
    shape = model_shape(model)

    def put(layer: int, stream: Tensor) -> Tensor:
        return streams if layer == shape.n_layers else stream

    ids = torch.zeros(1, streams.shape[1], dtype=torch.long, device=shape.device)
    with every_residual(shape, put), skipped(shape.layers):
        return model(input_ids=ids, use_cache=False).logits


@contextmanager
def z_hooks(projections: Mapping[int, nn.Module], take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call take(layer, z) on the input of each output projection, (token, n_heads * head_dim) of the first row."""

    def hook(number: int) -> Callable[..., None]:
        return lambda module, args: take(number, args[0][0])

    with removed_after([module.register_forward_pre_hook(hook(number)) for number, module in projections.items()]):
        yield


@contextmanager
def removed_after(handles: list[Any]) -> Iterator[None]:
    """Remove hooks when the block ends."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
