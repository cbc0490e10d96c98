"""A stand-in for the package reasoning-gym: the parts of its interface that the project uses, with three tasks.

Task `sums` scores as most tasks do: 1 for the answer, a part of 1 for a text that holds it. Task `puzzle24` runs the
answer, as the package's does. Their questions depend on a number of the environment, as those of another version may.
Task `drawn` draws from Python's shared generator, as some of the package do.
"""

import os
import random
from typing import Any

from reasoning_gym import factory  # type: ignore[import-not-found]


class Sums:
    def __init__(self, seed: int, largest: int = 9) -> None:
        if largest < 1:
            raise ValueError("largest must be at least 1")
        self.seed, self.largest, self.version = seed, largest, os.environ.get("STAND_IN_GYM", "1")

    def __getitem__(self, index: int) -> dict[str, Any]:
        a, b = (self.seed + 3 * index) % self.largest + 1, index % self.largest + 1
        question = f"What is {a} + {b}?\n" if self.version == "1" else f"Add {a} and {b}."
        print("a task may print")
        return {"question": question, "answer": str(a + b), "metadata": {"answer_cot": f"{a} + {b} = {a + b}", 1: {2}}}

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        return float(answer == entry["answer"]) or 0.01 * (entry["answer"] in answer)


class Run(Sums):
    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        return float(eval(answer) == int(entry["answer"]))


class Drawn(Sums):
    def __getitem__(self, index: int) -> dict[str, Any]:
        a, b = random.randrange(10**9), random.randrange(10**9)
        return {"question": f"What is {a} + {b}?", "answer": str(a + b)}


def create_dataset(name: str, **config: Any) -> Sums:
    return factory.DATASETS[name](**config)


factory.DATASETS.update(sums=Sums, puzzle24=Run, drawn=Drawn)
