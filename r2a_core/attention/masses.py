"""What a layer's rows attend to: mass on segments and sentences, and the walk along the reasoning (paper section 4).

queries (head, row, head_dim) and keys (kv_head, token, head_dim) of one layer -> LayerStatistics: mean attention weight
of each token, over answer rows and over reasoning rows, and the ReasoningWalk (mass, centroid, spread and evenness of
each answer row over the reasoning) -> LayerMasses of token groups. Weights are computed a block of rows at a time, in
float32, whatever the stored type; a block fits into the cache of a CPU, so no matrix of all rows and tokens exists.

model, token ids, token groups -> the same LayerMasses from one forward pass (`masses_in_forward`), nothing stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from r2a_core.activations.attention import LayerAttention, Recorder, recording, rows_per_block, visible_keys
from r2a_core.activations.capture import forward
from r2a_core.activations.store import RecordedTrace
from r2a_core.infra.checks import check_finite
from r2a_core.trace import SEGMENTS, TraceSegments

CPU_ELEMENTS = 1_000_000  # attention weights a block: 4 MB

GPU_ELEMENTS = 64_000_000  # attention weights a block: 256 MB

SINK_MASS = 0.3  # a key with more attention, mean over answer rows and a layer's heads, is a sink, as BOS always is

LEAST_SHARE = 1e-4  # log-odds of a mass nearer to 0 or 1 are those of this

ALIGNED = 16  # blocks end at multiples of as many keys, which are quicker to compute with

REFLECTION = len(SEGMENTS)  # column of reflection phrases, after those of the segments

MASKED_LOGIT = -1e30  # logit of a key that a row does not see; its weight is exactly 0


@dataclass(frozen=True)
class PatternBlock:
    """Consecutive rows of one layer and the keys that they see."""

    rows: range  # tokens
    keys: range  # tokens; from the first key that any row sees to the last row's own
    logits: Tensor  # (head, row, key), before the softmax, MASKED_LOGIT where the row does not see the key
    weights: Tensor  # (head, row, key), attention weight; sums to 1 over keys (to less with sinks)


def pattern_blocks(
    queries: Tensor, keys: Tensor, first_row: int, layer: LayerAttention, rows: range, max_elements: int | None = None
) -> Iterator[PatternBlock]:
    """Blocks over the tokens `rows`, in order. Query row 0 is token `first_row`; `rows` must lie within the queries.

    Runs on the device of the queries.
    """
    n_heads, n_rows, head_dim = queries.shape
    assert (n_heads, head_dim, keys.shape[0]) == (layer.n_heads, layer.head_dim, layer.n_kv_heads)
    assert first_row <= rows.start <= rows.stop <= min(first_row + n_rows, keys.shape[1])
    elements = max_elements or (CPU_ELEMENTS if queries.device.type == "cpu" else GPU_ELEMENTS)
    step = rows_per_block(elements // n_heads, rows.stop, layer.window)
    keys = keys[:, : rows.stop].float()
    start = rows.start
    while start < rows.stop:
        stop = start + step
        stop = min(stop - stop % ALIGNED if step > ALIGNED else stop, rows.stop)
        low = 0 if layer.window is None else max(0, start - layer.window + 1)
        query = queries[:, start - first_row : stop - first_row].float()
        logits = block_logits(query, keys[:, low:stop], layer)
        mixed = low if layer.window is not None else start  # every row sees all keys from low to here
        unseen = ~visible_keys(start, stop, mixed, layer.window, logits.device)
        logits[:, :, mixed - low :].masked_fill_(unseen, MASKED_LOGIT)
        yield PatternBlock(range(start, stop), range(low, stop), logits, softmax_with_sinks(logits, layer))
        start = stop


def block_logits(query: Tensor, key: Tensor, layer: LayerAttention) -> Tensor:
    """Computes attention logits (head, row, key); the query heads of a KV group share its keys."""
    n_kv, n_keys, head_dim = key.shape
    grouped = (query * layer.scaling).reshape(n_kv, -1, head_dim)
    logits = torch.bmm(grouped, key.transpose(1, 2)).reshape(layer.n_heads, -1, n_keys)
    return logits if layer.softcap is None else layer.softcap * torch.tanh(logits / layer.softcap)


def softmax_with_sinks(logits: Tensor, layer: LayerAttention) -> Tensor:
    """Computes the softmax over keys; a sink's share is left out of the result."""
    if layer.sinks is None:
        return torch.softmax(logits, dim=-1)
    sinks = torch.tensor(layer.sinks, device=logits.device)[:, None, None].expand(-1, logits.shape[1], 1)
    return torch.softmax(torch.cat([logits, sinks], dim=-1), dim=-1)[..., :-1]


