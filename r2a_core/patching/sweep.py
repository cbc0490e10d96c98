"""Every cell of activation patching for one pair, exactly (paper section 5).

Input: a model, an AlignedPair and its CleanRun. Output: a Sweep, the metrics of all cells.

resid_pre: the staircase starts a row at every layer. z: a head's z enters its own token only, so the residual stream
after the layer comes from a pass over the patched tokens alone (no attention to compute), and the staircase starts one
layer up, with one row for each head.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from r2a_core.infra.errors import R2AError
from r2a_core.pairs.align import AlignedPair, PatchPosition
from r2a_core.patching.metrics import AnswerMetrics, Sweep
from r2a_core.patching.packed import PackedSweep, PatchRows, PatchSite
from r2a_core.patching.packed_attention import HeadSwapPlan, planned_attention_on
from r2a_core.patching.runs import CleanRun, ModelShape, UnpatchedRun, model_shape, residual_hooks, run_unpatched


def sweep_resid(
    model: Any, aligned: AlignedPair, clean: CleanRun, memory_mib: int, lanes: Sequence[PatchSite] | None = None
) -> Sweep:
    """Metrics of resid_pre patched at every layer and each position of the pair, (layer, position).

    memory_mib bounds what the patched rows of one pass take on the device (see `staircase.row_bytes`), not counting the
    model and the unpatched run. lanes: sets of tokens to patch together instead of the pair's single positions.
    Raises R2AError when the clean run lacks a position, or one row of one position is larger than the bound.
    """
    parts = model_shape(model)
    chosen = list(lanes or lanes_of(aligned))
    tokens = [token for lane in chosen for token in lane.tokens]
    streams = clean.resid_pre[:, clean.rows_of(tokens)]
    unpatched = run_unpatched(model, aligned, first=min(tokens))
    rows = [PatchRows(layer, streams[layer][None]) for layer in range(parts.n_layers)]
    metrics = PackedSweep(model, parts, aligned, unpatched, {}, memory_mib).climb(chosen, rows)
    return to_sweep(aligned, "resid_pre", metrics, (parts.n_layers,), clean, unpatched, chosen)


def sweep_heads(
    model: Any,
    aligned: AlignedPair,
    clean: CleanRun,
    memory_mib: int,
    lanes: Sequence[PatchSite] | None = None,
    restored: Sequence[int] = (),
) -> Sweep:
    """Metrics of one head's z patched at every layer, head and position, (layer, head, position).

    restored: tokens whose residual streams are the clean ones at every layer of every cell; NLD still counts from the
    corrupted run without them. clean must hold z at the patched and resid_pre at the restored tokens. Raises as
    `sweep_resid`, and when the clean run holds no z.
    """
    parts = model_shape(model)
    if clean.z is None:
        raise R2AError("the clean run was captured without z", "capture it with z to patch heads")
    chosen = list(lanes or lanes_of(aligned))
    tokens = [token for lane in chosen for token in lane.tokens]
    clean_z = clean.z[:, clean.rows_of(tokens)].to(parts.device)
    held = {token: clean.resid_pre[:, row] for token, row in zip(restored, clean.rows_of(restored), strict=True)}
    unpatched = run_unpatched(model, aligned, first=min(tokens), with_z=True, restored=held)
    rows = head_rows(model, parts, unpatched, tokens, clean_z)
    metrics = PackedSweep(model, parts, aligned, unpatched, held, memory_mib).climb(chosen, rows)
    corrupted = run_unpatched(model, aligned, first=min(tokens)) if held else unpatched
    return to_sweep(aligned, "z", metrics, (parts.n_layers, parts.n_heads), clean, corrupted, chosen)


def lanes_of(aligned: AlignedPair) -> list[PatchSite]:
    """Each position of the pair by itself."""
    return [PatchSite((index,)) for index in aligned.indices]


@torch.no_grad()
def head_rows(
    model: Any, parts: ModelShape, unpatched: UnpatchedRun, tokens: Sequence[int], clean_z: Tensor
) -> list[PatchRows]:
    """Residual streams after each layer with one head's z patched in it: rows are heads, starting one layer up."""
    token = torch.tensor(tokens, device=parts.device)
    local = token - unpatched.first
    rows: list[PatchRows] = []

    def replace(layer: int, hidden: Tensor) -> Tensor:
        if layer > 0:
            rows.append(PatchRows(layer, hidden))
        if layer == parts.n_layers:
            return hidden
        return unpatched.resid_pre[layer, local].repeat(parts.n_heads, 1, 1)

    plan = HeadSwapPlan({layer: z[local] for layer, z in unpatched.z.items()}, clean_z)
    positions = unpatched.visibility.positions[token][None]
    with planned_attention_on(model), residual_hooks(parts, replace):
        model(
            input_ids=torch.zeros_like(positions),
            position_ids=positions,
            use_cache=False,
            logits_to_keep=1,
            patching=plan,
        )
    return rows


def to_sweep(
    aligned: AlignedPair,
    component: str,
    metrics: AnswerMetrics,
    shape: tuple[int, ...],
    clean: CleanRun,
    corrupted: UnpatchedRun,
    lanes: Sequence[PatchSite],
) -> Sweep:
    """The metrics (row, lane) as a Sweep of shape (*shape, lane); a lane is labelled by its last token."""
    known = {position.index: position for position in aligned.positions}
    ends = [known.get(lane.tokens[-1], PatchPosition(lane.tokens[-1], "probe", "", "")) for lane in lanes]
    names = [field.name for field in fields(AnswerMetrics)]
    return Sweep(
        pair_id=aligned.pair_id,
        probe=aligned.probe,
        component=component,
        positions=tuple(end.index for end in ends),
        roles=tuple(end.role for end in ends),
        clean_tokens=tuple(end.clean_token for end in ends),
        corrupted_tokens=tuple(end.corrupted_token for end in ends),
        metrics=AnswerMetrics(*(getattr(metrics, name).reshape(*shape, len(lanes)) for name in names)),
        ld_clean=clean.logit_diff,
        ld_corrupted=corrupted.metrics.logit_diff.item(),
    )
