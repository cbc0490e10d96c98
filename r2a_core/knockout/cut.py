"""Attention in which the rows of a view, in the heads of an arm, lose keys: the plan of a run with cut heads.

PrefixRun, Arms -> CutPlan, which writes z, the output of a head and input of o_proj. Of rows i of the view and keys j,
with a(i, j) the attention weight and R the keys that the view hides (knockout.prefix):

    mask        a(i, j) for j in R is left out of the softmax: the rest takes its share; a row still sees itself
    zero        a(i, j) for j in R, also j = i, becomes 0 after the softmax
    zero_head   z becomes 0
    mean_head   z becomes its mean over the cut rows of other traces
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.hooks import ModelShape
from r2a_core.activations.layer_attention import LayerCall, MaskSpec, check_inputs
from r2a_core.activations.suffix import SuffixAttention
from r2a_core.config import KnockoutKind
from r2a_core.infra.errors import R2AError
from r2a_core.knockout.prefix import PrefixRun
from r2a_core.knockout.sets import Arm

MeanOutputs = Mapping[int, Tensor]  # layer -> z (head, head_dim), mean over the rows that are cut


@dataclass
class CutPlan:
    """Attention of the rows from the first cut one on, each with the heads of its arm cut."""

    run: PrefixRun
    cuts: dict[int, dict[KnockoutKind, Tensor]]  # layer -> (arm, head) bool, for each kind that cuts there
    means: MeanOutputs
    plain: SuffixAttention
    blind: SuffixAttention  # sees nothing of what is hidden; of sequences without `View.unread`
    grown: dict[int, tuple[Tensor, Tensor]] | None = None  # keys and values of what arms wrote; None: nothing is kept

    @classmethod
    def of(cls, run: PrefixRun, arms: Sequence[Arm], shape: ModelShape, means: MeanOutputs, n_new: int) -> "CutPlan":
        """Make the plan of these arms, for `n_new` tokens from the first cut one on."""
        cuts: dict[int, dict[KnockoutKind, Tensor]] = {}
        for row, arm in enumerate(arms):
            for layer, head in arm.heads:
                if not (0 <= layer < shape.n_layers and 0 <= head < shape.n_heads):
                    raise R2AError(f"the model has no head {head} in layer {layer}", "rank its heads: dvc repro heads")
                empty = torch.zeros(len(arms), shape.n_heads, dtype=torch.bool, device=shape.device)
                cuts.setdefault(layer, {}).setdefault(arm.kind, empty)[row, head] = True
        positions = torch.arange(run.view.first + n_new, device=shape.device)
        seen, shown = (
            (positions < hidden.start) | (positions >= hidden.stop) for hidden in (run.view.hidden, run.view.unread)
        )
        blind = SuffixAttention(MaskSpec(positions[shown], seen[shown]))
        return cls(run, cuts, means, SuffixAttention(MaskSpec(positions, None)), blind)

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        check_inputs(call, query, key)
        layer, n_rows = call.layer.layer, len(query)
        if self.grown is not None:
            before = self.grown.get(layer, (key[:, :, :0], value[:, :, :0]))
            key, value = (torch.cat(pair, 2) for pair in zip(before, (key, value), strict=True))
            self.grown[layer] = (key, value)
        prefix = (self.run.keys[layer], self.run.values[layer])
        keys, values = (
            torch.cat([old.expand(n_rows, -1, -1, -1), new], 2) for old, new in zip(prefix, (key, value), strict=True)
        )
        z = self.plain.by_blocks(call, keys.shape[2] - query.shape[2], query, keys, values)
        if layer in self.cuts:
            self.replace(call, z, query, keys, values)
        return z

    def replace(self, call: LayerCall, z: Tensor, query: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put into z what the cut heads write. Heads that share keys are computed together, no other head is."""
        n_parts = 1 if call.eager else keys.shape[1]  # a model's own function takes all heads
        stop, first = self.run.view.stop, keys.shape[2] - query.shape[2]
        own = slice(stop and stop - first)
        query, keys, values = (
            each.unflatten(1, (n_parts, -1)) for each in (query[:, :, own], keys[:, :, :stop], values[:, :, :stop])
        )
        z = z[:, own].unflatten(2, (n_parts, -1))
        for kind, heads in self.cuts[call.layer.layer].items():
            heads = heads[: len(z)].unflatten(1, (n_parts, -1))  # arms above start at a higher layer
            chosen = rows, parts = heads.any(2).nonzero(as_tuple=True)
            if len(rows):
                cut = self.cut(kind, call, chosen, query, keys, values)
                z[rows, :, parts] = torch.where(heads[chosen][:, None, :, None], cut, z[rows, :, parts])

    def cut(
        self, kind: KnockoutKind, call: LayerCall, chosen: Any, query: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Return z (chosen, token, head, head_dim), or what broadcasts to it, as if all heads of these parts were cut.

        chosen: indices of row and part. query, keys, values: (row, part, head, token, head_dim), of the cut tokens
        alone and up to the last of them.
        """
        if kind == "zero_head":
            return values.new_zeros(())
        if kind == "mean_head":
            return self.means[call.layer.layer].to(values).unflatten(0, (query.shape[1], -1))[chosen[1], None]
        hidden, first = self.run.view.hidden, keys.shape[3] - query.shape[3]
        if kind == "zero":
            values = values[chosen]
            values[:, :, hidden.start : hidden.stop] = 0
            return self.plain.by_blocks(call, first, query[chosen], keys[chosen], values)
        gap = self.run.view.unread
        keys, values = (
            torch.cat([each[..., : gap.start, :][chosen], each[..., gap.stop :, :][chosen]], 2)
            for each in (keys, values)
        )
        return self.blind.by_blocks(call, first - len(gap), query[chosen], keys, values)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave only these arms."""
        assert self.grown is not None
        self.cuts = {
            layer: {kind: chosen[rows] for kind, chosen in kinds.items()} for layer, kinds in self.cuts.items()
        }
        self.grown = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.grown.items()}
