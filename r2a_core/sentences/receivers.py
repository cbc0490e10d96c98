"""Which heads gather the attention of later sentences on few earlier ones: vertical scores and their kurtosis.

queries and keys of one layer, sentences of the reasoning -> M (head, sentence s, sentence t): attention weight, mean
over the rows of s and the tokens of t. For each head, of the sentences t that a later one scores:

    vertical score   v(t) = mean of M(s, t) over s >= t + proximity
    kurtosis         of v over t (Fisher's: 0 for a normal distribution, at most n - 5 + 1 / (n - 1) for n sentences)
    ranked           the same, each row s of M first replaced by (rank - 1/2) over its number of scored t
    chance           mean of `ranked` when the t of each row are shuffled
    matched          kurtosis of v at `least` sentences spread evenly over those after the first
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.patterns import pattern_blocks

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Receivers:
    """Kurtosis of each head in one trace, (head,); NaN with too few scored sentences, or where all score alike."""

    kurtosis: Numbers
    ranked: Numbers
    chance: Numbers
    matched: Numbers


def sentence_matrix(
    queries: Tensor, keys: Tensor, first_row: int, layer: LayerAttention, sentences: Sequence[range]
) -> Numbers:
    """Compute M of one layer, (head, s, t). Query row 0 is token `first_row`, at or before the first sentence."""
    tokens = range(sentences[0].start, sentences[-1].stop)
    number = torch.full((tokens.stop,), len(sentences), device=keys.device)  # of the sentence; one more for the rest
    for at, sentence in enumerate(sentences):
        number[sentence.start : sentence.stop] = at
    sums = torch.zeros(layer.n_heads, len(sentences) + 1, len(sentences) + 1, device=keys.device)
    for block in pattern_blocks(queries, keys, first_row, layer, tokens):
        rows, columns = (number[each.start : each.stop] for each in (block.rows, block.keys))
        by_column = sums.new_zeros(layer.n_heads, len(rows), sums.shape[2]).index_add_(2, columns, block.weights)
        sums.index_add_(1, rows, by_column)
    lengths = np.array([len(sentence) for sentence in sentences], dtype=np.float64)
    return sums[:, :-1, :-1].double().cpu().numpy() / lengths[:, None] / lengths


def vertical_scores(matrix: Numbers, proximity: int) -> Numbers:
    """Average each column over the rows at least `proximity` below it: (..., t) for the t that have such rows."""
    n = matrix.shape[-1]
    scored = np.arange(n)[:, None] - np.arange(n - proximity) >= proximity  # (s, t)
    return (matrix[..., : n - proximity] * scored).sum(-2) / scored.sum(0)


def excess_kurtosis(values: Numbers) -> Numbers:
    """Compute Fisher's kurtosis over the last axis, biased; NaN where all values are equal."""
    away = values - values.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (away**4).mean(-1) / (away**2).mean(-1) ** 2 - 3


def receivers(matrix: Numbers, proximity: int, least: int, shuffles: int, generator: np.random.Generator) -> Receivers:
    """Measure the heads of one trace, (head, s, t)."""
    n = matrix.shape[-1] - proximity
    none = np.full(len(matrix), np.nan)
    if n < least:
        return Receivers(none, none, none, none)
    scores, ranks = vertical_scores(matrix, proximity), row_ranks(matrix, proximity)
    shuffled = (permuted(ranks, proximity, generator) for _ in range(shuffles))
    spread = np.linspace(1, n - 1, least).round().astype(int)
    return Receivers(
        excess_kurtosis(scores),
        excess_kurtosis(vertical_scores(ranks, proximity)),
        np.mean([excess_kurtosis(vertical_scores(each, proximity)) for each in shuffled], 0),
        excess_kurtosis(scores[:, spread]) if n > least else none,
    )


def row_ranks(matrix: Numbers, proximity: int) -> Numbers:
    """Replace what is scored of each row by its place among them, in (0, 1), 1/2 on average; the rest by 0."""
    from scipy.stats import rankdata  # takes half a second, which figures need not wait for

    ranks = np.zeros_like(matrix)
    for row in range(proximity, matrix.shape[-1]):
        scored = row - proximity + 1
        ranks[:, row, :scored] = (rankdata(matrix[:, row, :scored], axis=-1) - 0.5) / scored
    return ranks


def permuted(matrix: Numbers, proximity: int, generator: np.random.Generator) -> Numbers:
    """Shuffle what is scored of each row, all heads alike."""
    found = matrix.copy()
    for row in range(proximity, matrix.shape[-1]):
        scored = row - proximity + 1
        found[:, row, :scored] = matrix[:, row, generator.permutation(scored)]
    return found
