"""Where the residual streams of a Hugging Face decoder are, and whether patching can be exact on it.

Input: a loaded causal language model. Output: its decoder layers and sizes; models with layers that the sweep cannot
reproduce (chunked or linear attention, state spaces) are refused by name.

One forward pass of an aligned sequence, with what patching needs kept: residual streams, keys and values, z.

Input: a model and an AlignedPair. Output: CleanRun (what is patched in; plain tensors, to be saved) and UnpatchedRun
(what is patched into; lives only as long as the sweep of its pair).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from r2a_core.infra.errors import R2AError
from r2a_core.models.load import head_size, n_kv_heads
from r2a_core.pairs.align import AlignedPair, PaddedSequence
from r2a_core.patching.metrics import AnswerMetrics, answer_metrics
from r2a_core.patching.packed_attention import FullPlan, MaskSpec, planned_attention_on

SUPPORTED_LAYER_TYPES = {"full_attention", "sliding_attention"}


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

    @property
    def n_layers(self) -> int:
        return len(self.layers)


def model_shape(model: Any) -> ModelShape:
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
    )


@dataclass(frozen=True)
class CleanRun:
    """What the clean run holds at the chosen positions of one pair (model's dtype, on the CPU)."""

    positions: tuple[int, ...]  # token indices, ascending
    resid_pre: Tensor  # (layer, position, d_model), entering each layer
    z: Tensor | None  # (layer, position, head, head_dim), or None when not asked for
    logit_diff: float  # logit(A) - logit(B) at the last position

    def tensors(self) -> dict[str, Tensor]:
        """The run as named tensors, for a safetensors shard."""
        named = {
            "positions": torch.tensor(self.positions, dtype=torch.int32),
            "resid_pre": self.resid_pre.contiguous(),
            "logit_diff": torch.tensor([self.logit_diff], dtype=torch.float64),
        }
        return named if self.z is None else {**named, "z": self.z.contiguous()}

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor]) -> "CleanRun":
        """The inverse of `tensors`. Raises R2AError when a tensor is missing or of another length."""
        missing = sorted({"positions", "resid_pre", "logit_diff"} - named.keys())
        if missing:
            raise R2AError(
                f"a captured pair lacks the tensor {missing[0]!r}", "rebuild it with: dvc repro capture_pairs"
            )
        positions = tuple(named["positions"].tolist())
        if named["resid_pre"].shape[1] != len(positions):
            raise R2AError(
                f"a captured pair has {named['resid_pre'].shape[1]} residual streams for {len(positions)} positions",
                "rebuild it with: dvc repro capture_pairs",
            )
        return cls(positions, named["resid_pre"], named.get("z"), named["logit_diff"].item())

    def rows_of(self, positions: Sequence[int]) -> list[int]:
        """Index of each of `positions` in this run. Raises R2AError naming the first that was not captured."""
        row = {position: index for index, position in enumerate(self.positions)}
        lost = [position for position in positions if position not in row]
        if lost:
            raise R2AError(
                f"the clean run was not captured at position {lost[0]}", "add it to capture_clean's positions"
            )
        return [row[position] for position in positions]


@dataclass(frozen=True)
class UnpatchedRun:
    """The run that cells are patched into: the corrupted run, perhaps with clean residual streams restored."""

    first: int  # residual streams and z are kept from this token on
    resid_pre: Tensor  # (layer + 1, token - first, d_model); the last entry is the output of the last layer
    z: dict[int, Tensor]  # layer -> (token - first, head, head_dim); empty when not asked for
    keys: dict[int, Tensor]  # layer -> (kv_head, token, head_dim)
    values: dict[int, Tensor]
    visibility: MaskSpec
    metrics: AnswerMetrics  # of the unpatched run itself


@torch.no_grad()
def capture_clean(
    model: Any, aligned: AlignedPair, positions: Sequence[int] | None = None, with_z: bool = False
) -> CleanRun:
    """Residual streams (and z) of the clean run at `positions` (default: the positions to patch) at every layer."""
    parts = model_shape(model)
    chosen = tuple(sorted(set(aligned.indices if positions is None else positions)))
    tokens = torch.tensor(chosen, device=parts.device)
    plan = FullPlan(visibility_of(aligned.clean, parts.device), z_tokens=tokens if with_z else None)
    recorded: list[Tensor] = []

    def record(layer: int, hidden: Tensor) -> Tensor:
        if layer < parts.n_layers:
            recorded.append(hidden[0, tokens].cpu())
        return hidden

    logits = run_sequence(model, parts, aligned.clean, plan, record)
    z = torch.stack([plan.z[layer].cpu() for layer in range(parts.n_layers)]) if with_z else None
    metrics = answer_metrics(logits, aligned.answer_a, aligned.answer_b)
    return CleanRun(chosen, torch.stack(recorded), z, metrics.logit_diff.item())


