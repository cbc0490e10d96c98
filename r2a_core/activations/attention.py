"""The one attention function registered with transformers, as `r2a`.

model, AttentionPlan -> inside `planned_attention(model, plan)` every attention layer hands its queries, keys (after
RoPE, not repeated for GQA) and values to the plan, which returns the head outputs z. `recording(model, recorder)` is
the plan that computes what the model would and shows it to a recorder (paper section 4); the plans of activation
patching (section 5) are in r2a_core.patching. How a layer attends is in layer_attention.py.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from r2a_core.activations.hooks import decoder_layer, output_projection, residual_hooks, z_hooks
from r2a_core.activations.layer_attention import (
    LayerAttention,
    LayerCall,
    MaskSpec,
    SlidingCausalMask,
    attend,
    causal_sdpa_with_log_sums,
    sliding_causal_mask,
)
from r2a_core.infra.errors import R2AError

NAME = "r2a"


class AttentionPlan(Protocol):
    """What every layer of one forward pass does instead of its own attention."""

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return z (row, token, head, head_dim) for query, key and value (row, head or KV head, token, head_dim)."""
        ...


active: ContextVar[AttentionPlan | None] = ContextVar("active attention plan", default=None)


@contextmanager
def planned_attention(model: Any, plan: AttentionPlan) -> Iterator[None]:
    """Run `model` with the attention of `plan` inside the block, and with its own again after it.

    Raises R2AError for a model that computes with its attention mask, as Doge does: that is a tensor only where it runs
    by itself.
    """
    register()
    own = model.config._attn_implementation
    token = active.set(plan)
    try:
        model.set_attn_implementation(NAME)
        yield
    except (AttributeError, TypeError) as error:
        if SlidingCausalMask.__name__ not in str(error):
            raise
        said = f"{type(model).__name__} is not supported: it computes with its attention mask"
        raise R2AError(said, "use another model") from None
    finally:
        model.set_attn_implementation(own)
        active.reset(token)


@functools.cache
def register() -> None:
    """Make attention and mask function known to transformers, whose import is left to those who run a model."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, attention_function)
    AttentionMaskInterface.register(NAME, mask_function)


def attention_function(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Hand the layer's work to the active plan."""
    plan = active.get()
    if plan is None:
        raise R2AError(f"{type(module).__name__} runs outside its attention plan", "run it where the plan was made")
    if problem := unsupported(module, plan, attention_mask, kwargs):
        raise R2AError(f"{type(module).__name__} is not supported: {problem}", "use another model")
    softcap, sinks, window = kwargs.get("softcap"), kwargs.get("s_aux"), kwargs.get("sliding_window")
    layer = LayerAttention(
        layer=module.layer_idx,
        n_heads=query.shape[1],
        n_kv_heads=key.shape[1],
        head_dim=query.shape[3],
        scaling=query.shape[3] ** -0.5 if scaling is None else float(scaling),
        softcap=None if softcap is None else float(softcap),
        window=attention_mask.window if isinstance(attention_mask, SlidingCausalMask) else window,
        sinks=None if sinks is None else tuple(sinks.detach().float().flatten().tolist()),
    )
    eager = None
    if softcap is not None or sinks is not None:
        eager = functools.partial(eager_function(module), module, dropout=0.0, scaling=layer.scaling, **kwargs)
    return plan.attend(LayerCall(layer, eager), query, key, value), None


def unsupported(module: Any, plan: AttentionPlan, attention_mask: Any, kwargs: dict[str, Any]) -> str | None:
    """Return why `plan` cannot stand in for a layer's attention; None when it can."""
    recorded = isinstance(plan, RecordingPlan)
    if not (isinstance(attention_mask, SlidingCausalMask) if recorded else attention_mask is None):
        return "it is given a mask of its own"
    if kwargs.get("position_bias") is not None:
        return "its attention uses position_bias"
    if not getattr(module, "is_causal", True):
        return "it attends in both directions"
    types = getattr(getattr(module, "config", None), "layer_types", None)
    windowed = types and types[module.layer_idx] == "sliding_attention"
    if windowed and not recorded and kwargs.get("sliding_window") is None:
        return f"layer {module.layer_idx} has a sliding window that its attention function is not given"
    return None


