"""Measures of the answer rows: against loops over a whole matrix, and heads whose reading is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from r2a_core.activations.attention import LayerAttention
from r2a_core.attention.masses import PatternBlock, ReasoningWalk
from r2a_core.trace import TraceSegments
from r2a_core.walks import measures as module
from r2a_core.walks.measures import diagonals, distance_profile, excess, layer_reading, local_cover
from r2a_core.walks.ridges import most_parallel, walking_paths

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


def seen_keys(row: int, window: int | None) -> range:
    return range(max(1, 0 if window is None else row - window + 1), row + 1)  # all but BOS, the only sink


def brute_excess(a: np.ndarray, window: int | None) -> tuple[float, float]:
    """Excess of one head beyond even reading and beyond its reading by distance."""
    own, even = {}, {}
    for row in range(27, 47):
        keys = seen_keys(row, window)
        for key in keys:
            at = bin_of(row - key)
            own[at] = own.get(at, 0) + a[row, key]
            even[at] = even.get(at, 0) + a[row, keys.start : row + 1].sum() / len(keys)
    g = {at: own[at] / even[at] for at in own}
    g |= {at: g[max(g)] for at in range(max(g) + 1, bin_of(N) + 1)}
    found = [0.0, 0.0]
    for row in ANSWER:
        keys = seen_keys(row, window)
        inside = [key for key in keys if key in REASONING]
        total = a[row, keys.start : row + 1].sum()
        near = sum(g[bin_of(row - key)] for key in inside) / sum(g[bin_of(row - key)] for key in keys)
        for at, share in enumerate((len(inside) / len(keys), near)):
            found[at] += (a[row, inside].sum() - total * share) / len(ANSWER)
    return found[0], found[1]


@pytest.mark.parametrize("window", [None, 25])
def test_excess_entropy_and_covered_range_equal_loops_over_the_whole_matrix(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2a_core.attention.masses.CPU_ELEMENTS", 1200)  # several blocks
    case = random_layer(window)
    found = layer_reading(*case, segments=SEGMENTS, peak=3.0)
    for head, a in enumerate(matrix(*case)):
        even, distance = brute_excess(a, window)
        assert float(found.even_excess[head]) == pytest.approx(even, abs=1e-5)
        assert float(found.excess[head]) == pytest.approx(distance, abs=1e-5)
        entropies, effective, centroids = [], [], []
        for row in ANSWER:
            keys = [key for key in seen_keys(row, window) if key in REASONING]
            if len(keys) < 2 or a[row, keys].sum() < 0.01:
                continue
            p = a[row, keys] / a[row, keys].sum()
            entropy = -(p * np.log(p)).sum()
            entropies.append(entropy / math.log(len(keys)))
            effective.append(math.exp(entropy))
            if a[row, keys].sum() >= 0.1:
                centroids.append(sum(w * (key - 7 + 0.5) / 40 for w, key in zip(p, keys, strict=True)))
        assert float(found.entropy[head]) == pytest.approx(np.mean(entropies), abs=1e-4)
        assert float(found.effective_tokens[head]) == pytest.approx(np.mean(effective), rel=1e-4)
        assert float(found.covered[head]) == pytest.approx(max(centroids) - min(centroids), abs=1e-4)


def test_what_was_not_captured_is_not_a_number() -> None:
    queries, keys, _, layer = random_layer()
    found = layer_reading(queries[:, 41:], keys, 48, layer, SEGMENTS, peak=3.0)
    assert found.excess.isnan().all()
    assert not found.even_excess.isnan().any()


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
    answer = block_of(weights, ANSWER)
    found = [float(excess(answer, REASONING, sinks, each)) / len(ANSWER) for each in (None, profile)]
    assert found[0] == pytest.approx(even, abs=1e-3)
    assert found[1] == pytest.approx(even if distance is None else distance, abs=2e-3)


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
    found = layer_reading(query, keys, 0, layer, SEGMENTS, peak=3.0)
    assert found.ends == [[19]]  # cell 18..19, of which the middle
    assert found.parallel == [1]
    assert float(found.covered) == pytest.approx(19 / 40)
    assert float(found.effective_tokens) == pytest.approx(1)
    assert float(found.walk) > 0.99
    assert float(found.mass) == pytest.approx(20 / 31)
