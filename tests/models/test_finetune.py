"""Training an adapter: gradients, a falling loss, the same bytes through interruptions, and what is prepared of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from r2a_core.builtin.batches import Batch
from r2a_core.builtin.tasks.texts import training_texts
from r2a_core.config import AdapterRecipe, ModelParams, parse
from r2a_core.infra.errors import R2AError
from r2a_core.infra.pins import content_digest
from r2a_core.infra.shards import Work, open_store
from r2a_core.models.finetune import batches, rate_share
from r2a_core.models.load import load_model
from r2a_core.models.low_rank import Tuned
from r2a_core.models.prepare import prepare
from r2a_core.models.training_state import kept_steps
from tests.random_models import save_random_model

MIX = {"without_reasoning": 0.2, "probing": 0.2, "perturbed": 0.2, "contradicted": 0.5, "padded": 0.2}
RECIPE = {"seed": 3, "threads": 1, "rank": 4, "alpha": 6.0, "steps": 6, "batch_tokens": 600, "learning_rate": 0.01}
RECIPE |= {"ramp_steps": 2, "flat_share": 0.5, "final_share": 0.1, "checkpoint_steps": 2}
RECIPE |= {"mix": MIX | {"tasks": {"days": 1.0, "swaps": 1.0}}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_random_model(folder, "llama", 0, num_hidden_layers=2, tie_word_embeddings=True)
    return folder


@pytest.fixture(autouse=True)
def same_threads() -> Any:
    """Training sets torch's thread count."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def entry(folder: Path, **changes: Any) -> Any:
    place = {"kind": "local", "path": str(folder), "sha256": content_digest(folder), "dtype": "float32", "tags": {}}
    recipe = RECIPE | {"base": place} | changes
    return parse(ModelParams, {"kind": "train", "recipe": recipe}, "models.m")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_gradients_are_those_of_autograd(base: Path) -> None:
    loaded = load_model(base, "cpu")
    plain = dict(load_model(base, "cpu").model.named_parameters())
    recipe: AdapterRecipe = entry(base).recipe
    tuned = Tuned(loaded.model, recipe, loaded.tokenizer)
    with torch.no_grad():
        for layer in tuned.layers.values():
            layer.b.normal_(std=0.1)
        tuned.rows.add_(0.1)
    tuned.merge()
    batch = next(batches(training_texts(0, recipe.mix), loaded.tokenizer, recipe))
    loss = tuned.loss(batch)
    loss.backward()
    factors = {
        name: tuple(factor.detach().clone().requires_grad_() for factor in (each.a, each.b))
        for name, each in tuned.layers.items()
    }
    rows = tuned.rows.detach().clone().requires_grad_()
    weights = plain | {f"{name}.weight": plain[f"{name}.weight"] + 1.5 * b @ a for name, (a, b) in factors.items()}
    table = plain["model.embed_tokens.weight"].index_copy(0, tuned.places, rows)
    weights |= {"model.embed_tokens.weight": table, "lm_head.weight": table}
    logits = functional_call(load_model(base, "cpu").model, weights, (batch.ids[:, :-1],)).logits
    counts = batch.weights[:, 1:]
    losses = cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    expected = (losses * counts.flatten()).sum() / counts.sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, (a, b) in factors.items():
        for ours, theirs in ((tuned.layers[name].a, a), (tuned.layers[name].b, b)):
            assert theirs.grad is not None
            assert theirs.grad.abs().max() > 1e-5
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(tuned.rows.grad, rows.grad, rtol=1e-3, atol=1e-6)


