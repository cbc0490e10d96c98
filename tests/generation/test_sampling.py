"""Drawn tokens follow the softmax at their temperature, by random numbers that are splitmix64's."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from r2a_core.generation import sampling
from r2a_core.generation.sampling import choose, signed, step_key, uniforms


def numbers(keys: Sequence[int], n_tokens: int) -> torch.Tensor:
    return uniforms(torch.tensor([signed(key) for key in keys])[:, None], torch.arange(n_tokens))


def keys(count: int) -> list[int]:
    return [step_key(0, f"item-{item}", 0, 3) for item in range(count)]


def test_sampled_tokens_follow_the_softmax_at_their_temperature() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, 1.9, 0.0, -30.0])
    draws = 20_000
    counts = np.bincount(choose(logits.expand(draws, -1), 0.6, keys(draws)).tokens, minlength=6)[:5]
    weights = np.exp(np.array([2.0, -1.0, 0.5, 1.9, 0.0]) / 0.6)
    expected = draws * weights / weights.sum()
    assert chisquare(counts, expected).pvalue > 1e-3
    hotter = np.exp(np.array([2.0, -1.0, 0.5, 1.9, 0.0]) / 0.7)
    assert chisquare(counts, draws * hotter / hotter.sum()).pvalue < 1e-6  # the test would notice


def test_close_decisions_are_as_rare_as_the_margin_whatever_the_distribution() -> None:
    flat = choose(torch.zeros(20_000, 300), 0.6, keys(20_000)).margins
    assert 0.008 < (flat < 0.01).double().mean() < 0.012  # leads of Gumbel noise are exponential, mean 1


def test_a_choice_by_hand() -> None:
    logits = torch.tensor([[1.0, 4.0, 3.5]])
    greedy = choose(logits, 0, keys(1))
    assert (greedy.tokens.tolist(), greedy.margins.tolist()) == ([1], [0.5])
    noise = [-math.log(-math.log(number)) for number in numbers(keys(1), 3)[0].tolist()]
    scores = [logit / 0.5 + each for logit, each in zip([1.0, 4.0, 3.5], noise, strict=True)]
    drawn = choose(logits, 0.5, keys(1))
    assert drawn.tokens.item() == scores.index(max(scores))
    assert drawn.margins.item() == pytest.approx(sorted(scores)[-1] - sorted(scores)[-2])


def test_a_token_far_behind_changes_no_choice_and_costs_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(50, 4_000, generator=torch.Generator().manual_seed(0)) * 3
    logits[:, 7] += torch.linspace(0, 40, 50)  # from all tokens near to one alone
    noise = -torch.log(-torch.log(numbers(keys(50), 4_000)))
    expected = (logits.double() / 0.6 + noise).topk(2, dim=-1)
    asked: list[int] = []
    monkeypatch.setattr(sampling, "uniforms", lambda *args: asked.append(args[1].numel()) or uniforms(*args))
    found = choose(logits, 0.6, keys(50))
    assert found.tokens.equal(expected.indices[:, 0])
    margins = expected.values[:, 0] - expected.values[:, 1]
    close = margins < 20
    torch.testing.assert_close(found.margins[close], margins[close])
    assert (found.margins[~close] >= 20).all()
    assert sum(asked) < logits.numel() * 0.6


def test_numbers_are_those_of_splitmix64() -> None:
    # first outputs of the published generator for seed 1234567 (as counted by its reference program)
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert numbers([1234567], 4)[0].tolist() == [((word >> 11) + 0.5) * 2.0**-53 for word in published]


def test_numbers_are_uniform_and_depend_on_seed_item_run_step_and_token() -> None:
    one_step = numbers([step_key(0, "a", 0, 0)], 3_000)[0].numpy()
    over_steps = numbers([step_key(0, "a", 0, step) for step in range(3_000)], 1)[:, 0].numpy()
    for drawn in (one_step, over_steps):
        assert kstest(drawn, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.06
    assert len({step_key(*key) for key in [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0)]}) == 4
