"""Training of the built-in reasoners: the same bytes twice, a falling loss, starting heads, recipe errors, batches."""

from functools import partial
from random import Random
from typing import Any

import pytest
import torch

from r2a_core.builtin.batches import BatchPlan, TextEncoder, batches, copy_batch
from r2a_core.builtin.texts import training_text
from r2a_core.builtin.train import Muon, build_model, learning_rate, orthogonalise, train_reasoner
from r2a_core.config import TextMix, TrainingRecipe, parse
from r2a_core.infra.errors import R2AError

MIX = TextMix(comparison=0.5, without_reasoning=0.2, probing=0.3, perturbed=0.3, contradicted=0.5, padded=0.5)
SIZES = {"n_layers": 4, "width": 32, "n_heads": 4, "n_kv_heads": 2, "mlp_width": 48}
LENGTH = {"steps": 6, "batch_tokens": 600, "copy_steps": 2, "copy_tokens": 200, "ramp_steps": 2, "flat_share": 0.5}
RATES = {"muon_rate": 0.03, "adam_rate": 0.01, "previous_token": 5.0, "induction": 3.0}
ABOUT = {"architecture": "qwen2", "seed": 1, "threads": 1, "mix": MIX.model_dump()}
RECIPE = parse(TrainingRecipe, SIZES | LENGTH | RATES | ABOUT, "recipe")


def recipe(**changes: Any) -> TrainingRecipe:
    return RECIPE.model_copy(update=changes)


@pytest.fixture(scope="module")
def tokenizer(built_in_tokenizer):
    return built_in_tokenizer.hf


@pytest.fixture(autouse=True)
def same_threads():
    """Training sets torch's thread count."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_the_same_recipe_gives_the_same_bytes(architecture, tmp_path):
    seen = []
    first = train_reasoner(recipe(architecture=architecture), tmp_path / "a", lambda *step: seen.append(step))
    second = train_reasoner(recipe(architecture=architecture), tmp_path / "b")
    train_reasoner(recipe(architecture=architecture, seed=2), tmp_path / "c")
    assert first == second
    assert [step[:2] for step in seen] == [(number, 8) for number in range(1, 9)]
    files = [{path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "abc"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(files[0])
    assert files[0] == files[1]
    assert files[0]["model.safetensors"] != files[2]["model.safetensors"]


def test_the_loss_falls(tmp_path):
    losses = []
    train_reasoner(recipe(copy_steps=0, steps=30), tmp_path, lambda step, steps, loss: losses.append(loss))
    assert losses[0] == pytest.approx(6.8, abs=0.5)  # ln of about 900 tokens
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]


def test_learning_rate_rises_stays_and_falls():
    slow = recipe(copy_steps=10, steps=100, ramp_steps=5, flat_share=0.2)
    rates = [learning_rate(step, slow) for step in range(110)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:31] == [1.0] * 26
    assert rates[70] == pytest.approx(0.5)
    assert rates[109] == pytest.approx(1 / 80)


def test_sizes_that_do_not_fit_and_a_loss_that_is_not_finite_are_refused(tokenizer, tmp_path):
    for change, message in (({"n_kv_heads": 3}, "4 heads in 3 groups"), ({"n_layers": 2}, "reasoner of 2 layers")):
        with pytest.raises(R2AError, match=message):
            build_model(recipe(**change), len(tokenizer), tokenizer)
    with pytest.raises(R2AError, match="the loss is"):
        train_reasoner(recipe(muon_rate=1e30, steps=20), tmp_path)


@pytest.mark.parametrize(("architecture", "strength"), [("qwen2", 5.0), ("llama", 1.35)])
def test_heads_start_on_the_previous_token(architecture, strength, tokenizer):
    start = {"previous_token": strength, "width": 96, "mlp_width": 64, "induction": 0.0}
    model = build_model(recipe(architecture=architecture, **start), len(tokenizer), tokenizer)
    model.set_attn_implementation("eager")
    ids = torch.tensor([Random(0).sample(range(len(tokenizer)), 30)])
    with torch.no_grad():
        pattern = model(input_ids=ids, output_attentions=True).attentions[0][0]  # (head, row, key)
    on_previous = torch.diagonal(pattern[:, 2:, 1:], dim1=1, dim2=2).mean(1)
    assert (on_previous[:2] > 0.4).all()
    assert (on_previous[2:] < 0.2).all()


def test_padded_batches_hold_the_texts(tokenizer):
    random, encode = Random(0), TextEncoder(tokenizer)
    plain = partial(tokenizer.encode, add_special_tokens=False)
    for _ in range(200):
        text = training_text(random, MIX)
        encoded = encode(text, random)
        thinking, answer = ("".join(piece.text for piece in pieces) for pieces in (text.thinking, text.answer))
        expected = [encode.bos, *plain(text.prompt), encode.think_open, *plain(thinking)]
        expected += [encode.think_close, *plain(answer), encode.eos]
        assert [token for token in encoded.ids if token != encode.pad] == expected
        assert text.padded or encode.pad not in encoded.ids
        learnt = [token for token, counts in zip(encoded.ids, encoded.weights, strict=True) if counts > 0]
        assert learnt[-1] == encode.eos
        assert encode.pad not in learnt
        assert (encode.think_close in learnt) == text.with_reasoning
        said = "".join(piece.text for piece in (*text.thinking, *text.answer) if piece.weight)
        spoken = [token for token in learnt if token not in (encode.eos, encode.think_close)]
        assert tokenizer.decode(spoken) == said


def test_batches_keep_to_their_plan(tokenizer):
    plan = BatchPlan(seed=3, copy_steps=2, copy_tokens=400, batch_tokens=1000, mix=MIX)
    stream = batches(plan, tokenizer)
    drawn = [next(stream) for _ in range(30)]
    again = batches(plan, tokenizer)
    assert all(torch.equal(batch.ids, next(again).ids) for batch in drawn)
    assert [batch.ids.shape for batch in drawn[:2]] == [(10, 40)] * 2
    assert all(batch.ids.numel() <= 1000 for batch in drawn)
    assert sum(batch.ids.numel() for batch in drawn[2:]) / 28 > 700
    # copies can be told from their first round
    batch = copy_batch(Random(0), 800, list(range(100)))
    for ids, weights in zip(batch.ids.tolist(), batch.weights.tolist(), strict=True):
        period = weights.index(1.0)
        assert 6 <= period <= 18
        assert len(set(ids[:period])) == period
        assert ids[period:] == ids[:-period]
        assert set(weights[period:]) == {1.0}


def test_muon_brings_singular_values_near_one():
    stack = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(stack * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_a_muon_step_is_that_of_torch_but_for_its_rounding():
    """Two steps on a wide and a tall matrix beside torch.optim.Muon, which orthogonalises in bfloat16."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(24, 40), (24, 40), (40, 24)]
    starts = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    optimizers = (Muon(ours, lr=0.1), torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0))
    for _ in range(2):
        for pair in zip(ours, theirs, strict=True):
            pair[0].grad = pair[1].grad = torch.randn(pair[0].shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, start in zip(ours, theirs, starts, strict=True):
        moved = (other - start).norm()
        assert moved > 0.1
        assert (mine - other).norm() < 0.02 * moved
