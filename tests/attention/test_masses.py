"""Masses and walks against eager attention, against brute force and against cases that can be done by hand."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.activations.attention import recording
from r2a_core.activations.capture import capture_trace
from r2a_core.activations.layer_attention import LayerAttention, LayerCall, MaskSpec, causal_sdpa_with_log_sums
from r2a_core.attention.masses import (
    LEAST_SHARE,
    REFLECTION,
    MassRecorder,
    TokenGroups,
    even_reading,
    layer_statistics,
    masses_in_forward,
    row_statistics,
    sink_free_focus,
    uniform_share,
)
from r2a_core.attention.patterns import pattern_blocks
from r2a_core.attention.walk import walk_correlation, weighted_walk
from r2a_core.trace import TraceSegments
from tests.attention.cases import IDS, SEGMENTS, eager_patterns, masses, pointing
from tests.small_models import EVERY_KIND, kept, stored_reader

SOURCES = {"answer": SEGMENTS.answer, "reasoning": SEGMENTS.reasoning}
NAN = float("nan")
PLAIN = LayerAttention(0, n_heads=4, n_kv_heads=2, head_dim=8, scaling=0.5)


def expected_masses(patterns: torch.Tensor, rows: range) -> torch.Tensor:
    sums = [patterns[:, :, rows.start : rows.stop, r.start : r.stop].sum(-1) for r in SEGMENTS.ranges().values()]
    return torch.stack(sums, dim=-1).mean(dim=2)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_masses_equal_eager_attention(tiny_model, kind, tmp_path):
    """In a forward pass and from bfloat16 shards, reflection and sentences too; token 9 counts for both phrases."""
    model, sentences = tiny_model(kind), [range(7, 12), range(12, 22)]
    reflection = [range(8, 10), range(9, 11)]
    patterns = eager_patterns(model, IDS).double()
    found = masses_in_forward(model, "x", IDS, TokenGroups(SEGMENTS, reflection, sentences)).masses
    answer, reasoning = (torch.stack([getattr(found[layer], name) for layer in (0, 1)]) for name in SOURCES)
    trace = capture_trace(model, IDS, SEGMENTS, kept("answer_and_reasoning", "bfloat16"))
    shard = stored_reader(tmp_path, [trace.record("x", IDS)]).trace("x")
    stored = [layer_statistics(shard, layer) for layer in (0, 1)]
    for (source, rows), masses_found in zip(SOURCES.items(), (answer, reasoning), strict=True):
        expected = expected_masses(patterns, rows)
        assert expected.std() > 0.1
        torch.testing.assert_close(masses_found[..., :REFLECTION], expected, atol=1e-5, rtol=0)
        rounded = torch.stack([getattr(each, source) for each in stored])
        parts = torch.stack([rounded[..., r.start : r.stop].sum(-1) for r in SEGMENTS.ranges().values()], dim=-1)
        torch.testing.assert_close(parts, expected, atol=2e-3, rtol=0)
        means = patterns[:, :, rows.start : rows.stop].mean(2)
        torch.testing.assert_close(masses_found[..., REFLECTION], means[..., [8, 9, 9, 10]].sum(-1), atol=1e-5, rtol=0)
        if kind != "gpt_oss":
            assert (masses_found[..., :REFLECTION].sum(-1) - 1).abs().max() < 1e-5
    assert reasoning[..., 4:6].abs().max() == 0
    by_sentence = torch.stack([found[layer].sentences for layer in (0, 1)]).sum(-1)
    torch.testing.assert_close(by_sentence, answer[..., 3])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("segments", [SEGMENTS, TraceSegments(think_open=20, think_close=27, n_tokens=33)])
def test_masses_are_the_same_by_log_sums_and_by_columns_and_the_pass_is_that_of_sdpa(
    tiny_model, monkeypatch, segments, dtype
):
    """With more reasoning than question, and less. Weights that a query position does not see count in neither."""
    model = deepcopy(tiny_model("qwen2")).to(getattr(torch, dtype))
    start = segments.reasoning.start
    groups = TokenGroups(segments, [range(start, start + 2), range(start + 4, start + 5)], [segments.reasoning])
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        plain = model(torch.tensor([IDS])).logits
    monkeypatch.setattr("r2a_core.attention.masses.CPU_ELEMENTS", 100)  # more than one block
    recorder = MassRecorder("x", groups, groups.columns)
    with torch.no_grad(), recording(model, recorder):
        assert torch.equal(model(torch.tensor([IDS])).logits, plain)
    monkeypatch.setattr("r2a_core.activations.attention.causal_sdpa_with_log_sums", lambda *_: None)
    by_columns = masses_in_forward(model, "x", IDS, groups).masses
    for layer, found in recorder.masses.items():
        other = by_columns[layer]
        atol = 1e-5 if dtype == "float32" else 5e-3
        torch.testing.assert_close(found.reasoning, other.reasoning, atol=atol, rtol=0)
        torch.testing.assert_close(found.answer, other.answer, atol=atol, rtol=0)
        assert found.walk is not None
        assert other.walk is not None
        assert found.reasoning is not None
        torch.testing.assert_close(found.walk.evenness, other.walk.evenness, atol=atol, rtol=0)
        assert found.reasoning[:, REFLECTION].max() > 0.1
        assert found.reasoning[:, 4:6].abs().max() == 0


@pytest.mark.parametrize(
    ("dtype", "atol"), [("float64", 1e-6), ("float32", 1e-6), ("bfloat16", 6e-5), ("float16", 6e-5)]
)
def test_masses_by_log_sums_equal_those_of_float64_on_heads_with_and_without_a_sink(dtype, atol):
    segments = TraceSegments(think_open=40, think_close=500, n_tokens=600)
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, n, 600, 16, generator=generator) for n in (4, 2))
    query[..., 0], key[..., 0] = 1, 0
    key[0, :, 0, 0] = torch.tensor([0.0, 60.0])  # the heads of the second group give BOS nearly all
    query, key = (each.to(getattr(torch, dtype)) for each in (query, key))
    layer = LayerAttention(0, 4, 2, 16, 0.25)
    mask = MaskSpec(torch.arange(600), None)
    z_and_log_sums = causal_sdpa_with_log_sums(LayerCall(layer, None), query, key, key, mask)
    assert z_and_log_sums is not None
    groups = TokenGroups(segments, [range(60, 62), range(499, 500)], [])
    recorder = MassRecorder("x", groups, groups.columns)
    recorder.attention(layer, query[0], key[0], z_and_log_sums[1][0])
    logits = 0.25 * query[0].double() @ key[0].double().repeat_interleave(2, 0).mT
    weights = logits.masked_fill(~torch.ones(600, 600, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    expected = weights[:, 41:500].mean(1) @ groups.columns[:, : REFLECTION + 1]
    assert expected[2:, 0].min() > 0.95 > 0.1 > expected[:2, 0].max()
    torch.testing.assert_close(recorder.masses[0].reasoning, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])
def test_walk_equals_brute_force(tiny_model, kind):
    model = tiny_model(kind)
    trace = capture_trace(model, IDS, SEGMENTS, kept("answer"))
    layer = 1
    inside = eager_patterns(model, IDS).double()[layer, :, 23:32, 7:22].numpy()
    mass = inside.sum(-1)
    inside = inside / mass[..., None]
    place = (np.arange(15) + 0.5) / 15
    centroid = inside @ place
    spread = np.sqrt((inside * (place - centroid[..., None]) ** 2).sum(-1))
    evenness = np.exp(-(inside * np.log(np.clip(inside, 1e-300, 1))).sum(-1)) / 15
    walk = layer_statistics(trace, layer).walk
    assert walk is not None
    np.testing.assert_allclose(walk.mass, mass, atol=1e-5)
    np.testing.assert_allclose(walk.centroid, centroid, atol=1e-5)
    np.testing.assert_allclose(walk.spread, spread, atol=1e-4)
    np.testing.assert_allclose(walk.evenness, evenness, atol=1e-5)
    expected = [np.corrcoef(np.arange(9), row)[0, 1] for row in centroid]
    np.testing.assert_allclose(walk_correlation(walk.centroid), expected, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    bounds=st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 6)),
    window=st.none() | st.integers(1, 30),
    softcap=st.none() | st.floats(0.5, 50),
    sharpness=st.sampled_from([0.0, 1.0, 40.0]),
    elements=st.sampled_from([1, 100, 10**6]),
    seed=st.integers(0, 99),
)
def test_segment_masses_sum_to_one(bounds, window, softcap, sharpness, elements, seed):
    query, reasoning, answer = bounds
    segments = TraceSegments(query, query + reasoning, query + reasoning + answer + 2)
    generator = torch.Generator().manual_seed(seed)
    q = sharpness * torch.randn(4, segments.n_tokens, 8, generator=generator)
    k = torch.randn(2, segments.n_tokens, 8, generator=generator)
    layer = LayerAttention(0, 4, 2, 8, 0.35, softcap, window)
    statistics = row_statistics(q, k, 0, layer, segments)
    for means in (statistics.answer, statistics.reasoning):
        if means is not None:
            total = torch.stack(list(masses(means, segments.ranges()).values())).sum(0)
            assert (total - 1).abs().max() < 1e-5
    whole = torch.cat(
        [b.weights.sum(-1) for b in pattern_blocks(q, k, 0, layer, range(segments.n_tokens), elements)], 1
    )
    assert whole.shape == (4, segments.n_tokens)
    assert (whole - 1).abs().max() < 1e-5


def test_uniform_attention_by_hand():
    segments = TraceSegments(think_open=2, think_close=7, n_tokens=10)  # reasoning 3..6, answer rows 8 only
    q, k = torch.zeros(4, 10, 8), torch.randn(2, 10, 8)
    statistics = row_statistics(q, k, 0, PLAIN, segments)
    found = {name: mass[0].item() for name, mass in masses(statistics.answer, segments.ranges()).items()}
    expected = {"bos": 1, "query": 1, "think_open": 1, "reasoning": 4, "think_close": 1, "answer": 1}
    assert found == pytest.approx({name: count / 9 for name, count in expected.items()}, abs=1e-6)
    walk = statistics.walk
    assert walk is not None
    assert walk.mass[0].tolist() == pytest.approx([4 / 9])
    assert walk.centroid[0].tolist() == pytest.approx([0.5])
    assert walk.spread[0].tolist() == pytest.approx([np.std([0.125, 0.375, 0.625, 0.875])])
    assert walk.evenness[0].tolist() == pytest.approx([1.0])
    assert sink_free_focus(statistics.answer, segments, None).tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert statistics.reasoning is not None
    own = masses(statistics.reasoning, segments.ranges())["reasoning"][0].item()
    assert own == pytest.approx((1 / 4 + 2 / 5 + 3 / 6 + 4 / 7) / 4)


def test_a_head_that_points_at_one_token_after_the_other():
    segments = TraceSegments(think_open=1, think_close=7, n_tokens=14)  # reasoning 2..6, answer 8..12
    layer, q, k = pointing(14, dict(zip(range(8, 13), range(2, 7), strict=True)))
    statistics = row_statistics(q, k, 0, layer, segments)
    walk = statistics.walk
    assert walk is not None
    assert walk.centroid[0].tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert walk.spread[0].abs().max() < 1e-3
    assert walk.evenness[0].tolist() == pytest.approx([0.2] * 5)
    assert walk_correlation(walk.centroid).item() == pytest.approx(1.0)
    assert masses(statistics.answer, segments.ranges())["reasoning"].item() == pytest.approx(1.0)


def test_walks_where_there_is_hardly_any_or_no_mass_on_the_reasoning():
    segments = TraceSegments(think_open=1, think_close=5, n_tokens=8)
    q, k = torch.ones(1, 8, 2), torch.zeros(1, 8, 2)
    k[0, 0] = 500.0  # BOS takes all: the reasoning gets exp(-1000), too little for float32
    walk = row_statistics(q, k, 0, LayerAttention(0, 1, 1, 2, 1.0), segments).walk
    assert walk is not None
    assert walk.centroid[0].tolist() == pytest.approx([0.5])
    segments = TraceSegments(think_open=1, think_close=5, n_tokens=12)  # reasoning 2..4, answer 6..10
    layer = LayerAttention(0, 4, 2, 8, 0.5, window=4)  # row 6 sees 3..6, row 7 sees 4..7, row 8 sees 5..8
    walk = row_statistics(torch.zeros(4, 12, 8), torch.zeros(2, 12, 8), 0, layer, segments).walk
    assert walk is not None
    assert walk.centroid[0].isnan().tolist() == [False, False, True, True, True]
    assert walk.mass[0].tolist() == pytest.approx([0.5, 0.25, 0, 0, 0])
    assert walk.centroid[0, :2].tolist() == pytest.approx([2 / 3, 5 / 6])
    assert walk.evenness[0, :2].tolist() == pytest.approx([1.0, 1.0])
    assert walk_correlation(walk.centroid).isnan().all()
    segments = TraceSegments(think_open=3, think_close=4, n_tokens=8)  # no reasoning at all
    statistics = row_statistics(torch.randn(4, 8, 8), torch.randn(2, 8, 8), 0, PLAIN, segments)
    assert statistics.walk is None
    assert statistics.reasoning is None
    assert (statistics.answer.sum(1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("centroid", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1.0),
        ([0.4, 0.2, 0.0], -1.0),
        ([0.1, 0.4, 0.2, 0.9], 1.1 / 1.9**0.5),
        ([0.1, 0.9], None),
        ([0.5, 0.5, 0.5, 0.5], None),
        ([0.1, float("nan"), 0.3, 0.4], 1.0),
        ([0.1, float("nan"), float("nan"), 0.4], None),
    ],
)
def test_walk_correlation_by_hand(centroid, expected):
    found = walk_correlation(torch.tensor([centroid])).item()
    assert found == pytest.approx(expected, abs=1e-6) if expected is not None else np.isnan(found)


@pytest.mark.parametrize(
    ("centroid", "mass", "expected", "effective"),
    [
        ([0.1, 0.4, 0.2, 0.9], [0.5] * 4, 1.1 / 1.9**0.5, 4.0),  # as walk_correlation
        ([0.1, 0.9, 0.2, 0.3], [0.7, 0, 0.7, 0.7], 0.3 / (14 / 3 * 0.02) ** 0.5, 3.0),  # rows 0, 2 and 3
        ([0.1, NAN, 0.2, 0.3], [0.7, 0.7, 0.7, 0.7], 0.3 / (14 / 3 * 0.02) ** 0.5, 3.0),
        ([0.1, 0.4, 0.2, 0.9], [0.5, 0.25, 0.25, 0.5], 23 / 60 / (19 / 12 * 107 / 900) ** 0.5, 3.6),
        ([0.1, 0.9, 0.2, 0.3], [1, 1e-9, 1, 1e-9], None, 2.0),
        ([0.5, 0.5, 0.5, 0.5], [0.5] * 4, None, 4.0),
        ([0.5, 0.5, 0.5, 0.5], [0.0] * 4, None, 0.0),
    ],
)
def test_weighted_walk_by_hand(centroid, mass, expected, effective):
    found = weighted_walk(torch.tensor([centroid]), torch.tensor([mass]))
    correlation = found.correlation.item()
    assert correlation == pytest.approx(expected, abs=1e-6) if expected is not None else np.isnan(correlation)
    assert found.p.isnan().item() is (expected is None)
    assert found.effective_rows.item() == pytest.approx(effective, abs=1e-6)


def test_shifts_of_three_rows_by_hand():
    """Rows 0, .5, 1 correlate with their places by 1, and shifted by one or two by -1/2."""
    found = weighted_walk(torch.tensor([[0, 0.5, 1.0]]), torch.ones(1, 3))
    assert found.null_mean.item() == pytest.approx(0)
    assert found.null_sd.item() == pytest.approx(0.5**0.5)
    assert found.p.item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("n_rows", [5, 7, 64, 101])
def test_weighted_walk_equals_loops_over_all_shifts(n_rows):
    generator = np.random.default_rng(n_rows)
    centroid = np.sort(generator.random((3, n_rows))) + 0.3 * generator.random((3, n_rows))
    mass = generator.random((3, n_rows)) + 0.4
    centroid[1, 2] = np.nan
    found = weighted_walk(torch.tensor(centroid), torch.tensor(mass))
    for head in range(3):
        weight, y = np.where(np.isnan(centroid[head]), 0, mass[head]), np.nan_to_num(centroid[head])
        r = []
        for shift in range(n_rows):
            w, z = np.roll(weight, -shift), np.roll(y, -shift)
            covariance = np.cov(np.arange(n_rows), z, aweights=w)
            r.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
        expected = [r[0], weight.sum() ** 2 / (weight**2).sum(), np.mean(r), np.std(r), np.mean(np.array(r) >= r[0])]
        np.testing.assert_allclose([float(part[head]) for part in vars(found).values()], expected, atol=1e-9)


def test_focus_leaves_sinks_out_by_hand():
    """Tokens 0 to 9, reasoning 3 to 6, answer row 8; token 2 is a sink of the layer, though not of the second head."""
    segments = TraceSegments(think_open=2, think_close=7, n_tokens=10)
    weights = [[0.2, 0.1, 0.5, 0, 0.1, 0, 0, 0.1, 0, 0], [0.4, 0.05, 0.2, 0.05, 0, 0.1, 0.05, 0.1, 0.05, 0]]
    even = np.log(4 / 3)  # 4 of 7 tokens: not 0 and not 2
    expected = [np.log(0.1 / 0.2) - even, np.log(0.2 / 0.2) - even]
    assert sink_free_focus(torch.tensor(weights), segments, None).tolist() == pytest.approx(expected, abs=1e-6)
    most = torch.zeros(1, 10)
    most[0, [3, 4, 5, 6]] = 0.25
    least = np.log(1 / LEAST_SHARE - 1) - np.log(4 / 4)  # 4 of 8
    assert sink_free_focus(most, segments, None).tolist() == pytest.approx([least], abs=1e-3)
    assert sink_free_focus(1 - most, segments, window=2).isnan().all()  # row 8 sees 7 and 8


@given(bounds=st.tuples(st.integers(1, 5), st.integers(0, 9), st.integers(1, 6)), window=st.none() | st.integers(1, 30))
def test_uniform_share_equals_brute_force(bounds, window):
    query, reasoning, answer = bounds
    segments = TraceSegments(query, query + reasoning + 1, query + reasoning + answer + 3)
    for rows in (segments.answer, segments.reasoning):
        shares, even = [], np.zeros(segments.n_tokens)
        for row in rows:
            seen = [key for key in range(row + 1) if window is None or key > row - window]
            shares.append(sum(key in segments.reasoning for key in seen) / len(seen))
            even[seen] += 1 / len(seen) / len(rows)
        if shares:
            assert uniform_share(segments, rows, window) == pytest.approx(np.mean(shares))
            np.testing.assert_allclose(even_reading(segments, rows, window), even, atol=1e-12)
