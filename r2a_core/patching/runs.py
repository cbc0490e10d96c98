"""The clean and the corrupted run of a pair, each by one forward pass (paper section 5).

model, AlignedPair -> CleanRun, what is patched in: residual streams and head outputs z at the positions to patch, as
plain tensors that can be saved; and UnpatchedRun, what is patched into: residual streams, keys and values of the
corrupted run, on the device, alive only while its pair is patched. Patched runs are in `packed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.hooks import Edit, ModelShape, every_residual, model_shape
from r2a_core.activations.layer_attention import LayerCall, MaskSpec, attend, check_inputs
from r2a_core.infra.errors import R2AError
from r2a_core.pairs.align import AlignedPair, PaddedSequence
from r2a_core.patching.metrics import AnswerMetrics, answer_metrics


@dataclass(frozen=True)
class CleanRun:
    """What the clean run holds at the chosen positions of one pair (model's dtype, on the CPU)."""

    positions: tuple[int, ...]  # token indices, ascending
    resid_pre: Tensor  # (layer, position, d_model), entering each layer
    z: Tensor | None  # (layer, position, head, head_dim), or None when not asked for
    logit_diff: float  # logit(A) - logit(B) at the last position

    def tensors(self) -> dict[str, Tensor]:
        """Return the run as named tensors, for a safetensors shard."""
        named = {
            "positions": torch.tensor(self.positions, dtype=torch.int32),
            "resid_pre": self.resid_pre.contiguous(),
            "logit_diff": torch.tensor([self.logit_diff], dtype=torch.float64),
        }
        return named if self.z is None else {**named, "z": self.z.contiguous()}

    @classmethod
    def from_tensors(cls, named: dict[str, Tensor]) -> "CleanRun":
        """Build the run, the inverse of `tensors`. Raises R2AError when a tensor is missing or of another length."""
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
        """Return the index of each position in this run. Raises R2AError naming the first that was not captured."""
        row = {position: index for index, position in enumerate(self.positions)}
        lost = [position for position in positions if position not in row]
        if lost:
            raise R2AError(
                f"the clean run was not captured at position {lost[0]}",
                "capture the pair again: its positions have changed",
            )
        return [row[position] for position in positions]


@dataclass(frozen=True)
class UnpatchedRun:
    """The run that cells are patched into: the corrupted run, perhaps with clean residual streams restored."""

    first: int  # the first token to patch; residual streams and z are kept from it on
    resid_pre: Tensor  # (layer + 1, token - first, d_model); the last entry is the output of the last layer
    z: dict[int, Tensor]  # layer -> (token - first, head, head_dim); empty when not asked for
    keys: dict[int, Tensor]  # layer -> (kv_head, token, head_dim), after RoPE
    values: dict[int, Tensor]  # layer -> (kv_head, token, head_dim)
    mask: MaskSpec
    metrics: AnswerMetrics  # of the unpatched run itself
    restored: dict[int, Tensor]  # token -> clean residual streams (layer, d_model), in place at every layer


@dataclass
class FullPlan:
    """Attention of one whole sequence (batch 1). Keeps keys and values if asked, and z of the tokens in `z_tokens`."""

    mask: MaskSpec
    keep_cache: bool = False
    z_tokens: Tensor | None = None
    keys: dict[int, Tensor] = field(default_factory=dict)  # layer -> (kv_head, token, head_dim), after RoPE
    values: dict[int, Tensor] = field(default_factory=dict)  # layer -> (kv_head, token, head_dim)
    z: dict[int, Tensor] = field(default_factory=dict)  # layer -> (token, head, head_dim)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        check_inputs(call, query, key)
        out = attend(call, query, key, value, self.mask)
        layer = call.layer.layer
        if self.keep_cache:
            self.keys[layer], self.values[layer] = key[0], value[0]
        if self.z_tokens is not None:
            self.z[layer] = out[0, self.z_tokens]
        return out


@torch.no_grad()
def capture_clean(model: Any, aligned: AlignedPair, with_z: bool = False) -> CleanRun:
    """Run the clean side; keep residual streams (and z) of the positions to patch at every layer."""
    shape = model_shape(model)
    tokens = torch.tensor(aligned.indices, device=shape.device)
    plan = FullPlan(mask_spec(aligned.clean, shape.device), z_tokens=tokens if with_z else None)
    recorded: list[Tensor] = []

    def record(layer: int, hidden: Tensor) -> Tensor:
        if layer < shape.n_layers:
            recorded.append(hidden[0, tokens].cpu())
        return hidden

    logits = run_sequence(model, shape, aligned.clean, plan, record)
    z = torch.stack([plan.z[layer].cpu() for layer in range(shape.n_layers)]) if with_z else None
    metrics = answer_metrics(logits, aligned.answer_a, aligned.answer_b)
    return CleanRun(aligned.indices, torch.stack(recorded), z, metrics.logit_diff.item())


@torch.no_grad()
def run_unpatched(
    model: Any, aligned: AlignedPair, with_z: bool = False, restored: dict[int, Tensor] | None = None
) -> UnpatchedRun:
    """Run the corrupted side; keep what patched runs share with it.

    restored: token -> clean residual streams (layer, d_model), put in place at every layer.
    """
    shape, first, restored = model_shape(model), min(aligned.indices), restored or {}
    tail = torch.arange(first, len(aligned.corrupted.ids), device=shape.device)
    plan = FullPlan(mask_spec(aligned.corrupted, shape.device), keep_cache=True, z_tokens=tail if with_z else None)
    recorded: list[Tensor] = []

    def record(layer: int, hidden: Tensor) -> Tensor:
        if restored and layer < shape.n_layers:
            hidden = hidden.clone()
            for token, streams in restored.items():
                hidden[0, token] = streams[layer].to(hidden)
        recorded.append(hidden[0, first:])
        return hidden

    logits = run_sequence(model, shape, aligned.corrupted, plan, record)
    metrics = answer_metrics(logits, aligned.answer_a, aligned.answer_b)
    return UnpatchedRun(first, torch.stack(recorded), plan.z, plan.keys, plan.values, plan.mask, metrics, restored)


@torch.no_grad()
def corrupted_logit_diff(model: Any, aligned: AlignedPair) -> float:
    """Run the corrupted side for its logit(A) - logit(B) at the last position alone."""
    shape = model_shape(model)
    plan = FullPlan(mask_spec(aligned.corrupted, shape.device))
    logits = run_sequence(model, shape, aligned.corrupted, plan, lambda layer, hidden: hidden)
    return answer_metrics(logits, aligned.answer_a, aligned.answer_b).logit_diff.item()


def mask_spec(sequence: PaddedSequence, device: torch.device) -> MaskSpec:
    """Return positions and padding of a sequence. Masked padding is not seen and takes no RoPE position."""
    if not sequence.masked or not any(sequence.pad):
        return MaskSpec(torch.arange(len(sequence.ids), device=device), None)
    keep = ~torch.tensor(sequence.pad, device=device)
    return MaskSpec((keep.long().cumsum(0) - 1).clamp(min=0), keep)


def run_sequence(model: Any, shape: ModelShape, sequence: PaddedSequence, plan: FullPlan, edit: Edit) -> Tensor:
    """Run `sequence` with `edit` on every residual stream; return the last position's logits (1, vocab)."""
    ids = torch.tensor([sequence.ids], device=shape.device)
    with planned_attention(model, plan), every_residual(shape, edit):
        return model(input_ids=ids, position_ids=plan.mask.positions[None], use_cache=False, logits_to_keep=1).logits[0]
