"""Records what attention layers do in a forward pass, without ever building a token x token matrix.

model, recorder -> inside `recording(...)` every attention layer hands its queries and keys (after RoPE, keys not
repeated for GQA) to the recorder, and computes its own output as before: by SDPA, or by the model's own eager
function, a block of rows at a time, where SDPA cannot (softcap, sinks). Residual streams and head outputs z come from
forward pre-hooks, on request.

Works on one sequence without padding and without a cache, for causal attention with or without a sliding window;
anything else is refused by name.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import AttentionMaskInterface

from r2a_core.errors import R2AError

NAME = "r2a_recording"
WINDOW_ROWS = 512  # query rows a call where a sliding window needs an explicit mask
EAGER_ELEMENTS = 4_000_000  # attention weights a call of the model's own eager function
EAGER_ROWS = 64  # query rows of such a call at the least: each call gives every head its keys anew


@dataclass(frozen=True)
class LayerAttention:
    """How one layer turns queries and keys into attention weights.

    weights = softmax over keys of scaling * q.k, passed through softcap * tanh(. / softcap) where softcap is set,
    joined by one logit a head in `sinks`, which takes its share of the mass and is then dropped. Row i sees keys (i -
    window, i].
    """

    layer: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    scaling: float
    softcap: float | None = None
    window: int | None = None  # tokens, the row's own included
    sinks: tuple[float, ...] | None = None  # logits, one a head


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
class CausalBand:
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
    if recorder is None or not isinstance(attention_mask, CausalBand):
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


def attend(
    module: Any, layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor, kwargs: dict[str, Any]
) -> Tensor:
    """Output of a layer's attention, (batch, token, head, head_dim of the values)."""
    if layer.softcap is not None or layer.sinks is not None:
        return eager_by_rows(module, layer, query, key, value, {**kwargs, "scaling": layer.scaling})
    if layer.window is not None:
        return windowed_sdpa(layer, query, key, value)
    return causal_sdpa(layer, query, key, value)


def causal_band(
    q_length: int, kv_length: int, mask_function: Callable[..., Tensor], attention_mask: Tensor | None = None, **kw: Any
) -> CausalBand:
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
    return CausalBand(None if window == q_length else window)


def causal_sdpa(layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """SDPA of one whole sequence.

    On CUDA only the flash kernel shares keys among grouped heads, and it takes no float32: the way that is left would
    build the matrix of tokens by tokens, so there each head gets its keys.
    """
    groups = layer.n_heads // layer.n_kv_heads
    if query.is_cuda and query.dtype == torch.float32:
        key, value, groups = repeat_kv(key, groups), repeat_kv(value, groups), 1
    z = scaled_dot_product_attention(query, key, value, is_causal=True, scale=layer.scaling, enable_gqa=groups > 1)
    return z.transpose(1, 2).contiguous()


def windowed_sdpa(layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """SDPA over blocks of rows, each with the keys its rows see."""
    assert layer.window is not None
    out = torch.empty_like(query.transpose(1, 2)[..., : value.shape[-1]])
    groups = layer.n_heads // layer.n_kv_heads
    for start in range(0, query.shape[2], WINDOW_ROWS):
        stop = min(start + WINDOW_ROWS, query.shape[2])
        low = max(0, start - layer.window + 1)
        z = scaled_dot_product_attention(
            query[:, :, start:stop],
            repeat_kv(key[:, :, low:stop], groups),
            repeat_kv(value[:, :, low:stop], groups),
            attn_mask=visible_keys(start, stop, low, layer.window, query.device),
            scale=layer.scaling,
        )
        out[:, start:stop] = z.transpose(1, 2)
    return out.contiguous()


def eager_by_rows(
    module: Any, layer: LayerAttention, query: Tensor, key: Tensor, value: Tensor, kwargs: dict[str, Any]
) -> Tensor:
    """The model's own eager attention, a block of rows at a time. Raises R2AError when its module has none."""
    eager = eager_function(module)
    n_tokens = query.shape[2]
    rows = eager_rows(layer.n_heads, n_tokens, layer.window)
    blocks = []
    for start in range(0, n_tokens, rows):
        stop = min(start + rows, n_tokens)
        low = 0 if layer.window is None else max(0, start - layer.window + 1)
        visible = visible_keys(start, stop, low, layer.window, query.device)
        mask = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, torch.finfo(query.dtype).min)
        part = (query[:, :, start:stop], key[:, :, low:stop], value[:, :, low:stop], mask[None, None])
        blocks.append(eager(module, *part, dropout=0.0, **kwargs)[0])
    return torch.cat(blocks, dim=1)


def eager_rows(n_heads: int, n_tokens: int, window: int | None) -> int:
    """Query rows of a call of the model's own eager function; n rows in a window see n + window - 1 keys."""
    elements = EAGER_ELEMENTS // n_heads
    banded = 0 if window is None else (math.isqrt(window**2 + 4 * elements) - window) // 2
    return max(EAGER_ROWS, elements // n_tokens, banded)


def eager_function(module: Any) -> Callable[..., Any]:
    """The eager attention that the model's own file defines. Raises R2AError when there is none."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise R2AError(f"{type(module).__name__} has softcap or sinks but no eager function", "use another model")
    return eager


def visible_keys(start: int, stop: int, low: int, window: int | None, device: Any) -> Tensor:
    """(row, key) bool for rows start..stop and keys low..stop: True where the row sees the key."""
    distance = torch.arange(start, stop, device=device)[:, None] - torch.arange(low, stop, device=device)
    return (distance >= 0) if window is None else (distance >= 0) & (distance < window)


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


AttentionInterface.register(NAME, recorded_attention)
AttentionMaskInterface.register(NAME, causal_band)