@torch.no_grad()
def run_unpatched(
    model: Any, aligned: AlignedPair, first: int, with_z: bool = False, restored: dict[int, Tensor] | None = None
) -> UnpatchedRun:
    """The corrupted run, kept from token `first` on.

    restored: token -> clean residual streams (layer, d_model), put in place at every layer.
    """
    parts = model_shape(model)
    visibility = visibility_of(aligned.corrupted, parts.device)
    tail = torch.arange(first, len(aligned.corrupted.ids), device=parts.device)
    plan = FullPlan(visibility, keep_cache=True, z_tokens=tail if with_z else None)
    recorded: list[Tensor] = []

    def record(layer: int, hidden: Tensor) -> Tensor:
        if restored and layer < parts.n_layers:
            hidden = hidden.clone()
            for token, streams in restored.items():
                hidden[0, token] = streams[layer].to(hidden)
        recorded.append(hidden[0, first:])
        return hidden

    logits = run_sequence(model, parts, aligned.corrupted, plan, record)
    metrics = answer_metrics(logits, aligned.answer_a, aligned.answer_b)
    return UnpatchedRun(first, torch.stack(recorded), plan.z, plan.keys, plan.values, visibility, metrics)


def visibility_of(sequence: PaddedSequence, device: torch.device) -> MaskSpec:
    """Positions and padding of a sequence. Masked padding is not seen and takes no RoPE position."""
    if not sequence.masked or not any(sequence.pad):
        return MaskSpec(torch.arange(len(sequence.ids), device=device), None)
    keep = ~torch.tensor(sequence.pad, device=device)
    return MaskSpec((keep.long().cumsum(0) - 1).clamp(min=0), keep)


def run_sequence(
    model: Any, parts: ModelShape, sequence: PaddedSequence, plan: FullPlan, edit: Callable[[int, Tensor], Tensor]
) -> Tensor:
    """One forward of `sequence` with `edit` on every residual stream; returns the last position's logits (1, vocab)."""
    ids = torch.tensor([sequence.ids], device=parts.device)
    with planned_attention_on(model), residual_hooks(parts, edit):
        return model(
            input_ids=ids,
            position_ids=plan.visibility.positions[None],
            use_cache=False,
            logits_to_keep=1,
            patching=plan,
        ).logits[0]


@contextmanager
def residual_hooks(parts: ModelShape, edit: Callable[[int, Tensor], Tensor], first_layer: int = 0) -> Iterator[None]:
    """Calls edit(layer, hidden) on the residual stream entering each layer, and on the last layer's output as layer L.

    hidden is (row, token, d_model); what `edit` returns goes on, with any number of rows. Layers before `first_layer`
    hand on what they get.
    """

    def entering(layer: int) -> Callable[..., Any]:
        def hook(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if args:
                return (edit(layer, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": edit(layer, kwargs["hidden_states"])}

        return hook

    def leaving(module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise R2AError(
                f"{type(module).__name__} returns no plain tensor", "patching needs another model architecture"
            )
        return edit(parts.n_layers, output)

    handles = [
        layer.register_forward_pre_hook(entering(index), with_kwargs=True) for index, layer in enumerate(parts.layers)
    ]
    handles.append(parts.layers[-1].register_forward_hook(leaving))
    skipped = parts.layers[:first_layer]
    for layer in skipped:
        layer.forward = identity_forward
    try:
        yield
    finally:
        for layer in skipped:
            del layer.forward
        for handle in handles:
            handle.remove()


@contextmanager
def last_tokens_only(layer: Any, slots: Tensor) -> Iterator[None]:
    """In `layer`, queries, the attention's output projection and the MLP are computed for these slots alone."""
    inside = [getattr(layer.self_attn, "q_proj", None), getattr(layer.self_attn, "o_proj", None)]
    with ExitStack() as stack:
        for module in (*inside, getattr(layer, "mlp", None)):
            if module is not None:
                stack.enter_context(compute_only(module, slots))
        yield


@contextmanager
def compute_only(module: nn.Module, slots: Tensor) -> Iterator[None]:
    """`module` computes these slots of its input (row, slot, width) alone; its output is 0 elsewhere."""
    whole = module.forward

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        found = whole(hidden[:, slots], *args, **kwargs)
        parts = found if isinstance(found, tuple) else (found,)  # experts also return their router's scores
        out = parts[0].new_zeros(*hidden.shape[:2], parts[0].shape[-1])
        out[:, slots] = parts[0]
        return (out, *parts[1:]) if isinstance(found, tuple) else out

    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def identity_forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The forward of a layer that is left out."""
    return hidden_states
