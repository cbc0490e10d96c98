"""An item's tokens depend on the item alone, greedy ones are transformers' own, sampled ones follow the softmax."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from r2a_core.models.loading import LoadedModel
from r2a_core.traces import generation
from r2a_core.traces.generation import (
    Generated,
    GenerationRequest,
    SamplingConfig,
    SeededChoice,
    choose,
    generate,
    uniforms,
)

GREEDY = SamplingConfig(temperature=0.0, max_new_tokens=24, seed=0, batch_size=4, tie_margin=1e-3)
SAMPLED = replace(GREEDY, temperature=0.6, tie_margin=0.02)


def requests(loaded: LoadedModel, run: int = 0) -> list[GenerationRequest]:
    """Ten prompts of unlike tokens and length."""
    random = Random(0)
    prompts = [[loaded.ids.bos, *random.choices(range(256), k=5 + 4 * (number % 4))] for number in range(10)]
    return [GenerationRequest(f"item-{number}", run, tuple(prompt)) for number, prompt in enumerate(prompts)]


def by_item(results: Sequence[Generated]) -> dict[str, tuple[int, ...]]:
    return {result.item_id: result.response_ids for result in results}


@pytest.mark.parametrize("config", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_batch_order_and_company_change_nothing(
    twins: LoadedModel, config: SamplingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_alone = []
    alone = SeededChoice.alone
    monkeypatch.setattr(SeededChoice, "alone", lambda self, *args: asked_alone.append(1) or alone(self, *args))
    wanted = requests(twins)
    expected = by_item(generate(twins, wanted, replace(config, batch_size=1)))
    assert len(set(expected.values())) > 7
    for batch_size in (3, 10):
        assert by_item(generate(twins, wanted, replace(config, batch_size=batch_size))) == expected
    assert by_item(generate(twins, wanted[::-1], config)) == expected
    few = by_item(generate(twins, wanted[2:5], config))
    assert few == {name: expected[name] for name in few}
    assert asked_alone  # near ties did occur


def test_results_come_in_the_order_of_the_requests_with_progress(loaded: LoadedModel) -> None:
    seen: list[tuple[int, int]] = []
    found = generate(loaded, requests(loaded), GREEDY, lambda done, total: seen.append((done, total)))
    assert [result.item_id for result in found] == [f"item-{number}" for number in range(10)]
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert generate(loaded, [], GREEDY) == []


def test_greedy_tokens_are_those_of_transformers_one_prompt_at_a_time(loaded: LoadedModel) -> None:
    wanted = requests(loaded)
    for request, result in zip(wanted, generate(loaded, wanted, GREEDY), strict=True):
        plain = loaded.model.generate(torch.tensor([request.prompt_ids]), max_new_tokens=24, do_sample=False)
        assert plain[0, len(request.prompt_ids) :].tolist() == list(result.response_ids)


def test_greedy_tokens_are_the_arg_max_of_a_forward_pass_without_cache(loaded: LoadedModel) -> None:
    request, (result, *_) = requests(loaded)[0], generate(loaded, requests(loaded)[:3], GREEDY)
    ids = [*request.prompt_ids, *result.response_ids]
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids]), use_cache=False).logits[0]
    best = logits[len(request.prompt_ids) - 1 : -1].argmax(-1)
    assert best.tolist() == list(result.response_ids)


@pytest.mark.parametrize("config", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_response_ends_with_its_first_eos_or_at_the_length(loaded: LoadedModel, config: SamplingConfig) -> None:
    found = [result for run in range(3) for result in generate(loaded, requests(loaded, run), config)]
    assert {result.finish for result in found} == {"stop", "length"}
    for result in found:
        assert result.response_ids.count(loaded.ids.eos) == (result.finish == "stop")
        assert result.finish == "stop" or len(result.response_ids) == 24
        assert (result.response_ids[-1] == loaded.ids.eos) is (result.finish == "stop")


def test_a_longer_limit_goes_on_from_the_same_tokens(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "UNIFORMS_AT_ONCE", 5)  # numbers are drawn in blocks: no seam may show
    short = by_item(generate(loaded, requests(loaded), replace(SAMPLED, max_new_tokens=7)))
    monkeypatch.setattr(generation, "UNIFORMS_AT_ONCE", 1024)
    long = by_item(generate(loaded, requests(loaded), SAMPLED))
    assert all(long[name][:7] == tokens for name, tokens in short.items())


def test_runs_and_seeds_differ_where_tokens_are_drawn(loaded: LoadedModel) -> None:
    def responses(run: int, config: SamplingConfig) -> list[tuple[int, ...]]:
        return [result.response_ids for result in generate(loaded, requests(loaded, run), config)]

    drawn = [*responses(0, SAMPLED), *responses(1, SAMPLED), *responses(0, replace(SAMPLED, seed=1))]
    assert len(set(drawn)) == 30
    assert responses(0, GREEDY) == responses(1, replace(GREEDY, seed=1))


def test_sampled_tokens_follow_the_softmax_at_their_temperature() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, 1.9, 0.0, -30.0])
    draws = 20_000
    numbers = torch.from_numpy(np.array([uniforms(0, f"item-{item}", 0, 3, 1)[0] for item in range(draws)]))
    counts = np.bincount(choose(logits.expand(draws, -1), 0.6, numbers).tokens, minlength=6)[:5]
    weights = np.exp(np.array([2.0, -1.0, 0.5, 1.9, 0.0]) / 0.6)
    expected = draws * weights / weights.sum()
    assert chisquare(counts, expected).pvalue > 1e-3
    hotter = np.exp(np.array([2.0, -1.0, 0.5, 1.9, 0.0]) / 0.7)
    assert chisquare(counts, draws * hotter / hotter.sum()).pvalue < 1e-6  # the test would notice


def test_a_choice_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5]])).repeat(5, 1)
    choice = choose(logits, 1.0, torch.tensor([0.0, 0.19, 0.25, 0.6, 0.999], dtype=torch.float64))
    assert choice.tokens.tolist() == [0, 0, 1, 2, 2]
    # distance to the nearest bound inside (0, 1): 0.2 and 0.5 are the bounds
    assert choice.margins.tolist() == pytest.approx([0.2, 0.01, 0.05, 0.1, 0.499], abs=1e-6)
    greedy = choose(torch.tensor([[1.0, 4.0, 3.5]]), 0, torch.zeros(1, dtype=torch.float64))
    assert (greedy.tokens.tolist(), greedy.margins.tolist()) == ([1], [0.5])


def test_numbers_are_uniform_and_depend_on_seed_item_run_and_step() -> None:
    numbers = uniforms(0, "a", 0, 0, 2_000)
    assert kstest(numbers, "uniform").pvalue > 1e-3
    assert (uniforms(0, "a", 0, 700, 300) == numbers[700:1000]).all()
    others = [uniforms(1, "a", 0, 0, 1), uniforms(0, "b", 0, 0, 1), uniforms(0, "a", 1, 0, 1), numbers[:1]]
    assert len({number.item() for number in others}) == 4