LEAST_WEIGHT = 1e-30  # attention weight

LEAST_MOVE = 1e-6  # fraction of the reasoning: a centroid that moves less stays put


@dataclass(frozen=True)
class ReasoningWalk:
    """Attention inside the reasoning of each answer row: its mass, and what it is with weights scaled to sum 1.

    Positions are token centres as fractions 0..1 of the reasoning. NaN, and a mass of 0, where a row sees no reasoning
    token (sliding windows).
    """

    mass: Tensor  # (head, answer row), attention weight on the reasoning
    centroid: Tensor  # (head, answer row), mean position
    spread: Tensor  # (head, answer row), standard deviation of the position
    evenness: Tensor  # (head, answer row), exp(entropy) / reasoning tokens seen: 1 = uniform, 1/n = one token


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
) -> LayerStatistics:
    """Statistics of one layer, of its reasoning rows too where they are wanted and given.

    queries (head, row, head_dim), row 0 being token `first_row`; keys (kv_head, token, head_dim).
    """
    answer = keys.new_zeros((layer.n_heads, keys.shape[1]), dtype=torch.float64)
    walks = []
    for block in pattern_blocks(queries, keys, first_row, layer, segments.answer):
        answer[:, block.keys.start : block.keys.stop] += block.weights.sum(dim=1)
        if len(segments.reasoning):
            walks.append(block_walk(block, segments.reasoning, layer.window))
    reasoning = None
    if reasoning_rows and len(segments.reasoning) and first_row <= segments.reasoning.start:
        reasoning = torch.zeros_like(answer)
        for block in pattern_blocks(queries, keys, first_row, layer, segments.reasoning):
            reasoning[:, block.keys.start : block.keys.stop] += block.weights.sum(dim=1)
        reasoning = (reasoning / len(segments.reasoning)).cpu()
    return LayerStatistics((answer / len(segments.answer)).cpu(), reasoning, join_walks(walks) if walks else None)


def block_walk(block: PatternBlock, reasoning: range, window: int | None) -> ReasoningWalk:
    """Computes the walk of the rows of one block, all of them after the reasoning."""
    seen = range(max(block.keys.start, reasoning.start), reasoning.stop)
    if not len(seen):
        nothing = block.logits.new_full(block.logits.shape[:2], torch.nan)
        return ReasoningWalk(torch.zeros_like(nothing), nothing, nothing, nothing)
    inside = slice(seen.start - block.keys.start, seen.stop - block.keys.start)
    logits, weights = block.logits[:, :, inside], block.weights[:, :, inside]
    peak, largest, mass = logits.amax(dim=-1), weights.amax(dim=-1), weights.sum(dim=-1)
    if (largest < LEAST_WEIGHT).any():  # too little mass to be scaled up from float32
        weights, largest = (logits - peak[..., None]).exp(), torch.ones_like(peak)
    place = (torch.arange(seen.start, seen.stop, device=logits.device) - reasoning.start + 0.5) / len(reasoning)
    middle = place.mean()  # moments about the middle lose less to rounding
    moments = torch.stack([torch.ones_like(place), place - middle, (place - middle) ** 2])
    total, first, second = linear(weights, moments).unbind(-1)
    first, second = first / total, second / total
    entropy = (total / largest).log() + peak - torch.linalg.vecdot(weights, logits) / total
    rows = torch.arange(block.rows.start, block.rows.stop, device=logits.device)
    count = torch.full_like(rows, len(seen)) if window is None else (reasoning.stop - rows + window - 1)
    count = count.clamp(min=0, max=len(reasoning))  # reasoning tokens that each row sees
    walk = (first + middle, (second - first**2).clamp(min=0).sqrt(), (entropy.exp() / count).clamp(max=1))
    return ReasoningWalk(mass, *(torch.where(count > 0, part, torch.nan) for part in walk))


