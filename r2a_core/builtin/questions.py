"""The built-in datasets: arithmetic stories and comparisons of things in a small invented world.

Input: a count and a seed. Output: Items (or pairs of questions that differ in their context only), the same for the
same seed, none of which the built-in models are trained on: a hash of the question decides which side it falls on.
"""

import json
import random
from dataclasses import dataclass

from r2a_core.builtin.facts import DOMAINS, NAMES, OBJECTS, PLACES, Domain
from r2a_core.builtin.held_out import distinct, is_held_out
from r2a_core.data.items import Item, QuestionPair, choice

HELD_OUT_SHARE = 6  # one question in this many is kept for testing

ORDINALS = ("First", "Second", "Third", "Last")

WORDS = {"+": "more", "-": "less", "*": "times"}  # how a step is worded

STEPS = (2, 3, 4)  # steps of an arithmetic story

LARGEST_COUNT = 20  # of objects, at any time

LARGEST_CHANGE = 5  # objects that come or go at a step

MAX_TRIES = 200_000  # draws before a generator gives up


@dataclass(frozen=True)
class Step:
    """One event of an arithmetic story: the count becomes count + k, count - k or count * k."""

    place: str
    operator: str  # "+", "-" or "*"
    operand: int  # 1..LARGEST_CHANGE for + and -, 2 for *

    def apply(self, count: int) -> int:
        """Returns the count after this step."""
        return {"+": count + self.operand, "-": count - self.operand, "*": count * self.operand}[self.operator]

    def clause(self) -> str:
        """Words the step as the question does."""
        return f"{self.place} {self.operand} {WORDS[self.operator]}"


@dataclass(frozen=True)
class ArithmeticProblem:
    """A count of objects and what becomes of it, step by step."""

    name: str
    thing: str
    start: int
    steps: tuple[Step, ...]

    @property
    def counts(self) -> list[int]:
        """Lists the count at the start and after each step."""
        counts = [self.start]
        for step in self.steps:
            counts.append(step.apply(counts[-1]))
        return counts

    @property
    def question(self) -> str:
        told = zip(ordinals(len(self.steps)), self.steps, strict=True)
        events = "".join(f"{ordinal} {step.clause()}. " for ordinal, step in told)
        return f"{self.name} has {self.start} {self.thing}. {events}How many {self.thing} has {self.name} now?"

    @property
    def gold(self) -> str:
        return str(self.counts[-1])

    @property
    def held_out(self) -> bool:
        return is_held_out(self.question, HELD_OUT_SHARE)


@dataclass(frozen=True)
class ComparisonProblem:
    """Which of two things has more (or less) of a quality in a context; their ranks there differ."""

    domain: Domain
    context: str
    comparator: str
    first: str
    second: str

    @property
    def question(self) -> str:
        considered = self.domain.contexts[self.context].phrase
        return f"Considering {considered}, which is {self.comparator}: {self.first} or {self.second}?"

    @property
    def ranks(self) -> tuple[int, int]:
        """Returns the ranks of the first and the second thing, 1..9."""
        return self.domain.rank(self.context, self.first), self.domain.rank(self.context, self.second)

    @property
    def gold(self) -> str:
        low, high = (self.first, self.second) if self.ranks[0] < self.ranks[1] else (self.second, self.first)
        return low if self.domain.lower(self.comparator) else high

    @property
    def held_out(self) -> bool:
        """Splits by the question without its context, so that minimal pairs stay on one side."""
        return is_held_out(f"which is {self.comparator}: {self.first} or {self.second}?", HELD_OUT_SHARE)


def arithmetic(n: int, seed: int) -> list[Item]:
    """Draws n held-out arithmetic stories; the first items are the same for every n."""

    def item(number: int, problem: ArithmeticProblem) -> Item:
        chance = 1 / LARGEST_COUNT  # every count lies from 1 to there
        extra = json.dumps({"steps": len(problem.steps), "counts": problem.counts, "chance": chance})
        return Item(
            f"arithmetic-{number:05d}",
            problem.question,
            problem.gold,
            "math",
            "arithmetic",
            str(len(problem.steps)),
            extra,
        )

    rng = random.Random(f"arithmetic {seed}")
    drawn = distinct(lambda rng: draw_arithmetic(rng, True), lambda problem: problem.question, rng, MAX_TRIES)
    return [item(number, problem) for number, problem in zip(range(n), drawn)]  # noqa: B905 - drawn is endless