def eager_function(module: Any) -> Callable[..., Any]:
    """Return the eager attention that the model's own file defines. Raises R2AError when there is none."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if eager is None:
        raise R2AError(f"{type(module).__name__} has softcap or sinks but no eager function", "use another model")
    return eager


def mask_function(*args: Any, **kwargs: Any) -> SlidingCausalMask | None:
    """Return None unless a pass is recorded, since the other plans make their own masks.

    transformers' mask signature.
    """
    return sliding_causal_mask(*args, **kwargs) if isinstance(active.get(), RecordingPlan) else None


class Recorder:
    """Receives what a forward pass computes; a subclass overrides what it wants.

    The tensors are the model's own: copy what is to be kept.
    """

    columns: Tensor | None = (
        None  # (token, column), for `weighted_sums` where there are no log_sums; by eights quickest
    )

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor, log_sums: Tensor | None = None) -> None:
        """Take query (head, token, head_dim) and key (kv_head, token, head_dim) of one layer, after RoPE.

        log_sums: log-sum-exp (head, token) of the logits that a token sees, where there are `columns` and the layer's
        attention yields it; else None.
        """

    def weighted_sums(self, layer: int, sums: Tensor) -> None:
        """Take sums over keys (token, head, column): attention weights times `columns`, in the model's dtype.

        Called after `attention` of a layer without log_sums. The columns join the values, so that the sums of all rows
        come out of the layer's own attention.
        """

    def residual(self, layer: int, stream: Tensor) -> None:
        """Take the residual stream entering decoder layer `layer`, (token, d_model)."""

    def head_outputs(self, layer: int, z: Tensor) -> None:
        """Take the input of the layer's output projection, (token, n_heads * head_dim)."""


@contextmanager
def recording(
    model: Any, recorder: Recorder, residual_layers: Sequence[int] = (), z_layers: Sequence[int] = ()
) -> Iterator[None]:
    """Show what `model` computes inside the block to `recorder`; afterwards the model is as it was.

    Works on one sequence without padding and without a cache. Raises R2AError for layers that the model does not have.
    """

    def residual(layer: int, hidden: Tensor) -> Tensor:
        recorder.residual(layer, hidden[0])
        return hidden

    layers = {number: decoder_layer(model, number) for number in residual_layers}
    projections = {number: output_projection(model, number) for number in z_layers}
    with (
        residual_hooks(layers, residual),
        z_hooks(projections, recorder.head_outputs),
        planned_attention(model, RecordingPlan(recorder)),
    ):
        yield


@dataclass(frozen=True)
class RecordingPlan:
    """The model's own attention over one whole sequence, shown to a recorder."""

    recorder: Recorder

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
            raise R2AError("recording takes one sequence and no cache", "pass the token ids of one trace alone")
        mask = MaskSpec(torch.arange(query.shape[2], device=query.device), None)
        if self.recorder.columns is not None:
            found = causal_sdpa_with_log_sums(call, query, key, value, mask)
            if found is not None:
                z, log_sums = found
                self.recorder.attention(call.layer, query[0], key[0], log_sums[0])
                return z
        self.recorder.attention(call.layer, query[0], key[0])
        if self.recorder.columns is None:
            return attend(call, query, key, value, mask)
        columns, width = self.recorder.columns.to(value), value.shape[-1]
        value = torch.cat([value, columns.expand(1, value.shape[1], *columns.shape)], dim=-1)
        query, key = (pad(each, (0, columns.shape[1])) for each in (query, key))  # SDPA wants all of one width
        out = attend(call, query, key, value, mask)
        self.recorder.weighted_sums(call.layer.layer, out[0, :, :, width:])
        return out[..., :width].contiguous()