def join_walks(walks: list[ReasoningWalk]) -> ReasoningWalk:
    """Joins the walks of consecutive blocks, on the CPU."""
    parts = ([getattr(walk, name) for walk in walks] for name in ("mass", "centroid", "spread", "evenness"))
    return ReasoningWalk(*(torch.cat(part, dim=1).cpu() for part in parts))


@dataclass(frozen=True)
class TokenGroups:
    """The tokens of a trace whose attention mass is measured."""

    segments: TraceSegments
    reflection: Sequence[range]  # reflection phrases of the reasoning
    sentences: Sequence[range]  # of the reasoning

    def columns(self) -> Tensor:
        """Counts how often each token is in a segment (SEGMENTS) or a reflection phrase: (token, 8), the last one 0."""
        columns = torch.zeros(self.segments.n_tokens, 8)
        for column, tokens in enumerate(self.segments.ranges().values()):
            columns[tokens.start : tokens.stop, column] = 1
        for tokens in self.reflection:
            columns[tokens.start : tokens.stop, REFLECTION] += 1
        return columns


@dataclass(frozen=True)
class LayerMasses:
    """Attention mass of one layer on token groups, mean over rows; float64.

    (head, SEGMENTS and then reflection): segments sum to 1, to less with sinks.
    """

    answer: Tensor
    reasoning: Tensor | None  # of reasoning rows; None where they were not captured or there are none
    sentences: Tensor  # (head, sentence), of answer rows
    focus: Tensor  # (head,), of answer rows; see `sink_free_focus`
    walk: ReasoningWalk | None  # of answer rows; None without reasoning tokens


def masses(means: Tensor, groups: Mapping[str, range]) -> dict[str, Tensor]:
    """Mass of each token range, (head,), from mean weights (head, token)."""
    return {name: means[:, tokens.start : tokens.stop].sum(dim=1) for name, tokens in groups.items()}


def group_masses(means: Tensor, groups: TokenGroups) -> Tensor:
    """Computes masses (head, SEGMENTS and then reflection) from mean weights (head, token)."""
    reflection = means[:, [token for tokens in groups.reflection for token in tokens]].sum(dim=1)
    return torch.stack([*masses(means, groups.segments.ranges()).values(), reflection], dim=1)


