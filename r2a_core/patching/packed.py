"""Packed patching: many patched runs of one sequence in one forward pass (paper section 5).

UnpatchedRun, sites (tokens patched together), rows (residual streams to put in, and at which layer) -> AnswerMetrics
of every row and site, equal to those of one full forward pass each.

A residual stream patched at layer l and token p leaves all layers below l and all tokens before p as they were: the
cell costs the tokens p..T-1 in the layers from l on, and no more. So all cells share one pass, here of sites p1 and p2:

    layer 2    | p1 ...... T-1 | p2 ... T-1 |    rows patched at layer 0, 1 and 2
    layer 1    | p1 ...... T-1 | p2 ... T-1 |    rows patched at layer 0 and 1
    layer 0    | p1 ...... T-1 | p2 ... T-1 |    row patched at layer 0

The batch gains a row where its patch goes in: the unpatched run's residual stream of that layer with the site's tokens
replaced. A row holds the suffixes of all sites one after the other; keys and values of the tokens before a suffix are
the unpatched run's. In the last layer only the last token of a suffix counts; the others get keys and values alone.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from r2a_core.activations.attention import planned_attention
from r2a_core.activations.hooks import ModelShape, every_residual, model_shape, skipped
from r2a_core.activations.layer_attention import LayerCall, check_inputs
from r2a_core.activations.suffix import SuffixAttention
from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import MIB
from r2a_core.pairs.align import AlignedPair
from r2a_core.patching.metrics import AnswerMetrics, answer_metrics
from r2a_core.patching.runs import UnpatchedRun

CPU_BYTES = 128 * MIB  # of rows in a pass on a CPU: beyond that memory is mapped anew for each tensor (docs/log.md)


@dataclass(frozen=True)
class PatchSite:
    """Tokens that are patched together; their suffix starts at the first of them."""

    tokens: tuple[int, ...]  # ascending


@dataclass(frozen=True)
class PatchRows:
    """Rows that start at one layer. streams (row, patched token, d_model): what is put in place, site after site."""

    layer: int  # rows start with the residual stream entering this layer; n_layers: after the last one
    streams: Tensor


@dataclass(frozen=True)
class SuffixLayout:
    """How the suffixes of some sites lie in a row. A slot is a place in the row, a token one in the sequence."""

    suffixes: list[tuple[int, slice]]  # first token and slots of each suffix
    tokens: list[int]  # of each slot
    patched: list[int]  # slots of the patched tokens, site after site
    ends: list[int]  # last slot of each suffix

    @classmethod
    def of(cls, sites: Sequence[PatchSite], n_tokens: int) -> "SuffixLayout":
        """Lay the suffixes of `sites` one after the other."""
        starts = [site.tokens[0] for site in sites]
        bounds = np.cumsum([0, *(n_tokens - start for start in starts)]).tolist()
        suffixes = [(start, slice(*ends)) for start, ends in zip(starts, pairwise(bounds), strict=True)]
        tokens = [token for start in starts for token in range(start, n_tokens)]
        patched = [
            slots.start + token - start
            for (start, slots), site in zip(suffixes, sites, strict=True)
            for token in site.tokens
        ]
        return cls(suffixes, tokens, patched, [end - 1 for end in bounds[1:]])


@dataclass(frozen=True)
class PackedSweep:
    """Patched runs of one pair. memory_bytes bounds the rows of one pass (see `row_bytes`)."""

    model: Any
    aligned: AlignedPair
    unpatched: UnpatchedRun
    memory_bytes: int

    def run(self, sites: Sequence[PatchSite], rows: Sequence[PatchRows]) -> AnswerMetrics:
        """Return the metrics of all rows, each field (row, site), in as many passes as the memory bound asks for.

        Raises R2AError when one row of one site is larger than the bound.
        """
        shape, n_tokens = model_shape(self.model), len(self.aligned.corrupted.ids)
        columns, offset = [], 0
        for some in site_groups(shape, sites, n_tokens, self.memory_bytes):
            layout = SuffixLayout.of([sites[index] for index in some], n_tokens)
            streams = slice(offset, offset := offset + len(layout.patched))
            per_pass = rows_per_pass(shape, [start for start, _ in layout.suffixes], n_tokens, self.memory_bytes)
            mine = [PatchRows(each.layer, each.streams[:, streams]) for each in rows]
            columns.append(join([self.forward(shape, layout, part) for part in row_groups(mine, per_pass)], axis=0))
        return join(columns, axis=1)

    @torch.no_grad()
    def forward(self, shape: ModelShape, layout: SuffixLayout, rows: Sequence[PatchRows]) -> AnswerMetrics:
        """Run one pass; return metrics (row, site) in the order of `rows`, which ascend by layer."""
        unpatched = self.unpatched
        token, patched, ends = (
            torch.tensor(each, device=shape.device) for each in (layout.tokens, layout.patched, layout.ends)
        )

        def grow(layer: int, hidden: Tensor) -> Tensor:
            grown = [hidden[:0] if layer == 0 else hidden]
            for start in (start for start in rows if start.layer == layer):
                new = unpatched.resid_pre[layer, token - unpatched.first].repeat(len(start.streams), 1, 1)
                new[:, patched] = start.streams.to(new)
                grown.append(new)
            return freeze(unpatched, layer, torch.cat(grown), token) if layer < shape.n_layers else torch.cat(grown)

        plan = SuffixPlan(layout, unpatched, shape.n_layers - 1, SuffixAttention(unpatched.mask))
        with (
            planned_attention(self.model, plan),
            every_residual(shape, grow),
            skipped(shape.layers[: rows[0].layer]),
            last_tokens_only(shape.layers[-1], ends),
        ):
            logits = self.model(
                input_ids=torch.tensor([self.aligned.corrupted.ids], device=shape.device)[:, token],
                position_ids=unpatched.mask.positions[token][None],
                use_cache=False,
                logits_to_keep=ends,
            ).logits
        return answer_metrics(logits, self.aligned.answer_a, self.aligned.answer_b)


def freeze(unpatched: UnpatchedRun, layer: int, hidden: Tensor, token: Tensor) -> Tensor:
    """Put the restored tokens' clean streams into `hidden` (row, slot, d_model); `token` is the token of each slot."""
    for restored, streams in unpatched.restored.items():
        hidden[:, token == restored] = streams[layer].to(hidden)
    return hidden


