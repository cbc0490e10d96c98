"""An item's tokens depend on the item alone, and greedy ones are transformers' own."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
import torch

from r2a_core.config import GenerateParams, ResponseParams
from r2a_core.generation import decode as generation
from r2a_core.generation.batch import DecodingBatch
from r2a_core.generation.decode import Generated, GenerationRequest, generate
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
    held, step = [], DecodingBatch.step

    def measured(self: DecodingBatch, tokens: torch.Tensor) -> None:
        step(self, tokens)
        held.append(sum(layer.key_buffer.nbytes + layer.value_buffer.nbytes for layer in self.layers))

    monkeypatch.setattr(DecodingBatch, "step", measured)
    assert by_item(generate(loaded, requests(loaded), GREEDY, memory_mib=1)) == expected
    assert "responses at a time: 3 instead of 4" in caplog.text
    assert longest < max(held) <= 3 * longest
