"""An item's tokens depend on the item alone, greedy ones are transformers' own, sampled ones follow the softmax."""

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from r2a_core.config import GenerateParams, ResponseParams
from r2a_core.generation import decode as generation
from r2a_core.generation.decode import (
    DecodingBatch,
    Generated,
    GenerationRequest,
    choose,
    generate,
    signed,
    step_key,
    uniforms,
)
from r2a_core.infra import memory
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.models.load import LoadedModel

GREEDY = ResponseParams(max_new_tokens=24, batch_size=4, tie_margin=1e-3, shard_items=1).sampled()
SAMPLED = GREEDY.model_copy(update={"temperature": 0.6, "tie_margin": 0.02})


def requests(loaded: LoadedModel, run: int = 0) -> list[GenerationRequest]:
    """Ten prompts of unlike tokens and length."""
    random = Random(0)
    prompts = [[loaded.ids.bos, *random.choices(range(256), k=5 + 4 * (number % 4))] for number in range(10)]
    return [GenerationRequest(f"item-{number}", run, tuple(prompt)) for number, prompt in enumerate(prompts)]


def by_item(results: Sequence[Generated]) -> dict[str, tuple[int, ...]]:
    return {result.item_id: result.response_ids for result in results}


@pytest.mark.parametrize("config", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_batch_order_and_company_change_nothing(
    twins: LoadedModel, config: GenerateParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_alone = []
    alone = generation.choose_alone
    monkeypatch.setattr(generation, "choose_alone", lambda *args: asked_alone.append(1) or alone(*args))
    wanted = requests(twins)
    expected = by_item(generate(twins, wanted, config.model_copy(update={"batch_size": 1})))
    assert len(set(expected.values())) > 7
    for batch_size in (3, 10):
        assert by_item(generate(twins, wanted, config.model_copy(update={"batch_size": batch_size}))) == expected
    assert by_item(generate(twins, wanted[::-1], config)) == expected
    few = by_item(generate(twins, wanted[2:5], config))
    assert few == {name: expected[name] for name in few}
    assert asked_alone  # near ties did occur


@pytest.mark.parametrize(("margin", "asked"), [(1e-3, False), (0.25, True)])
def test_half_precision_asks_for_no_margin_finer_than_its_numbers(
    twins: LoadedModel, margin: float, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = generation.choose_alone
    found = []
    monkeypatch.setattr(generation, "choose_alone", lambda *args: found.append(1) or alone(*args))
    half = replace(twins, model=copy.deepcopy(twins.model).bfloat16())  # all leads are 0 at first
    generate(half, requests(half)[:2], GREEDY.model_copy(update={"tie_margin": margin, "max_new_tokens": 2}))
    assert bool(found) is asked


def test_greedy_tokens_are_those_of_transformers_and_of_a_forward_pass_without_cache(loaded: LoadedModel) -> None:
    wanted = requests(loaded)
    results = generate(loaded, wanted, GREEDY)
    assert [result.item_id for result in results] == [f"item-{number}" for number in range(10)]
    assert generate(loaded, [], GREEDY) == []
    for request, result in zip(wanted, results, strict=True):
        start, response = len(request.prompt_ids), list(result.response_ids)
        plain = loaded.model.generate(torch.tensor([request.prompt_ids]), max_new_tokens=24, do_sample=False)
        assert plain[0, start:].tolist() == response
        with torch.no_grad():
            logits = loaded.model(torch.tensor([[*request.prompt_ids, *response]]), use_cache=False).logits[0]
        assert logits[start - 1 : -1].argmax(-1).tolist() == response


@pytest.mark.parametrize("config", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_response_ends_with_its_first_eos_or_at_the_length(loaded: LoadedModel, config: GenerateParams) -> None:
    found = [result for run in range(3) for result in generate(loaded, requests(loaded, run), config)]
    assert {result.finish for result in found} == {"stop", "length"}
    for result in found:
        assert result.response_ids.count(loaded.ids.eos) == (result.finish == "stop")
        assert result.finish == "stop" or len(result.response_ids) == 24
        assert (result.response_ids[-1] == loaded.ids.eos) is (result.finish == "stop")


def test_a_response_ends_with_any_token_that_ends_texts(loaded: LoadedModel) -> None:
    longest = max((result.response_ids for result in generate(loaded, requests(loaded), GREEDY)), key=len)
    other = longest[2]
    ids = replace(loaded.ids, other_ends=(other,))
    found = generate(replace(loaded, tokenizer=replace(loaded.tokenizer, ids=ids)), requests(loaded), GREEDY)
    cut = longest[: longest.index(other) + 1]
    assert cut in [result.response_ids for result in found if result.finish == "stop"]
    assert all(set(result.response_ids[:-1]).isdisjoint(ids.ends) for result in found)


def test_limits_runs_and_seeds_of_drawn_tokens(loaded: LoadedModel) -> None:
    def responses(run: int, config: GenerateParams) -> list[tuple[int, ...]]:
        return [result.response_ids for result in generate(loaded, requests(loaded, run), config)]

    first = responses(0, SAMPLED)
    assert len({*first, *responses(1, SAMPLED), *responses(0, SAMPLED.model_copy(update={"seed": 1}))}) == 30
    assert responses(0, GREEDY) == responses(1, GREEDY.model_copy(update={"seed": 1}))
    short = responses(0, SAMPLED.model_copy(update={"max_new_tokens": 7}))
    assert short == [tokens[:7] for tokens in first]


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
    monkeypatch.setattr(generation, "uniforms", lambda *args: asked.append(args[1].numel()) or uniforms(*args))
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


def test_rows_join_and_leave_without_a_trace_in_the_logits(loaded: LoadedModel) -> None:
    prompts = [[loaded.ids.bos, *range(10, 10 + length)] for length in (3, 9, 5, 14)]
    later = [[7], [8], [9], [11]]

    def alone(ids: list[int]) -> torch.Tensor:
        return loaded.model(torch.tensor([ids]), use_cache=False).logits[0, -1]

    with torch.no_grad():
        rows = DecodingBatch.start(loaded.model, prompts[:3], loaded.ids.pad)
        rows.step(torch.tensor([7, 8, 9]))
        rows.keep([0, 2])
        assert rows.mask.shape[1] == 7  # the longest left is BOS, 5 tokens and the new one
        rows.join(DecodingBatch.start(loaded.model, prompts[3:], loaded.ids.pad))
        rows.step(torch.tensor([20, 21, 22]))
        expected = [prompts[0] + later[0] + [20], prompts[2] + later[2] + [21], prompts[3] + [22]]
        for found, ids in zip(rows.logits, expected, strict=True):
            torch.testing.assert_close(found, alone(ids), atol=2e-5, rtol=1e-5)


def test_out_of_memory_halves_the_batch_and_logits_that_are_not_numbers_are_named(
    twins: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = by_item(generate(twins, requests(twins), SAMPLED))
    most = []
    step = DecodingBatch.step

    def small_device(self: DecodingBatch, tokens: torch.Tensor) -> None:
        most.append(len(tokens))
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, tokens)

    monkeypatch.setattr(DecodingBatch, "step", small_device)
    assert by_item(generate(twins, requests(twins), SAMPLED.model_copy(update={"batch_size": 10}))) == expected
    assert [size for size in dict.fromkeys(most) if size > 1][:3] == [10, 5, 2]
    assert "out of memory at 10, going on at 5" in caplog.text
    monkeypatch.setattr(DecodingBatch, "step", lambda *args: torch.empty(10**18))
    with pytest.raises(MissingPrerequisite, match="out of memory even at 1"):
        generate(twins, requests(twins), SAMPLED)

    def spoil(self: DecodingBatch, tokens: torch.Tensor) -> None:
        step(self, tokens)
        self.logits[1] = torch.nan

    monkeypatch.setattr(DecodingBatch, "step", spoil)
    with pytest.raises(R2AError, match=r"item-\d: the logits of response token 1 are not numbers"):
        generate(twins, requests(twins), GREEDY)


def test_the_memory_bound_sets_how_many_grow_at_a_time(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expected = by_item(generate(loaded, requests(loaded), GREEDY))
    longest = generation.sequence_bytes(loaded.model, 18 + 24, 0)  # prompt and response
    monkeypatch.setattr(memory, "MIB", 3 * longest)
    assert by_item(generate(loaded, requests(loaded), GREEDY, memory_mib=1)) == expected
    assert "responses at a time: 3 instead of 4" in caplog.text
