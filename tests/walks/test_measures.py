"""Measures of rows: against loops over a whole matrix, and heads whose reading is known."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from r2a_core.activations.capture import capture_trace
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.attention.patterns import PatternBlock
from r2a_core.attention.walk import ReasoningWalk
from r2a_core.trace import TraceSegments
from r2a_core.walks import measures as module
from r2a_core.walks.measures import LayerReading, diagonals, layer_readings, local_cover
from r2a_core.walks.part_reading import PartReading, distance_profile, excesses
from r2a_core.walks.ridges import most_parallel, walking_paths
from r2a_core.walks.summary import READING
from tests.attention import cases as attention_cases
from tests.attention.cases import eager_patterns
from tests.small_models import EVERY_KIND, kept, stored_reader

SEGMENTS = TraceSegments(think_open=6, think_close=47, n_tokens=80)  # reasoning 7..46, answer 48..78
REASONING, ANSWER = range(7, 47), range(48, 79)
N = SEGMENTS.n_tokens


def random_layer(window: int | None = None, first_row: int = 7) -> Any:
    draw = torch.Generator().manual_seed(3)
    layer = LayerAttention(0, 4, 2, 8, 0.7, window=window)
    return torch.randn(4, N - first_row, 8, generator=draw), torch.randn(2, N, 8, generator=draw), first_row, layer


def matrix(queries: torch.Tensor, keys: torch.Tensor, first_row: int, layer: LayerAttention) -> np.ndarray:
    """All weights (head, row, key), rows before the first captured one zero."""
    weights = np.zeros((layer.n_heads, N, N))
    for head in range(layer.n_heads):
        for row in range(first_row, N):
            low = 0 if layer.window is None else max(0, row - layer.window + 1)
            key = keys[head // 2, low : row + 1].double()
            weights[head, row, low : row + 1] = (
                (layer.scaling * key @ queries[head, row - first_row].double()).softmax(0).numpy()
            )
    return weights


def bin_of(distance: int) -> int:
    return distance if distance < 16 else 16 + math.floor(8 * math.log2(distance / 16))


VIEWS = ("answer", "question", "earlier_reasoning")


def read_by(view: str, segments: TraceSegments) -> tuple[range, range]:
    """The rows of a view, and the tokens that they read."""
    rows = segments.answer if view == "answer" else segments.reasoning
    return rows, segments.query if view == "question" else segments.reasoning


def sinks_of(weights: np.ndarray, segments: TraceSegments) -> set[int]:
    answer = weights[:, segments.answer.start : segments.answer.stop]
    return {0, *np.flatnonzero(answer.mean((0, 1)) > 0.3).tolist()}


def by_loops(a: np.ndarray, view: str, segments: TraceSegments, sinks: set[int], window: int | None) -> list[float]:
    """Mass, excess beyond even reading and beyond reading by distance, entropy and effective tokens of one head."""

    def seen_keys(row: int) -> list[int]:
        return list(range(0 if window is None else max(0, row - window + 1), row + 1))

    def kept_keys(row: int) -> list[int]:
        return [key for key in seen_keys(row) if key not in sinks]

    own, even = {}, {}
    reasoning = segments.reasoning
    for row in range(reasoning.start + len(reasoning) // 2, reasoning.stop):
        for key in kept_keys(row):
            at = bin_of(row - key)
            own[at] = own.get(at, 0) + a[row, key]
            even[at] = even.get(at, 0) + a[row, kept_keys(row)].sum() / len(kept_keys(row))
    g = {at: own[at] / even[at] for at in own}
    g |= {at: g[max(each for each in g if each <= at)] for at in range(bin_of(segments.n_tokens) + 1) if at not in g}
    rows, tokens = read_by(view, segments)
    means = np.zeros(3)
    entropies = []
    for row in rows:
        keys = kept_keys(row)
        inside = [key for key in keys if key in tokens and key != row]
        near = [g[bin_of(row - key)] for key in keys]
        shares = len(inside) / len(keys), sum(g[bin_of(row - key)] for key in inside) / sum(near)
        excesses = [a[row, inside].sum() - a[row, keys].sum() * share for share in shares]
        read = [key for key in seen_keys(row) if key in tokens and key != row]
        means += np.array([a[row, read].sum(), *excesses]) / len(rows)
        if len(read) > 1 and a[row, read].sum() >= 0.01:
            p = a[row, read] / a[row, read].sum()
            entropy = -(p * np.log(p.clip(1e-300))).sum()
            entropies.append((entropy / math.log(len(read)), math.exp(entropy)))
    return [*means, *np.mean(entropies, axis=0)]


def check(found: PartReading, weights: np.ndarray, view: str, segments: TraceSegments, window: int | None) -> None:
    sinks = sinks_of(weights, segments)
    expected = np.array([by_loops(a, view, segments, sinks, window) for a in weights]).T
    assert expected.std(1).min() > 0
    for name, values in zip(READING, expected, strict=True):
        np.testing.assert_allclose(getattr(found, name).numpy(), values, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("window", [None, 25])
def test_reading_and_covered_range_equal_loops_over_the_whole_matrix(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2a_core.attention.patterns.CPU_ELEMENTS", 1200)  # several blocks
    case = random_layer(window)
    found, weights = layer_readings(*case, segments=SEGMENTS, peak=3.0, views=VIEWS), matrix(*case)
    for view in VIEWS:
        check(found[view], weights, view, SEGMENTS, window)
    answer = found["answer"]
    assert isinstance(answer, LayerReading)
    for head, a in enumerate(weights):
        inside = a[ANSWER.start : ANSWER.stop, REASONING.start : REASONING.stop]
        mass = inside.sum(1)
        centroid = inside[mass >= 0.1] @ (np.arange(40) + 0.5) / 40 / mass[mass >= 0.1]
        assert float(answer.covered[head]) == pytest.approx(centroid.max() - centroid.min(), abs=1e-4)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_reading_of_every_view_equals_that_of_eager_attention(tiny_model: Any, kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    segments, patterns = attention_cases.SEGMENTS, eager_patterns(model, attention_cases.IDS).double().numpy()
    trace = capture_trace(model, attention_cases.IDS, segments, kept("answer_and_reasoning", "float32"))
    shard = stored_reader(tmp_path, [trace.record("x", attention_cases.IDS)]).trace("x")
    for layer, attention in shard.layers.items():
        queries, keys = shard.queries(layer), shard.keys(layer)
        found = layer_readings(queries, keys, shard.first_row, attention, segments, 3.0, VIEWS)
        for view in VIEWS:
            check(found[view], patterns[layer], view, segments, attention.window)


def test_rows_of_the_reasoning_by_hand() -> None:
    """Reasoning 4..6. Head 0 reads all evenly, head 1 the first token of the question, elsewhere each row itself."""
    close = partial(pytest.approx, abs=1e-6)
    segments = TraceSegments(think_open=3, think_close=7, n_tokens=10)
    keys = 60 * torch.eye(10)[None]
    query = torch.stack([torch.zeros(10, 10), torch.eye(10)[[0, 1, 2, 3, 1, 1, 1, 7, 8, 9]]])
    layer = LayerAttention(0, 2, 1, 10, 1.0)
    found = layer_readings(query, keys, 0, layer, segments, 3.0, VIEWS)
    question, earlier = found["question"], found["earlier_reasoning"]
    thirds = [2 / 5, 2 / 6, 2 / 7]  # two tokens of the question, of 5, 6 and 7 that rows 4, 5 and 6 see
    assert question.mass.tolist() == close([sum(thirds) / 3, 1])
    assert question.entropy.tolist() == close([1, 0])
    assert question.effective_tokens.tolist() == close([2, 1])
    assert question.even_excess.tolist() == close([0, 1 - (2 / 4 + 2 / 5 + 2 / 6) / 3])  # BOS left out
    assert earlier.mass.tolist() == close([(0 + 1 / 6 + 2 / 7) / 3, 0])  # a row's own token does not count
    assert earlier.even_excess.tolist() == close([0, -(0 + 1 / 5 + 2 / 6) / 3])
    assert earlier.effective_tokens[0] == close(2)  # of the one row that sees two
    assert [float(each.excess[0]) for each in found.values()] == close([0, 0, 0])


def test_what_was_not_captured_is_not_a_number() -> None:
    queries, keys, _, layer = random_layer()
    found = layer_readings(queries[:, 41:], keys, 48, layer, SEGMENTS, peak=3.0, views=VIEWS)
    assert list(found) == ["answer"]
    assert found["answer"].excess.isnan().all()
    assert not found["answer"].even_excess.isnan().any()


def block_of(weights: np.ndarray, rows: range) -> PatternBlock:
    """A block of given weights (row, key), one head, causal."""
    seen = torch.ones(N, N, dtype=torch.bool).tril()[rows.start : rows.stop]
    values = torch.from_numpy(weights[None, rows.start : rows.stop]).float()
    return PatternBlock(rows, range(N), torch.where(seen, 0.0, -1e30)[None], values)


def one_token(row: int, key: int) -> float:
    return 31.0 if key == 20 and row in ANSWER else 1.0


@pytest.mark.parametrize(
    ("reads", "even", "distance"),
    [
        (lambda row, key: 1.0, 0.0, 0.0),  # evenly
        (lambda row, key: 0.8 ** (row - key), -0.136, 0.0),  # what is near
        (one_token, sum((70 / (row + 30) - 40 / row) / 4 for row in ANSWER) / 31, None),
    ],
)
def test_a_head_that_reads_evenly_or_what_is_near_has_no_excess(reads: Any, even: float, distance: float) -> None:
    sinks = torch.zeros(N, dtype=torch.bool)
    sinks[0] = True
    weights = np.zeros((N, N))
    for row in range(N):
        weights[row, 1 : row + 1] = [reads(row, key) for key in range(1, row + 1)]
        weights[row, 0] = 3 * weights[row].sum() + (row == 0)  # three quarters on the sink
        weights[row] /= weights[row].sum()
    profile = distance_profile([block_of(weights, range(27, 47))], sinks)
    found = [float(each.mean()) for each in excesses(block_of(weights, ANSWER), [REASONING], sinks, profile)]
    assert found[0] == pytest.approx(even, abs=1e-3)
    assert found[1] == pytest.approx(even if distance is None else distance, abs=2e-3)
    _, near = excesses(block_of(weights, REASONING), [SEGMENTS.query, REASONING], sinks, profile)
    assert near.mean((1, 2)).tolist() == pytest.approx([0, 0], abs=5e-3)


def walk(centroid: list[float], mass: list[float] | None = None) -> ReasoningWalk:
    c = torch.tensor([centroid])
    m = torch.ones_like(c) if mass is None else torch.tensor([mass])
    return ReasoningWalk(m, c, c, c)


def test_diagonal_and_local_cover_by_hand() -> None:
    places = [row / 9 for row in range(10)]
    assert [float(each) for each in diagonals(walk(places))] == pytest.approx([1, 0.18])  # of ten shifts two reach 0.4
    assert float(diagonals(walk([0.5] * 10))[0]) == pytest.approx(1 - 3 * 5 / 18)
    assert float(diagonals(walk([0.0, 0.9, 1.0], [1, 0, 1]))[0]) == pytest.approx(1)  # the second row does not look
    assert float(diagonals(walk([float("nan"), 0.5, 1.0]))[0]) == pytest.approx(1)
    assert float(local_cover(walk(places))) == 1
    assert float(local_cover(walk(places[::-1]))) == 0
    assert float(local_cover(walk([0.5] * 10))) == 0  # stays put
    assert local_cover(walk(places[:7])).isnan().all()
    turns = [*places, *places[::-1]]  # 13 windows of 8 rows; the middle one is level
    assert float(local_cover(walk(turns))) == pytest.approx(6 / 13)


def test_two_parallel_paths_are_found_with_their_ends_and_what_does_not_walk_is_not() -> None:
    shares = np.full((20, 40), 0.002)
    for row in range(20):
        shares[row, row] = 0.3  # walks to cell 19
        if row < 12:
            shares[row, 20 + row] = 0.3  # walks beside it to cell 31
        shares[row, 39] = 0.3  # stays
    shares[5] = 0.025  # a row without peaks breaks nothing
    looks = np.ones(20, bool)
    paths = walking_paths(shares, looks, np.full(40, 1 / 40), 3.0)
    assert sorted((path.rows[0], path.rows[-1], path.cells[-1]) for path in paths) == [(0, 11, 31), (0, 19, 19)]
    assert most_parallel(paths) == 2
    assert walking_paths(shares[::-1], looks, np.full(40, 1 / 40), 3.0) == []
    looks[6:] = False
    assert walking_paths(shares, looks, np.full(40, 1 / 40), 3.0) == []  # six rows are no walk
    assert most_parallel([]) == 0


def test_a_head_that_walks_two_tokens_at_a_time_is_measured_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", 20)  # two tokens each
    keys = 60 * torch.eye(N)[None]
    query = torch.eye(N)[[7 + row if row in range(20) else 0 for row in range(-48, N - 48)]][None]
    layer = LayerAttention(0, 1, 1, N, 1.0)
    found = layer_readings(query, keys, 0, layer, SEGMENTS, peak=3.0, views=["answer"])["answer"]
    assert isinstance(found, LayerReading)
    assert found.ends == [[19]]  # cell 18..19, of which the middle
    assert found.parallel == [1]
    assert float(found.covered) == pytest.approx(19 / 40)
    assert float(found.effective_tokens) == pytest.approx(1)
    assert float(found.walk) > 0.99
    assert float(found.mass) == pytest.approx(20 / 31)
