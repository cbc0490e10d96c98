"""The built-in datasets in natural English: held-out questions of a task, and held-out pairs that differ in context.

Input: a count and a seed. Output: Items or QuestionPairs, the first of which do not change when the count grows. Of a
question with options, `extra` holds them and the chance of guessing right.
"""

import json
from itertools import islice
from random import Random

from r2a_core.builtin.held_out import distinct
from r2a_core.builtin.tasks.comparison_draws import draw_pair
from r2a_core.builtin.tasks.comparisons import ComparisonProblem
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.builtin.tasks.writing import MAX_TRIES, Problem, draw_side
from r2a_core.config import TaskName
from r2a_core.data.items import Item, QuestionPair, choice


def task_items(task: TaskName, n: int, seed: int) -> list[Item]:
    """Draws n held-out questions of a task. Raises R2AError if there are too few."""

    def item(number: int, problem: Problem) -> Item:
        options = problem.options
        extra = choice(options) if options else {}
        kind = "comparison" if options else "math"
        item_id = f"{task}-{number:05d}"
        return Item(item_id, problem.question, problem.gold, kind, problem.subject, "", json.dumps(extra))

    rng = Random(f"{task} {seed}")
    drawn = distinct(lambda rng: draw_side(TASKS[task], rng, True), lambda problem: problem.question, rng, MAX_TRIES)
    return [item(number, problem) for number, problem in enumerate(islice(drawn, n))]


def context_pairs(n: int, seed: int) -> list[QuestionPair]:
    """Draws n pairs of held-out comparisons in the paper's form. Raises R2AError if there are too few."""

    def name(pair: tuple[ComparisonProblem, ComparisonProblem]) -> str:
        """Names a pair by things, comparator and contexts, in any order."""
        clean, corrupted = pair
        return f"{clean.key} {clean.asked_word} {sorted((clean.context, corrupted.context))}"

    drawn = distinct(draw_pair, name, Random(f"context pairs {seed}"), MAX_TRIES)
    return [
        QuestionPair(
            f"context-{number:05d}",
            clean.question,
            clean.gold,
            corrupted.question,
            corrupted.gold,
            clean.asked_word,
            clean.domain.name,
        )
        for number, (clean, corrupted) in enumerate(islice(drawn, n))
    ]
