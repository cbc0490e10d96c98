"""What a layer's rows attend to: mass on segments and sentences, and the walk along the reasoning (paper section 4).

queries (head, row, head_dim) and keys (kv_head, token, head_dim) of one layer -> LayerStatistics: mean attention weight
of each token, over answer rows and over reasoning rows, and the ReasoningWalk of the answer rows -> LayerMasses of
token groups.

model, token ids, token groups -> the same LayerMasses from one forward pass (`masses_in_forward`), nothing stored.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from r2a_core.activations.attention import Recorder, recording
from r2a_core.activations.capture import forward
from r2a_core.activations.layer_attention import LayerAttention, rows_per_block
from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.patterns import CPU_ELEMENTS, pattern_blocks
from r2a_core.attention.walk import ReasoningWalk, block_walk, join_walks
from r2a_core.infra.checks import check_finite
from r2a_core.trace import SEGMENTS, TraceSegments

SINK_MASS = 0.3  # a key with more attention, mean over answer rows and a layer's heads, is a sink, as BOS always is

LEAST_SHARE = 1e-4  # log-odds of a mass nearer to 0 or 1 are those of this

REFLECTION = len(SEGMENTS)  # column of reflection phrases, after those of the segments


@dataclass(frozen=True)
class LayerStatistics:
    """What one layer's answer and reasoning rows look at. Means over rows; float64."""

    answer: Tensor  # (head, token), attention weight
    reasoning: Tensor | None  # (head, token); None where the rows were not captured or there are none
    walk: ReasoningWalk | None  # None without reasoning tokens


def layer_statistics(trace: RecordedTrace, layer: int, device: str = "cpu") -> LayerStatistics:
    """Statistics of one layer of a trace, computed on `device`."""
    queries, keys = trace.queries(layer).to(device), trace.keys(layer).to(device)
    return row_statistics(queries, keys, trace.first_row, trace.layers[layer], trace.segments)


def row_statistics(
    queries: Tensor,
    keys: Tensor,
    first_row: int,
    layer: LayerAttention,
    segments: TraceSegments,
    reasoning_rows: bool = True,
    log_sums: Tensor | None = None,
) -> LayerStatistics:
    """Statistics of one layer, of its reasoning rows too where they are wanted and given.

    queries (head, row, head_dim), row 0 being token `first_row`; keys (kv_head, token, head_dim); log_sums (head, row),
    of the logits, where they are known.
    """
    answer = keys.new_zeros((layer.n_heads, keys.shape[1]), dtype=torch.float64)
    walks = []
    for block in pattern_blocks(queries, keys, first_row, layer, segments.answer):
        answer[:, block.keys.start : block.keys.stop] += block.weights.sum(dim=1)
        if len(segments.reasoning):
            rows = slice(block.rows.start - first_row, block.rows.stop - first_row)
            walks.append(block_walk(block, segments.reasoning, None if log_sums is None else log_sums[:, rows]))
    reasoning = None
    if reasoning_rows and len(segments.reasoning) and first_row <= segments.reasoning.start:
        reasoning = torch.zeros_like(answer)
        for block in pattern_blocks(queries, keys, first_row, layer, segments.reasoning):
            reasoning[:, block.keys.start : block.keys.stop] += block.weights.sum(dim=1)
        reasoning = (reasoning / len(segments.reasoning)).cpu()
    return LayerStatistics((answer / len(segments.answer)).cpu(), reasoning, join_walks(walks) if walks else None)