def test_loss_and_gradients_of_a_batch_are_those_of_its_halves_by_their_weights(base: Path) -> None:
    loaded, recipe = load_model(base, "cpu"), entry(base, batch_tokens=4000).recipe
    tuned = Tuned(loaded.model, recipe, loaded.tokenizer)
    batch = next(batches(training_texts(0, recipe.mix), loaded.tokenizer, recipe))
    halves = [Batch(batch.ids[first::2], batch.weights[first::2]) for first in (0, 1)]
    assert len(batch.ids) > 2
    found = []
    for parts in ([batch], halves):
        shares = [part.weights[:, 1:].sum() / batch.weights[:, 1:].sum() for part in parts]
        loss = sum((tuned.loss(part) * share for part, share in zip(parts, shares, strict=True)), torch.zeros(()))
        found.append((loss, torch.autograd.grad(loss, [*tuned.learnt.values()])))
    (whole, gradients), (split, added) = found
    assert split.item() == pytest.approx(whole.item(), rel=1e-6)
    for ours, theirs in zip(added, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_the_same_recipe_gives_the_same_bytes_through_interruptions(base: Path, tmp_path: Path) -> None:
    params, losses = entry(base), []
    pointer = prepare(params, tmp_path / "m", lambda step, steps, loss: losses.append(loss), device="cpu")
    assert len(losses) == 6
    prepare(entry(base, seed=4), tmp_path / "other", device="cpu")

    def stop_at(wanted: int) -> Callable[[int, int, float], None]:
        def progress(step: int, steps: int, loss: float) -> None:
            seen.append(step)
            if step == wanted:
                raise KeyboardInterrupt

        return progress

    seen: list[int] = []
    with open_store(tmp_path / "work", "prepare_model", "m") as store:
        work = Work("m", store, {"code": "1"}, None)
        for wanted in (3, 5):
            with pytest.raises(KeyboardInterrupt):
                prepare(params, tmp_path / "n", stop_at(wanted), work, "cpu")
            assert len(list(store.folder.glob("*.safetensors"))) == 1
        prepare(params, tmp_path / "n", stop_at(0), work, "cpu")
        assert seen == [1, 2, 3, 3, 4, 5, 5, 6]
        prepare(params, tmp_path / "n", stop_at(0), work, "cpu")  # a finished training is not repeated
        assert len(seen) == 8
    assert contents(tmp_path / "m") == contents(tmp_path / "n")
    weights = "adapter_model.safetensors"
    assert contents(tmp_path / "m")[weights] != contents(tmp_path / "other")[weights]
    assert set(contents(tmp_path / "m")) == {"model.json", "adapter_config.json", weights, "loss.csv"}
    lines = (tmp_path / "m" / "adapter" / "loss.csv").read_text().splitlines()
    assert lines[0] == "step,tokens,rate,loss"
    assert [float(line.split(",")[3]) for line in lines[1:]] == pytest.approx(losses, abs=1e-6)
    assert (pointer.kind, pointer.dtype, pointer.source) == ("local", "float32", str(base))


def test_the_loss_falls_and_the_model_that_is_loaded_has_learnt(base: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    params = entry(base, steps=30, learning_rate=0.03)
    prepare(params, tmp_path / "m", lambda step, steps, loss: losses.append(loss), device="cpu")
    assert sum(losses[-5:]) / 5 < losses[0] - 1
    loaded, before = load_model(tmp_path / "m", "cpu"), load_model(base, "cpu")
    batch: Batch = next(batches(training_texts(9, params.recipe.mix), loaded.tokenizer, params.recipe))
    found = {}
    for name, model in (("after", loaded.model), ("before", before.model)):
        with torch.no_grad():
            logits = model(batch.ids[:, :-1]).logits
        each = cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
        found[name] = ((each * batch.weights[:, 1:].flatten()).sum() / batch.weights[:, 1:].sum()).item()
    assert found["after"] < found["before"] - 1
    table, old = loaded.model.model.embed_tokens.weight, before.model.model.embed_tokens.weight
    changed = (table != old).any(1).nonzero().ravel().tolist()
    assert changed == sorted([loaded.ids.think_open, loaded.ids.think_close])


def test_the_rate_rises_stays_and_falls_to_its_last_share(base: Path) -> None:
    recipe = entry(base, steps=100, ramp_steps=5, flat_share=0.2, final_share=0.5).recipe
    rates = [rate_share(step, recipe) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:21] == [1.0] * 16
    assert rates[60] == pytest.approx(0.75)
    assert rates[99] == pytest.approx(0.5, abs=0.01)
    assert kept_steps(recipe)[-2:] == [98, 100]


def test_a_training_goes_on_from_an_adapter(refused: Any, base: Path, tmp_path: Path) -> None:
    prepare(entry(base), tmp_path / "m", device="cpu")
    start = {"path": str(tmp_path / "m" / "adapter"), "sha256": content_digest(tmp_path / "m" / "adapter")}
    prepare(entry(base, start=start, learning_rate=1e-12), tmp_path / "n", device="cpu")
    weights = "adapter_model.safetensors"
    assert contents(tmp_path / "n")[weights] == contents(tmp_path / "m")[weights]
    for change in ({"rank": 2}, {"alpha": 8.0}):
        changed = entry(base, start=start, **change)
        refused(lambda entry=changed: prepare(entry, tmp_path / "o", device="cpu"), "other factors", "same base")
    unpinned = entry(base, start=start | {"sha256": None})
    refused(lambda: prepare(unpinned, tmp_path / "o", device="cpu"), "models.o.recipe.start.sha256 is null", "write")


def test_recipes_and_bases_that_do_not_fit(refused: Any, base: Path, tmp_path: Path) -> None:
    save_random_model(tmp_path / "untied", "llama", 0, num_hidden_layers=1, tie_word_embeddings=False)
    m = tmp_path / "m"
    refused(lambda: prepare(entry(tmp_path / "untied"), m, device="cpu"), "not tied to its output", "that ties them")
    refused(lambda: prepare(entry(base, learning_rate=1e30), m, device="cpu"), "the loss is", "lower learning_rate")
    place = entry(base).recipe.base.model_dump()
    with pytest.raises(R2AError, match=r"models\.m\.recipe\.base.*has an adapter"):
        entry(base, base=place | {"adapter": {"path": "a", "sha256": "0" * 64}})
    with pytest.raises(R2AError, match=r"models\.m\.recipe\.seed is missing"):
        parse(ModelParams, {"kind": "train", "recipe": {"base": place}}, "models.m")
    values = {"kind": "train", "recipe": entry(base).recipe.model_dump(), "dtype": "bfloat16"}
    with pytest.raises(R2AError, match=r"models\.m has dtype or tags of its own"):
        parse(ModelParams, values, "models.m")
