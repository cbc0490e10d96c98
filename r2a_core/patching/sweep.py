"""Activation patching of one pair: every cell, exactly (paper section 5).

Context. A pair is two runs of one model that differ in a fact and hence in the answer: the *clean* run ends in answer
A, the *corrupted* run in answer B, token by token aligned. Patching asks where the model keeps what decides between
them: repeat the corrupted run, replace one activation by the clean run's at the same place, and see how far the answer
moves. Causal tracing (Meng et al. 2022, ROME) is the same idea with noise as corruption.

    clean      ... swan  is 5 ... owl is 6 </think> ... \\boxed{   -> A
    corrupted  ... swan  is 6 ... owl is 5 </think> ... \\boxed{   -> B
    patched    ... swan  is 6 ... owl is 5 </think> ... \\boxed{   -> A or B, with one activation of the clean run

The measure is the logit difference LD = logit(A) - logit(B) at the last position, normalised (NLD) so that 0 is the
corrupted run and 1 the clean one. A cell is one choice of what is replaced:

    resid_pre   residual stream entering a layer, at one position: all that the layers below have written there
    z           output of one attention head before the output projection, at one position: what that head moves there

resid_pre cells are high at the flipping token in early layers and at the last position in late ones; where the curves
cross, the answer has moved. z cells name the heads that move it.

Input: model, AlignedPair, CleanRun, UnpatchedRun. Output: a Sweep per component. resid_pre starts a packed row at every
layer. A head's z enters its own token only: the stream after its layer comes from a pass over the patched tokens alone,
with no attention to compute, and the packed rows, one per head, start one layer up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.hooks import every_residual, model_shape
from r2a_core.activations.layer_attention import LayerCall
from r2a_core.config import SweepParams
from r2a_core.infra.checks import error_context
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import MIB
from r2a_core.pairs.align import AlignedPair
from r2a_core.patching.metrics import AnswerMetrics, Sweep
from r2a_core.patching.packed import PackedSweep, PatchRows, PatchSite
from r2a_core.patching.runs import CleanRun, UnpatchedRun, run_unpatched


def sweep_pair(model: Any, aligned: AlignedPair, clean: CleanRun, params: SweepParams, memory_mib: int) -> list[Sweep]:
    """Sweep all components of one pair; patched rows of one pass take at most `memory_mib` MiB on the device.

    The corrupted run is made once for all of them. Raises R2AError, naming the pair, when the clean run lacks what is
    to be patched, or one row of one position is larger than the bound.
    """
    restored = [place.index for place in aligned.positions if place.role in params.restored_roles]
    bound = memory_mib * MIB
    with error_context(f"pair {aligned.pair_id!r} ({aligned.probe})"):
        corrupted = run_unpatched(model, aligned, with_z="z" in params.components and not restored)
        return [
            sweep_resid(model, aligned, clean, corrupted, bound)
            if component == "resid_pre"
            else sweep_heads(model, aligned, clean, corrupted, bound, restored)
            for component in params.components
        ]


def sweep_resid(model: Any, aligned: AlignedPair, clean: CleanRun, corrupted: UnpatchedRun, memory_bytes: int) -> Sweep:
    """Patch resid_pre at every layer and each position of the pair; metrics (layer, position).

    memory_bytes bounds what the patched rows of one pass take on the device (see `packed.row_bytes`), not counting the
    model and the corrupted run. Raises R2AError as `sweep_pair`.
    """
    streams = clean.resid_pre[:, clean.rows_of(aligned.indices)]
    rows = [PatchRows(layer, each[None]) for layer, each in enumerate(streams)]
    metrics = PackedSweep(model, aligned, corrupted, memory_bytes).run(sites_of(aligned), rows)
    return to_sweep(aligned, "resid_pre", metrics, (len(streams),), clean, corrupted)


def sweep_heads(
    model: Any,
    aligned: AlignedPair,
    clean: CleanRun,
    corrupted: UnpatchedRun,
    memory_bytes: int,
    restored: Sequence[int] = (),
) -> Sweep:
    """Patch one head's z at every layer, head and position; metrics (layer, head, position).

    corrupted: with z, unless tokens are restored. restored: tokens whose residual streams are the clean ones at every
    layer of every cell; NLD still counts from the corrupted run without them. clean must hold z at the patched and
    resid_pre at the restored tokens. Raises R2AError as `sweep_pair`.
    """
    shape = model_shape(model)
    if clean.z is None:
        raise R2AError("the clean run was captured without z", "capture it with z to patch heads")
    clean_z = clean.z[:, clean.rows_of(aligned.indices)].to(shape.device)
    unpatched = corrupted
    if restored:
        held = {token: clean.resid_pre[:, row] for token, row in zip(restored, clean.rows_of(restored), strict=True)}
        unpatched = run_unpatched(model, aligned, with_z=True, restored=held)
    rows = head_rows(model, aligned.indices, unpatched, clean_z)
    metrics = PackedSweep(model, aligned, unpatched, memory_bytes).run(sites_of(aligned), rows)
    return to_sweep(aligned, "z", metrics, (shape.n_layers, shape.n_heads), clean, corrupted)


def sites_of(aligned: AlignedPair) -> list[PatchSite]:
    """Return each position of the pair as a site by itself."""
    return [PatchSite((index,)) for index in aligned.indices]


@dataclass
class HeadSwapPlan:
    """No attention: row h of the batch gets the z of the unpatched run with head h taken from the clean run."""

    base: dict[int, Tensor]  # layer -> (token, head, head_dim)
    clean: Tensor  # (layer, token, head, head_dim)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        n_heads, layer = query.shape[1], call.layer.layer
        z = self.base[layer].repeat(n_heads, 1, 1, 1)  # (row, token, head, head_dim)
        rows = torch.arange(n_heads, device=z.device)
        z[rows, :, rows] = self.clean[layer].transpose(0, 1).to(z.dtype)
        return z


@torch.no_grad()
def head_rows(model: Any, tokens: Sequence[int], unpatched: UnpatchedRun, clean_z: Tensor) -> list[PatchRows]:
    """Return the residual streams after each layer with one head's z patched in it: a row per head, one layer up."""
    shape = model_shape(model)
    token = torch.tensor(tokens, device=shape.device)
    local = token - unpatched.first
    rows: list[PatchRows] = []

    def replace(layer: int, hidden: Tensor) -> Tensor:
        if layer > 0:
            rows.append(PatchRows(layer, hidden))
        if layer == shape.n_layers:
            return hidden
        return unpatched.resid_pre[layer, local].repeat(shape.n_heads, 1, 1)

    plan = HeadSwapPlan({layer: z[local] for layer, z in unpatched.z.items()}, clean_z)
    positions = unpatched.mask.positions[token][None]
    with planned_attention(model, plan), every_residual(shape, replace):
        model(input_ids=torch.zeros_like(positions), position_ids=positions, use_cache=False, logits_to_keep=1)
    return rows


def to_sweep(
    aligned: AlignedPair,
    component: str,
    metrics: AnswerMetrics,
    shape: tuple[int, ...],
    clean: CleanRun,
    corrupted: UnpatchedRun,
) -> Sweep:
    """Return the metrics (row, position) as a Sweep of shape (*shape, position)."""
    places, names = aligned.positions, [field.name for field in fields(AnswerMetrics)]
    return Sweep(
        pair_id=aligned.pair_id,
        probe=aligned.probe,
        component=component,
        positions=aligned.indices,
        roles=tuple(place.role for place in places),
        clean_tokens=tuple(place.clean_token for place in places),
        corrupted_tokens=tuple(place.corrupted_token for place in places),
        metrics=AnswerMetrics(*(getattr(metrics, name).reshape(*shape, len(places)) for name in names)),
        ld_clean=clean.logit_diff,
        ld_corrupted=corrupted.metrics.logit_diff.item(),
    )
