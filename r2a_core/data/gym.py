"""Tasks of the package reasoning-gym: an entry of `datasets` -> Items, and the score that a task gives an answer.

An item's `extra` holds a recipe, with which the package makes the same question again wherever it is graded, and the
task's own metadata, written solutions among them.

Questions are made in a process of their own, `python -m r2a_core.data.gym`, since some depend on Python's hash seed:
GymDataset as JSON in, a JSON list of Items out, or an object with a message and a hint.

Some tasks run the answer as Python, or hand it to sympy, which does. Such an answer reaches its task only when it holds
nothing that calls or opens anything but functions of mathematics.
"""

import functools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r2a_core.config import GymDataset
from r2a_core.data.items import Item
from r2a_core.infra.errors import MissingPrerequisite, R2AError

PROJECT = Path(__file__).resolve().parents[2]

FIXED_HASHES = {"PYTHONHASHSEED": "0"}  # of every process that makes questions

RUN_BY = (  # tasks that run answers as Python
    "binary_matrix",
    "countdown",
    "intermediate_integration",
    "n_queens",
    "polynomial_multiplication",
    "puzzle24",
    "simple_integration",
    "spiral_matrix",
    "string_insertion",
)

FUNCTIONS = (
    *("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan", "sinh", "cosh", "tanh"),
    *("exp", "log", "ln", "sqrt", "pi"),
)

WORDS = re.compile(r"[^\W\d]\w*")

ATTRIBUTE = re.compile(r"\.\s*[^\W\d]")

WRAPPED = re.compile(r"\s*\\(?:text|textbf|mathrm|mathbf)\{([^{}]*)\}\s*")


def load_gym(params: GymDataset) -> list[Item]:
    """Makes the first n questions of a task, always the same. Raises what `make_items` raises."""
    require_package()
    made = subprocess.run(
        [sys.executable, "-m", "r2a_core.data.gym"],
        input=params.model_dump_json(),
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env=os.environ | FIXED_HASHES,
        check=True,
    )
    found = json.loads(made.stdout)
    if isinstance(found, dict):
        raise R2AError(found["message"], found["hint"])
    return [Item(**values) for values in found]


def make_items(params: GymDataset) -> list[Item]:
    """Makes the questions here. Raises R2AError for an unknown task and a config that it refuses."""
    recipe = {"task": params.task, "config": params.config, "seed": params.seed}
    entries = dataset(json.dumps(recipe))
    return [item(each, entry(entries, each)) for each in (recipe | {"index": number} for number in range(params.n))]


def item(recipe: dict[str, Any], made: dict[str, Any]) -> Item:
    """Makes an item of one entry of the package."""
    extra = json.dumps({"recipe": recipe, "metadata": made.get("metadata", {})}, default=str)
    item_id, answer = f"{recipe['task']}-{recipe['index']:05d}", made.get("answer")
    return Item(
        item_id, made["question"].strip(), None if answer is None else str(answer), "gym", recipe["task"], "", extra
    )


def recipe_of(made: Item) -> str:
    """Returns the recipe of an item and its question, as JSON text: what `gym_score` needs."""
    return json.dumps(json.loads(made.extra)["recipe"] | {"question": made.question})


def gym_score(answer: str, recipe_text: str) -> float:
    """Scores an answer by its own task, 0..1. Raises R2AError when the package makes another question."""
    recipe = json.loads(recipe_text)
    entries = dataset(json.dumps({key: recipe[key] for key in ("task", "config", "seed")}))
    made = entry(entries, recipe)
    if made["question"].strip() != recipe["question"]:
        raise R2AError(
            f"reasoning-gym makes another question of {recipe['task']} {recipe['index']} than it did",
            "use the version that made the dataset, or make the dataset again: dvc repro -f",
        )
    inside = WRAPPED.fullmatch(answer)
    answers = [answer, inside[1]] if inside else [answer]
    return max(
        (float(entries.score_answer(each, made)) for each in answers if may_score(each, recipe["task"])), default=0.0
    )


def may_score(answer: str, task: str) -> bool:
    """Checks whether a task may be given an answer: those that run answers get only what does nothing."""
    if task not in RUN_BY or not re.search(r"[({\[.@]", answer):
        return True
    known = all(len(word) == 1 or word in FUNCTIONS for word in WORDS.findall(answer))
    return known and "{" not in answer and not ATTRIBUTE.search(answer)


def require_package() -> Any:
    """Returns the module reasoning_gym. Raises MissingPrerequisite where it cannot be imported."""
    try:
        import reasoning_gym  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingPrerequisite(
            f"reasoning-gym cannot be used: {error}", "pip install -c constraints.txt '.[gym]'"
        ) from None
    return reasoning_gym


@functools.lru_cache(maxsize=4)
def dataset(recipe_text: str) -> Any:
    """Makes the package's dataset of a task, config and seed. Raises what `load_gym` and `require_package` raise."""
    package = require_package()
    tasks = package.factory.DATASETS
    recipe = json.loads(recipe_text)
    if recipe["task"] not in tasks:
        raise R2AError(f"reasoning-gym has no task {recipe['task']!r}", f"the tasks are {', '.join(sorted(tasks))}")
    try:
        return package.create_dataset(recipe["task"], **{**recipe["config"], "seed": recipe["seed"]})
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        raise R2AError(
            f"reasoning-gym refuses the config of {recipe['task']}: {error}",
            "correct config of that dataset in params.yaml",
        ) from None


def entry(entries: Any, recipe: dict[str, Any]) -> dict[str, Any]:
    """Makes the entry of a recipe. Raises R2AError when the task cannot make it with its config."""
    task, index = recipe["task"], recipe["index"]
    try:
        with seeded(f"{task} {recipe['seed']} {index}"):
            return entries[index]
    except Exception as error:  # whatever a task of the package stumbles over with this config
        raise R2AError(
            f"reasoning-gym cannot make question {index} of {task}: {type(error).__name__}: {error}",
            "correct config of that dataset in params.yaml",
        ) from None


@contextmanager
def seeded(text: str) -> Iterator[None]:
    """Seeds the generators that Python and numpy share, which some tasks draw from, and restores them afterwards."""
    numpy = sys.modules.get("numpy")
    before, arrays = random.getstate(), numpy and numpy.random.get_state()
    random.seed(text)
    if numpy is not None:
        numpy.random.seed(random.Random(text).getrandbits(32))
    try:
        yield
    finally:
        random.setstate(before)
        if numpy is not None:
            numpy.random.set_state(arrays)


def main() -> None:
    """Makes the questions of the entry on the standard input and writes them to the standard output."""
    out, sys.stdout = sys.stdout, sys.stderr  # some tasks print
    try:
        made = [asdict(each) for each in make_items(GymDataset.model_validate_json(sys.stdin.read()))]
    except R2AError as error:
        made = {"message": error.message, "hint": error.hint}
    json.dump(made, out)


if __name__ == "__main__":
    main()
