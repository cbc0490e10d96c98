"""Records what attention layers do in a forward pass, without ever building a token x token matrix.

model, recorder -> inside `recording(...)` every attention layer hands its queries and keys (after RoPE, keys not
repeated for GQA) to the recorder, and computes its own output as before. Residual streams and head outputs z come from
forward pre-hooks, on request.

Works on one sequence without padding and without a cache, for causal attention with or without a sliding window;
anything else is refused by name.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import pad

from r2a_core.activations.blockwise import LayerAttention, attend
from r2a_core.infra.errors import R2AError

NAME = "r2a_recording"


class Recorder(Protocol):
    """Receives what a forward pass computes. The tensors are the model's own: copy what is to be kept."""

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor) -> None:
        """query (head, token, head_dim) and key (kv_head, token, head_dim) of one layer, after RoPE."""
        ...

    def residual(self, layer: int, stream: Tensor) -> None:
        """Residual stream entering decoder layer `layer`, (token, d_model)."""
        ...

    def head_outputs(self, layer: int, z: Tensor) -> None:
        """Input of the layer's output projection, (token, n_heads * head_dim)."""
        ...


@runtime_checkable
class WeighingRecorder(Recorder, Protocol):
    """A recorder that also wants sums over keys: attention weights times columns of its own.

    The columns join the values, so the sums of all rows come out of the layer's own attention.
    """

    columns: Tensor  # (token, column); multiples of 8 columns are quickest

    def weighed(self, layer: int, sums: Tensor) -> None:
        """sums (token, head, column): attention weights times `columns`, in the model's dtype."""
        ...


@dataclass(frozen=True)
class SlidingCausalMask:
    """What rows see: themselves and earlier tokens, the last `window` of them where set."""

    window: int | None


active: ContextVar[Recorder | None] = ContextVar("active recorder", default=None)


@contextmanager
def recording(
    model: Any, recorder: Recorder, residual_layers: Sequence[int] = (), z_layers: Sequence[int] = ()
) -> Iterator[None]:
    """Hands what `model` computes inside the block to `recorder`; afterwards the model is as it was.

    Raises R2AError for layers that the model does not have.
    """
    register()
    own = model.config._attn_implementation
    hooks = []
    token = active.set(recorder)
    try:
        for number in residual_layers:
            hook = residual_hook(recorder, number)
            hooks.append(decoder_layer(model, number).register_forward_pre_hook(hook, with_kwargs=True))
        for number in z_layers:
            hooks.append(output_projection(model, number).register_forward_pre_hook(z_hook(recorder, number)))
        model.set_attn_implementation(NAME)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        model.set_attn_implementation(own)
        active.reset(token)


def recorded_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention signature: records query and key, returns the output (batch, token, head, head_dim)."""
    recorder = active.get()
    name = type(module).__name__
    if recorder is None or not isinstance(attention_mask, SlidingCausalMask):
        raise R2AError(f"{name} runs outside a recording, or with a mask of its own", "use `recording(model, ...)`")
    if query.shape[0] != 1 or query.shape[2] != key.shape[2] or kwargs.get("position_bias") is not None:
        raise R2AError(f"{name}: recording needs one sequence, no cache and no position bias", "use another model")
    softcap, sinks = kwargs.get("softcap"), kwargs.get("s_aux")
    layer = LayerAttention(
        layer=module.layer_idx,
        n_heads=query.shape[1],
        n_kv_heads=key.shape[1],
        head_dim=query.shape[3],
        scaling=query.shape[3] ** -0.5 if scaling is None else float(scaling),
        softcap=None if softcap is None else float(softcap),
        window=attention_mask.window,
        sinks=None if sinks is None else tuple(sinks.detach().float().flatten().tolist()),
    )
    recorder.attention(layer, query[0], key[0])
    if not isinstance(recorder, WeighingRecorder):
        return attend(module, layer, query, key, value, kwargs), None
    columns, width = recorder.columns.to(value), value.shape[-1]
    value = torch.cat([value, columns.expand(1, layer.n_kv_heads, *columns.shape)], dim=-1)
    query, key = (pad(each, (0, columns.shape[1])) for each in (query, key))  # SDPA wants all of one width
    out = attend(module, layer, query, key, value, kwargs)
    recorder.weighed(layer.layer, out[0, :, :, width:])
    return out[..., :width].contiguous(), None


def sliding_causal_mask(
    q_length: int, kv_length: int, mask_function: Callable[..., Tensor], attention_mask: Tensor | None = None, **kw: Any
) -> SlidingCausalMask:
    """transformers' mask signature: finds the window in the mask function itself, by its edges.

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


def decoder_layer(model: Any, number: int) -> Any:
    """A decoder layer by number. Raises R2AError when the model has no such layer."""
    layers = getattr(model.get_decoder(), "layers", ())
    if not 0 <= number < len(layers):
        raise R2AError(f"layer {number} of {type(model).__name__} does not exist", f"choose from 0..{len(layers) - 1}")
    return layers[number]


def output_projection(model: Any, number: int) -> Any:
    """The attention output projection of a layer, whose input is z. Raises R2AError when it has another name."""
    projection = getattr(getattr(decoder_layer(model, number), "self_attn", None), "o_proj", None)
    if projection is None:
        raise R2AError(f"layer {number} of {type(model).__name__} has no self_attn.o_proj", "record no z of this model")
    return projection


def residual_hook(recorder: Recorder, number: int) -> Callable[..., None]:
    """Pre-hook of a decoder layer."""

    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        recorder.residual(number, hidden[0])

    return hook


def z_hook(recorder: Recorder, number: int) -> Callable[..., None]:
    """Pre-hook of an output projection."""

    def hook(module: Any, args: tuple[Any, ...]) -> None:
        recorder.head_outputs(number, args[0][0])

    return hook


@functools.cache
def register() -> None:
    """Makes our attention known to transformers, whose import is left to those who run a model."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, recorded_attention)
    AttentionMaskInterface.register(NAME, sliding_causal_mask)
