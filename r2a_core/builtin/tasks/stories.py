"""Word problems of two to four steps with small numbers, of several kinds. No count exceeds LARGEST."""

from collections.abc import Callable
from random import Random

from r2a_core.builtin.tasks.stories_of_people import ages, collection, two_people, work
from r2a_core.builtin.tasks.stories_of_places import packs, place, shopping
from r2a_core.builtin.tasks.story import LARGEST, StoryProblem
from r2a_core.builtin.tasks.sums import outcomes, possible

KINDS: tuple[Callable[[Random], StoryProblem], ...] = (collection, place, shopping, packs, two_people, work, ages)

SHARES_OF_KINDS = (3, 3, 2, 2, 2, 1, 1)


def draw(rng: Random) -> StoryProblem:
    """Draws a story whose numbers stay in range."""
    while True:
        problem = rng.choices(KINDS, SHARES_OF_KINDS)[0](rng)
        found = outcomes(problem.sums)
        if possible(problem.sums, found, LARGEST):
            return problem