def layer_masses(statistics: LayerStatistics, groups: TokenGroups, window: int | None, place: str) -> LayerMasses:
    """Computes the masses from the statistics of a layer. Raises R2AError, naming the place, at a NaN or inf."""
    check_statistics(statistics, place)
    reasoning = None if statistics.reasoning is None else group_masses(statistics.reasoning, groups)
    by_sentence = [statistics.answer[:, tokens.start : tokens.stop].sum(dim=1) for tokens in groups.sentences]
    sentences = torch.stack(by_sentence, dim=1) if by_sentence else statistics.answer[:, :0]
    focus = sink_free_focus(statistics.answer, groups.segments, window)
    return LayerMasses(group_masses(statistics.answer, groups), reasoning, sentences, focus, statistics.walk)


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
    attention, in the model's precision: its values gain a column per token group, 1 on the group's tokens, and what
    comes out in that column is a row's mass on the group.
    """

    item_id: str
    groups: TokenGroups
    columns: Tensor  # of the groups
    layers: dict[int, LayerAttention] = field(default_factory=dict)
    masses: dict[int, LayerMasses] = field(default_factory=dict)

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor) -> None:
        statistics = row_statistics(query, key, 0, layer, self.groups.segments, reasoning_rows=False)
        self.layers[layer.layer] = layer
        place = f"{self.item_id!r}, layer {layer.layer}"
        self.masses[layer.layer] = layer_masses(statistics, self.groups, layer.window, place)

    def weighted_sums(self, layer: int, sums: Tensor) -> None:
        rows = self.groups.segments.reasoning
        if len(rows):
            means = sums[rows.start : rows.stop].mean(dim=0, dtype=torch.float64).cpu()[:, : REFLECTION + 1]
            check_finite(means, f"{self.item_id!r}, layer {layer}: masses of the reasoning rows", ("head", "group"))
            self.masses[layer] = replace(self.masses[layer], reasoning=means)


@torch.no_grad()
def masses_in_forward(model: Any, item_id: str, token_ids: Sequence[int], groups: TokenGroups) -> MassRecorder:
    """Measures the masses of one trace by one forward pass over its token ids (final EOS included)."""
    recorder = MassRecorder(item_id, groups, groups.columns().to(model.device))
    with recording(model, recorder):
        forward(model, token_ids)
    return recorder


def walk_correlation(centroid: Tensor) -> Tensor:
    """Computes Pearson's r between answer row and centroid, (head,), over rows that see the reasoning: all count alike.

    centroid (head, answer row). NaN with fewer than 3 such rows or where the centroid stays put.
    """
    seen = ~centroid.isnan()
    count = seen.sum(dim=1, keepdim=True)
    row = torch.arange(centroid.shape[1], dtype=torch.float64).expand(centroid.shape)

    def centred(values: Tensor) -> Tensor:
        values = torch.where(seen, values.double(), 0.0)
        return torch.where(seen, values - values.sum(dim=1, keepdim=True) / count, 0.0)

    x, y = centred(row), centred(centroid)
    scale = (x.pow(2).sum(dim=1) * y.pow(2).sum(dim=1)).sqrt()
    still = (count[:, 0] < 3) | (y.abs().amax(dim=1) < LEAST_MOVE)
    return torch.where(still, torch.nan, (x * y).sum(dim=1) / scale)


@dataclass(frozen=True)
class WeightedWalk:
    """Pearson's r of answer row and centroid, each row counted by its mass on the reasoning, and its null; (head,).

    The null: all circular shifts of the rows (centroid and mass together) against their positions, the shift by 0 among
    them. It keeps what neighbouring rows share, and loses where in the answer they stand. NaN, save for
    `effective_rows`, with fewer than 3 effective rows or where the centroid stays put.
    """

    correlation: Tensor
    effective_rows: Tensor  # (sum of masses)^2 / sum of squared masses: how many rows look at the reasoning
    null_mean: Tensor  # of r over the shifts
    null_sd: Tensor
    p: Tensor  # share of the shifts whose r is as high; 1 / rows at least


ROUNDING = 1e-9  # below it two correlations, or two numbers of rows, are the same


def weighted_walk(centroid: Tensor, mass: Tensor) -> WeightedWalk:
    """Computes the weighted walk of each head. centroid, mass: (head, answer row), see ReasoningWalk."""
    seen = ~centroid.isnan()
    weight, y = (torch.where(seen, values.double(), 0.0) for values in (mass, centroid))
    effective = (weight.sum(dim=1) ** 2 / weight.pow(2).sum(dim=1)).nan_to_num(0.0)
    weight = weight / weight.sum(dim=1, keepdim=True)
    y = y - (weight * y).sum(dim=1, keepdim=True)
    deviation = (weight * y.pow(2)).sum(dim=1, keepdim=True).sqrt()
    x = torch.linspace(-1, 1, centroid.shape[1], dtype=torch.float64)
    rows = torch.stack([weight, weight, weight * y])  # (moment, head, row)
    places = torch.stack([x, x * x, x])[:, None]
    spectra = torch.fft.rfft(places).conj() * torch.fft.rfft(rows)
    first, second, product = torch.fft.irfft(spectra, n=len(x))  # (head, shift), sums over rows
    r = (product / ((second - first**2).clamp(min=0).sqrt() * deviation)).clamp(-1, 1)
    still = (effective < 3 - ROUNDING) | ~(deviation[:, 0] >= LEAST_MOVE)
    as_high = (r >= r[:, :1] - ROUNDING).double().mean(dim=1)
    found = (r[:, 0], r.mean(dim=1), r.std(dim=1, correction=0), as_high)
    correlation, *null = (torch.where(still, torch.nan, values) for values in found)
    return WeightedWalk(correlation, effective, *null)


def even_reading(segments: TraceSegments, rows: range, window: int | None) -> Tensor:
    """Mean weights (token,) of `rows` that attend evenly to all that they see."""
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