@dataclass
class SuffixPlan:
    """Attention of packed rows.

    A suffix sees the unpatched run's keys and values before its start, and its own from there on. The suffixes are
    handled from the last start to the first: each overwrites the key buffer from its start on, so that what lies before
    is still the unpatched run's. In the last layer only the last token of a suffix attends: z of the others is 0.
    """

    layout: SuffixLayout
    unpatched: UnpatchedRun
    last_layer: int
    suffixes: SuffixAttention

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        check_inputs(call, query, key)
        n_rows, n_heads, n_slots, head_dim = query.shape
        layer = call.layer.layer
        n_tokens = self.unpatched.keys[layer].shape[1]
        out = query.new_zeros(n_rows, n_slots, n_heads, head_dim)
        keys = self.unpatched.keys[layer].repeat(n_rows, 1, 1, 1)  # (row, kv_head, token, head_dim)
        values = self.unpatched.values[layer].repeat(n_rows, 1, 1, 1)
        for start, slots in sorted(self.layout.suffixes, key=lambda suffix: -suffix[0]):
            keys[:, :, start:], values[:, :, start:] = key[:, :, slots], value[:, :, slots]
            asked = slots if layer < self.last_layer else slice(slots.stop - 1, slots.stop)
            first = n_tokens - (asked.stop - asked.start)
            out[:, asked] = self.suffixes.attend(call, first, query[:, :, asked], keys, values)
        return out


@contextmanager
def last_tokens_only(layer: Any, slots: Tensor) -> Iterator[None]:
    """Compute queries, output projection and MLP of `layer` for these slots alone."""
    inside = [getattr(layer.self_attn, "q_proj", None), getattr(layer.self_attn, "o_proj", None)]
    with ExitStack() as stack:
        for module in (*inside, getattr(layer, "mlp", None)):
            if module is not None:
                stack.enter_context(compute_only(module, slots))
        yield


@contextmanager
def compute_only(module: nn.Module, slots: Tensor) -> Iterator[None]:
    """Compute `module` for these slots of its input (row, slot, width) alone; its output is 0 elsewhere."""
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


def row_bytes(shape: ModelShape, starts: Sequence[int], n_tokens: int) -> int:
    """Return the device memory of one patched row with suffixes from `starts`: the rule that sizes a pass.

    A slot counts 6 residual streams, 3 MLP widths, 3 query widths and 4 key widths of activations alive at once; a row
    counts keys and values of the whole sequence, and the logits of its ends.
    """
    width = 6 * shape.d_model + 3 * shape.d_mlp + (3 * shape.n_heads + 4 * shape.n_kv_heads) * shape.head_dim
    slots = sum(n_tokens - start for start in starts)
    return (slots * width + len(starts) * shape.n_vocab) * shape.dtype.itemsize + n_tokens * shape.kv_bytes


def rows_per_pass(shape: ModelShape, starts: Sequence[int], n_tokens: int, memory_bytes: int) -> int:
    """Return how many rows with suffixes from `starts` a pass takes: what fits, on a CPU no more than is quick."""
    one = row_bytes(shape, starts, n_tokens)
    quick = max(one, CPU_BYTES) if shape.device.type == "cpu" else memory_bytes
    return min(memory_bytes, quick) // one


def site_groups(shape: ModelShape, sites: Sequence[PatchSite], n_tokens: int, memory_bytes: int) -> Iterator[range]:
    """Return ranges of sites whose suffixes fit one row into the bound. Raises R2AError when a site alone does not."""
    bounds: list[int] = [0]
    starts: list[int] = []
    for index, site in enumerate(sites):
        start = site.tokens[0]
        alone = row_bytes(shape, [start], n_tokens)
        if alone > memory_bytes:
            taken, bound = alone / MIB, memory_bytes / MIB
            raise R2AError(
                f"one patched row at position {start} takes {taken:.3g} MiB, the bound is {bound:.3g}",
                "raise the memory bound of the patch stage (MiB)",
            )
        if starts and row_bytes(shape, [*starts, start], n_tokens) > memory_bytes:
            bounds.append(index)
            starts = []
        starts.append(start)
    return (range(a, b) for a, b in pairwise([*bounds, len(sites)]))


def row_groups(rows: Sequence[PatchRows], per_pass: int) -> Iterator[list[PatchRows]]:
    """Cut the rows, in order, into passes of `per_pass` rows (the last may be smaller)."""
    group: list[PatchRows] = []
    room = per_pass
    for start in rows:
        rest = start.streams
        while len(rest):
            group.append(PatchRows(start.layer, rest[:room]))
            taken = min(room, len(rest))
            rest, room = rest[taken:], room - taken
            if room == 0:
                yield group
                group, room = [], per_pass
    if group:
        yield group


def join(metrics: Sequence[AnswerMetrics], axis: int) -> AnswerMetrics:
    """Return the metrics of several passes as one record."""
    names = [field.name for field in fields(AnswerMetrics)]
    return AnswerMetrics(*(np.concatenate([getattr(each, name) for each in metrics], axis) for name in names))