def comparison(n: int, seed: int) -> list[Item]:
    """Draws n held-out comparisons; the first items are the same for every n. Raises R2AError if there are too few."""

    def item(number: int, problem: ComparisonProblem) -> Item:
        known = {"context": problem.context, "ranks": problem.ranks}
        extra = json.dumps(known | choice((problem.first, problem.second)))
        return Item(
            f"comparison-{number:05d}", problem.question, problem.gold, "comparison", problem.domain.name, "", extra
        )

    rng = random.Random(f"comparison {seed}")
    drawn = distinct(lambda rng: draw_comparison(rng, True), lambda problem: problem.question, rng, MAX_TRIES)
    return [item(number, problem) for number, problem in zip(range(n), drawn)]  # noqa: B905 - drawn raises at its end


def comparison_pairs(n: int, seed: int) -> list[QuestionPair]:
    """Draws n minimal pairs of held-out comparisons; the first are the same for every n. Raises R2AError if too few."""
    rng = random.Random(f"comparison pairs {seed}")
    drawn = distinct(lambda rng: draw_pair(rng, True), pair_key, rng, MAX_TRIES)
    return [
        QuestionPair(
            f"builtin-{number:05d}",
            clean.question,
            clean.gold,
            corrupted.question,
            corrupted.gold,
            clean.comparator,
            clean.domain.name,
        )
        for number, (clean, corrupted) in zip(range(n), drawn)  # noqa: B905 - drawn raises at its end
    ]


def ordinals(count: int) -> tuple[str, ...]:
    """Returns the ordinals of 1 to 4 steps; the last one is marked as the last."""
    return (*ORDINALS[: count - 1], ORDINALS[-1])


def draw_arithmetic(rng: random.Random, held_out: bool) -> ArithmeticProblem:
    """Draws a story from one side of the split."""
    while True:
        start = count = rng.randint(3, LARGEST_COUNT)
        steps = []
        for place in rng.sample(PLACES, rng.choice(STEPS)):
            steps.append(draw_step(rng, place, count))
            count = steps[-1].apply(count)
        problem = ArithmeticProblem(rng.choice(NAMES), rng.choice(OBJECTS), start, tuple(steps))
        if problem.held_out == held_out:
            return problem


def draw_step(rng: random.Random, place: str, count: int) -> Step:
    """Draws a step that keeps the count between 1 and the largest."""
    while True:
        operator = rng.choice("+++---*")
        step = Step(place, operator, 2 if operator == "*" else rng.randint(1, LARGEST_CHANGE))
        if 1 <= step.apply(count) <= LARGEST_COUNT:
            return step


def draw_comparison(rng: random.Random, held_out: bool) -> ComparisonProblem:
    """Draws a comparison from one side of the split."""
    while True:
        domain = rng.choice(DOMAINS)
        first, second = rng.sample(domain.things, 2)
        context, comparator = rng.choice(tuple(domain.contexts)), rng.choice(domain.comparators)
        problem = ComparisonProblem(domain, context, comparator, first, second)
        if problem.ranks[0] != problem.ranks[1] and problem.held_out == held_out:
            return problem


def draw_pair(rng: random.Random, held_out: bool) -> tuple[ComparisonProblem, ComparisonProblem]:
    """Draws a clean and a corrupted comparison from one side of the split."""
    while True:
        clean = draw_comparison(rng, held_out)
        context = rng.choice([context for context in clean.domain.contexts if context != clean.context])
        corrupted = ComparisonProblem(clean.domain, context, clean.comparator, clean.first, clean.second)
        if corrupted.ranks[0] != corrupted.ranks[1] and corrupted.gold != clean.gold:
            return clean, corrupted


def pair_key(pair: tuple[ComparisonProblem, ComparisonProblem]) -> str:
    """Identifies a pair: swapping clean and corrupted does not make a new one."""
    return " ".join(sorted(problem.question for problem in pair))
