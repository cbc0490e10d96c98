"""The packed staircase: many patched runs of one sequence in one climb through the layers (paper section 5).

Input: an UnpatchedRun, lanes (tokens patched together) and rows (residual streams to put in place, and at which layer).
Output: the metrics of every row and lane.

A patched residual stream leaves all layers below it and all tokens before it as they were. So a pass climbs the layers
once; at layer l it gains the rows patched there, each the unpatched run's residual stream with a token's replaced.
A row carries no token before the patched one: their keys and values come from the unpatched run. The suffixes of all
lanes lie one after the other in a row. After the last layer only the ends of the suffixes count, so in it the others
get keys and values and nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r2a_core.infra.errors import R2AError
from r2a_core.infra.memory import MIB
from r2a_core.pairs.align import AlignedPair
from r2a_core.patching.metrics import AnswerMetrics, answer_metrics
from r2a_core.patching.packed_attention import SuffixPlan, planned_attention_on
from r2a_core.patching.runs import ModelShape, UnpatchedRun, last_tokens_only, residual_hooks


@dataclass(frozen=True)
class PatchSite:
    """Tokens that are patched together; their suffix starts at the first of them."""

    tokens: tuple[int, ...]  # ascending


@dataclass(frozen=True)
class PatchRows:
    """Rows that start at one layer. streams (row, patched token, d_model): what is put in place, lane after lane."""

    layer: int  # rows start with the residual stream entering this layer; n_layers: after the last one
    streams: Tensor


@dataclass(frozen=True)
class SuffixLayout:
    """How the suffixes of some lanes lie in a row: token of each slot, slots of patched tokens and of suffix ends."""

    starts: list[int]
    tokens: list[int]
    patched: list[int]
    ends: list[int]

    @classmethod
    def of(cls, lanes: Sequence[PatchSite], n_tokens: int) -> "SuffixLayout":
        """The suffixes of `lanes` one after the other."""
        starts = [lane.tokens[0] for lane in lanes]
        offsets = np.cumsum([0, *(n_tokens - start for start in starts)]).tolist()
        patched = [
            at + token - lane.tokens[0] for at, lane in zip(offsets, lanes, strict=False) for token in lane.tokens
        ]
        tokens = [token for start in starts for token in range(start, n_tokens)]
        return cls(starts, tokens, patched, [end - 1 for end in offsets[1:]])


@dataclass(frozen=True)
class PackedSweep:
    """Patched runs of one pair. memory_mib bounds the rows of one pass (see `row_bytes`).

    held: token -> clean residual streams (layer, d_model), in place at every layer of every row.
    """

    model: Any
    parts: ModelShape
    aligned: AlignedPair
    unpatched: UnpatchedRun
    held: dict[int, Tensor]
    memory_mib: int

    def climb(self, lanes: Sequence[PatchSite], rows: Sequence[PatchRows]) -> AnswerMetrics:
        """Metrics of all rows, each field (row, lane), in as many passes as the memory bound asks for.

        Raises R2AError when one row of one lane is larger than the bound.
        """
        n_tokens = len(self.aligned.corrupted.ids)
        columns, offset = [], 0
        for some in lane_groups(self.parts, lanes, n_tokens, self.memory_mib):
            packing = SuffixLayout.of([lanes[index] for index in some], n_tokens)
            streams = slice(offset, offset := offset + len(packing.patched))
            per_pass = self.memory_mib * MIB // row_bytes(self.parts, packing.starts, n_tokens)
            mine = [PatchRows(start.layer, start.streams[:, streams]) for start in rows]
            columns.append(join([self.one_pass(packing, part) for part in row_groups(mine, per_pass)], axis=0))
        return join(columns, axis=1)

    @torch.no_grad()
    def one_pass(self, packing: SuffixLayout, rows: Sequence[PatchRows]) -> AnswerMetrics:
        """One climb through the layers; metrics (row, lane) in the order of `rows`, which ascend by layer."""
        token = torch.tensor(packing.tokens, device=self.parts.device)
        patched = torch.tensor(packing.patched, device=self.parts.device)
        unpatched = self.unpatched

        def grow(layer: int, hidden: Tensor) -> Tensor:
            grown = [hidden[:0] if layer == 0 else hidden]
            for start in (start for start in rows if start.layer == layer):
                new = unpatched.resid_pre[layer, token - unpatched.first].repeat(len(start.streams), 1, 1)
                new[:, patched] = start.streams.to(new)
                grown.append(new)
            return self.hold(layer, torch.cat(grown), token)

        ends = torch.tensor(packing.ends, device=self.parts.device)
        cache = (unpatched.keys, unpatched.values, unpatched.visibility)
        plan = SuffixPlan(packing.starts, *cache, last_layer=self.parts.n_layers - 1)
        ids = torch.tensor([self.aligned.corrupted.ids], device=self.parts.device)[:, token]
        edits = residual_hooks(self.parts, grow, rows[0].layer)
        with planned_attention_on(self.model), edits, last_tokens_only(self.parts.layers[-1], ends):
            logits = self.model(
                input_ids=ids,
                position_ids=unpatched.visibility.positions[token][None],
                use_cache=False,
                logits_to_keep=ends,
                patching=plan,
            ).logits
        return answer_metrics(logits, self.aligned.answer_a, self.aligned.answer_b)

    def hold(self, layer: int, hidden: Tensor, token: Tensor) -> Tensor:
        """`hidden` (row, slot, d_model) with the held tokens' clean residual streams; `token` is each slot's token."""
        if layer < self.parts.n_layers:
            for held_token, streams in self.held.items():
                hidden[:, token == held_token] = streams[layer].to(hidden)
        return hidden


def row_bytes(parts: ModelShape, starts: Sequence[int], n_tokens: int) -> int:
    """Device memory of one patched row with suffixes from `starts`: the rule that sizes a pass.

    A slot counts 6 residual streams, 3 MLP widths, 3 query widths and 4 key widths of activations alive at once; a row
    counts keys and values of the whole sequence, and the logits of its ends.
    """
    width = 6 * parts.d_model + 3 * parts.d_mlp + (3 * parts.n_heads + 4 * parts.n_kv_heads) * parts.head_dim
    slots = sum(n_tokens - start for start in starts)
    cache = 2 * n_tokens * parts.n_kv_heads * parts.head_dim
    return (slots * width + cache + len(starts) * parts.n_vocab) * parts.dtype.itemsize


def lane_groups(parts: ModelShape, lanes: Sequence[PatchSite], n_tokens: int, memory_mib: int) -> Iterator[range]:
    """Ranges of lanes whose suffixes fit one row into the bound. Raises R2AError when a single lane does not fit."""
    bounds: list[int] = [0]
    starts: list[int] = []
    for index, lane in enumerate(lanes):
        alone = row_bytes(parts, [lane.tokens[0]], n_tokens)
        if alone > memory_mib * MIB:
            raise R2AError(
                f"one patched row at position {lane.tokens[0]} takes {-(-alone // MIB)} MiB, the bound is {memory_mib}",
                "raise the memory bound of the patch stage (MiB)",
            )
        if starts and row_bytes(parts, [*starts, lane.tokens[0]], n_tokens) > memory_mib * MIB:
            bounds.append(index)
            starts = []
        starts.append(lane.tokens[0])
    return (range(a, b) for a, b in pairwise([*bounds, len(lanes)]))


def row_groups(rows: Sequence[PatchRows], per_pass: int) -> Iterator[list[PatchRows]]:
    """The rows in order, cut into passes of `per_pass` rows (the last may be smaller)."""
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
    """Metrics of several passes as one."""
    names = [field.name for field in fields(AnswerMetrics)]
    return AnswerMetrics(*(np.concatenate([getattr(each, name) for each in metrics], axis) for name in names))