def mean_weights(
    queries: Tensor, keys: Tensor, log_sums: Tensor, layer: LayerAttention, rows: range, tokens: Tensor
) -> Tensor:
    """Computes the mean attention weight (head, chosen token) of some tokens over `rows`; float64.

    queries (head, token, head_dim), keys (kv_head, token, head_dim) and log_sums (head, token), log-sum-exp of the
    logits that a token sees: of all tokens of a sequence, in a layer without window.
    """
    n_kv, n_before = layer.n_kv_heads, int((tokens < rows.start).sum())  # the tokens before the rows: all see them
    chosen = keys[:, tokens].float() * layer.scaling
    found = torch.zeros(n_kv, len(tokens), layer.n_heads // n_kv, dtype=torch.float64)
    step = rows_per_block(CPU_ELEMENTS // layer.n_heads, max(1, len(tokens)), None)
    for start in range(rows.start, rows.stop, step):
        some = slice(start, min(start + step, rows.stop))
        query = queries[:, some].float().reshape(n_kv, -1, layer.head_dim)
        logits = torch.bmm(chosen, query.mT).unflatten(2, (layer.n_heads // n_kv, -1))  # (kv_head, token, head, row)
        logits -= log_sums[:, some].reshape(n_kv, 1, layer.n_heads // n_kv, -1)
        unseen = tokens[n_before:, None, None] > torch.arange(some.start, some.stop)
        logits[:, n_before:].masked_fill_(unseen, -torch.inf)
        found += logits.exp_().sum(dim=-1)
    return found.transpose(1, 2).flatten(0, 1) / len(rows)


@dataclass(frozen=True)
class TokenGroups:
    """The tokens of a trace whose attention mass is measured."""

    segments: TraceSegments
    reflection: Sequence[range]  # reflection phrases of the reasoning
    sentences: Sequence[range]  # of the reasoning

    @functools.cached_property
    def columns(self) -> Tensor:
        """How often each token is in a segment (SEGMENTS) or a reflection phrase: (token, 8), float64, the last 0."""
        columns = torch.zeros(self.segments.n_tokens, 8, dtype=torch.float64)
        for column, tokens in enumerate(self.segments.ranges().values()):
            columns[tokens.start : tokens.stop, column] = 1
        for tokens in self.reflection:
            columns[tokens.start : tokens.stop, REFLECTION] += 1
        return columns


@dataclass(frozen=True)
class LayerMasses:
    """Attention mass of one layer on token groups, mean over rows; float64.

    (head, SEGMENTS and then reflection): segments sum to 1 within the model's precision, to less with sinks.
    """

    answer: Tensor
    reasoning: Tensor | None  # of reasoning rows; None where they were not captured or there are none
    sentences: Tensor  # (head, sentence), of answer rows
    focus: Tensor  # (head,), of answer rows; see `sink_free_focus`
    walk: ReasoningWalk | None  # of answer rows; None without reasoning tokens


def layer_masses(statistics: LayerStatistics, groups: TokenGroups, window: int | None, place: str) -> LayerMasses:
    """Computes the masses from the statistics of a layer. Raises R2AError, naming the place, at a NaN or inf."""
    check_statistics(statistics, place)
    columns = groups.columns[:, : REFLECTION + 1]
    reasoning = None if statistics.reasoning is None else statistics.reasoning @ columns
    up_to = pad(statistics.answer.cumsum(dim=1), (1, 0))  # (head, token + 1), mass on the tokens before
    starts, stops = [each.start for each in groups.sentences], [each.stop for each in groups.sentences]
    sentences = up_to[:, stops] - up_to[:, starts]
    focus = sink_free_focus(statistics.answer, groups.segments, window)
    return LayerMasses(statistics.answer @ columns, reasoning, sentences, focus, statistics.walk)


def check_statistics(statistics: LayerStatistics, place: str) -> None:
    """Raises R2AError at a NaN or an infinity, save in the walk of answer rows that see no reasoning token."""
    for rows, means in (("answer", statistics.answer), ("reasoning", statistics.reasoning)):
        if means is not None:
            check_finite(means, f"{place}: mean attention of the {rows} rows", ("head", "token"))
    walk = statistics.walk
    if walk is not None:
        seeing = (~walk.centroid.isnan().all(dim=0)).nonzero()[:, 0]  # a row sees reasoning in all heads or in none
        for name, values in vars(walk).items():
            check_finite(values[:, seeing], f"{place}: {name} on the reasoning", ("head", "answer row"))


@dataclass
class MassRecorder(Recorder):
    """Measures each layer when it runs.

    Answer rows, which are few, are computed block by block as from disk. Reasoning rows come out of the layer's own
    attention. Where that yields the log-sum-exp of each row, the weights of single tokens follow from it: those of the
    few outside of the reasoning and of reflection phrases are computed, and the rest of a row's weight lies on the
    reasoning (or on the question, where that is the longer). Elsewhere the values gain a column per token group, 1 on
    the group's tokens, and what comes out in that column is a row's mass on the group, in the model's precision.
    """

    item_id: str
    groups: TokenGroups
    columns: Tensor  # of the groups
    layers: dict[int, LayerAttention] = field(default_factory=dict)
    masses: dict[int, LayerMasses] = field(default_factory=dict)

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor, log_sums: Tensor | None = None) -> None:
        statistics = row_statistics(query, key, 0, layer, self.groups.segments, reasoning_rows=False, log_sums=log_sums)
        self.layers[layer.layer] = layer
        place = f"{self.item_id!r}, layer {layer.layer}"
        self.masses[layer.layer] = layer_masses(statistics, self.groups, layer.window, place)
        if log_sums is not None and len(self.groups.segments.reasoning):
            self.keep_reasoning(layer.layer, self.masses_from_log_sums(layer, query, key, log_sums))

    def weighted_sums(self, layer: int, sums: Tensor) -> None:
        rows = self.groups.segments.reasoning
        if len(rows):
            self.keep_reasoning(layer, sums[rows.start : rows.stop].mean(dim=0, dtype=torch.float64).cpu())

    def masses_from_log_sums(self, layer: LayerAttention, query: Tensor, key: Tensor, log_sums: Tensor) -> Tensor:
        """Computes the masses (head, column) of the reasoning rows.

        The longer of question and reasoning has what is left of 1, so its error is that of the others together: about
        1e-6 in float32, up to 6e-5 in bfloat16 and float16.
        """
        segments = self.groups.segments
        longer = SEGMENTS.index("reasoning" if len(segments.reasoning) >= len(segments.query) else "query")
        columns = self.groups.columns[: segments.reasoning.stop].clone()
        columns[:, longer] = 0
        tokens = columns.any(dim=1).nonzero()[:, 0]
        found = mean_weights(query, key, log_sums, layer, segments.reasoning, tokens) @ columns[tokens]
        found[:, longer] = (1 - found[:, :REFLECTION].sum(dim=1)).clamp(min=0)
        return found

    def keep_reasoning(self, layer: int, means: Tensor) -> None:
        """Adds the masses (head, column) of the reasoning rows to those of the answer rows."""
        means = means[:, : REFLECTION + 1]
        check_finite(means, f"{self.item_id!r}, layer {layer}: masses of the reasoning rows", ("head", "group"))
        self.masses[layer] = replace(self.masses[layer], reasoning=means)


@torch.no_grad()
def masses_in_forward(model: Any, item_id: str, token_ids: Sequence[int], groups: TokenGroups) -> MassRecorder:
    """Measures the masses of one trace by one forward pass over its token ids (final EOS included)."""
    recorder = MassRecorder(item_id, groups, groups.columns.to(model.device, torch.float32))
    with recording(model, recorder):
        forward(model, token_ids)
    return recorder


@functools.lru_cache(maxsize=16)
def even_reading(segments: TraceSegments, rows: range, window: int | None) -> Tensor:
    """Mean weights (token,) of `rows` that attend evenly to all that they see: not to be written to."""
    row = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    low = torch.zeros_like(row) if window is None else (row - window + 1).clamp(min=0)
    change = torch.zeros(segments.n_tokens + 1, dtype=torch.float64)  # of the sum of weights, from token to token
    for places, sign in ((low, 1), (row + 1, -1)):
        change.index_add_(0, places.long(), sign / (row + 1 - low))
    return change.cumsum(0)[:-1].clamp(min=0) / len(rows)


def uniform_share(segments: TraceSegments, rows: range, window: int | None) -> float:
    """Mass on the reasoning, mean over `rows`, of even reading."""
    return float(even_reading(segments, rows, window)[segments.reasoning.start : segments.reasoning.stop].sum())


def sink_free_focus(means: Tensor, segments: TraceSegments, window: int | None) -> Tensor:
    """Computes the log-odds of the mass on the reasoning less those of even reading, sinks left out of both; (head,).

    means: weights (head, token), mean over answer rows. A mass without sinks is that on the reasoning over that on all
    tokens, both without BOS and the keys that are sinks of the layer. Above 0 a head looks at the reasoning more than
    even reading does. NaN where no answer row sees the reasoning.
    """
    kept = means.mean(dim=0) <= SINK_MASS
    kept[0] = False
    inside = torch.zeros_like(kept)
    inside[segments.reasoning.start : segments.reasoning.stop] = True

    def share(weights: Tensor) -> Tensor:
        return (weights * (kept & inside)).sum(-1) / (weights * kept).sum(-1)

    own, even = share(means), share(even_reading(segments, segments.answer, window))
    log_odds = (each.clamp(LEAST_SHARE, 1 - LEAST_SHARE).logit() for each in (own, even))
    return torch.where(even > 0, next(log_odds) - next(log_odds), torch.nan)
