"""Tasks of reasoning-gym as datasets: made again from their recipe and graded by themselves."""

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from r2a_core.config import DatasetParams, parse
from r2a_core.data import gym
from r2a_core.data.items import Item
from r2a_core.data.prepare import load_dataset
from r2a_core.evaluation.sandbox import grade_many
from r2a_core.infra.errors import MissingPrerequisite, R2AError

TASKS = ("leg_counting", "gsm_symbolic", "calendar_arithmetic", "countdown", "syllogism", "list_functions", "codeio")
STAND_IN = Path(__file__).with_name("stand_in_gym")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts the stand-in in place of the package, for this process and the grading process."""
    before = {name for name in sys.modules if name.partition(".")[0] == "reasoning_gym"}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    gym.dataset.cache_clear()
    yield
    gym.dataset.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "reasoning_gym"]:
        del sys.modules[name]


def load(task: str, n: int = 2, seed: int = 4, **config: object) -> list[Item]:
    values = {"kind": "reasoning_gym", "task": task, "config": config, "instruction": "", "n": n, "seed": seed}
    return load_dataset(parse(DatasetParams, values, "datasets.g"), Path(), "g").items


def test_items_hold_their_recipe_and_metadata(stand_in: None) -> None:
    first, second = load("sums")
    assert (first.item_id, first.question, first.gold, first.kind) == ("sums-00000", "What is 5 + 1?", "6", "gym")
    assert second.question == "What is 8 + 2?"
    extra = json.loads(second.extra)
    assert extra["recipe"] == {"task": "sums", "config": {}, "seed": 4, "index": 1}
    assert extra["metadata"]["answer_cot"] == "8 + 2 = 10"
    assert load("sums", seed=0, largest=2)[1].question == "What is 2 + 2?"
    assert load("sums", 5)[:2] == [first, second]


def test_answers_are_graded_by_their_task(stand_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = gym.recipe_of(load("sums")[1])
    answers = ["10", r"\text{10}", "it is 10", "11"]
    verdicts = grade_many([(answer, "10", recipe) for answer in answers], 10)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "correct", "wrong", "wrong"]
    assert verdicts[2].reason == "its task scores it 0.01"
    monkeypatch.setenv("STAND_IN_GYM", "2")
    with pytest.raises(R2AError, match="makes another question of sums 1 than it did"):
        grade_many([("10", "10", recipe)], 10)


def test_no_answer_is_run(stand_in: None, tmp_path: Path) -> None:
    recipe = gym.recipe_of(load("puzzle24")[0])
    touched = tmp_path / "touched"
    code = f"6 + 0 * len(open({str(touched)!r}, 'w').name)"
    verdicts = grade_many([(answer, "6", recipe) for answer in ("(1 + 5) * 1", code, "().__class__", "9**9**9**9")], 2)
    assert [verdict.outcome for verdict in verdicts] == ["correct", "wrong", "wrong", "timeout"]
    assert not touched.exists()


def test_what_cannot_be_made_is_said(stand_in: None) -> None:
    with pytest.raises(R2AError, match="no task 'none'") as caught:
        load("none")
    assert "the tasks are drawn, puzzle24, sums" in caught.value.hint
    for config, reason in (({"largest": 0}, "largest must be at least 1"), ({"smallest": 1}, "smallest")):
        with pytest.raises(R2AError, match=f"refuses the config of sums: .*{reason}"):
            load("sums", **config)


def test_a_seed_in_config_is_refused(refused: Any) -> None:
    values = {"kind": "reasoning_gym", "task": "sums", "config": {"seed": 5}, "instruction": "", "n": 2, "seed": 4}
    says = "datasets.g.config has a seed, which the dataset's own would replace"
    refused(lambda: parse(DatasetParams, values, "datasets.g"), says, "take it out")


def test_a_task_that_draws_from_shared_generators_makes_the_same_question_again(stand_in: None) -> None:
    items = load("drawn", 3)
    assert len({item.question for item in items} | {load("drawn", 1, seed=5)[0].question}) == 4
    random.seed(1)
    before = random.getstate()
    assert gym.gym_score(str(items[2].gold), gym.recipe_of(items[2])) == 1
    assert random.getstate() == before
    verdicts = grade_many([(str(item.gold), "", gym.recipe_of(item)) for item in reversed(items)], 10)
    assert [verdict.score for verdict in verdicts] == [1, 1, 1]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    gym.dataset.cache_clear()
    with pytest.raises(MissingPrerequisite, match="reasoning-gym cannot be used") as caught:
        load("sums")
    assert "[gym]" in caught.value.hint


@pytest.mark.parametrize("task", TASKS)
def test_real_tasks_give_their_own_answer_the_whole_score(task: str) -> None:
    pytest.importorskip("reasoning_gym")
    gym.dataset.cache_clear()
    items = load(task, 3)
    pairs = [(str(item.gold), "", gym.recipe_of(item)) for item in items] + [("no", "", gym.recipe_of(items[0]))]
    assert [verdict.score for verdict in grade_many(pairs, 20)] == [1, 1, 1, 0]
