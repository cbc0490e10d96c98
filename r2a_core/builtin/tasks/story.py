"""What a word problem is: a story in sentences, a question, and the chain of sums that answers it."""

from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.sums import Sum, outcomes, solve_sums
from r2a_core.builtin.tasks.writing import Solution, say

LARGEST = 70

REFLECTING = 0.22  # share of the steps with a second thought

RESTATED = (
    "I need to find {asked}",
    "the question is about {asked}",
    "we want to know {asked}",
    "what I have to work out is {asked}",
    "I am looking for {asked}",
    "I should follow the numbers in the story to get {asked}",
    "let me see what the problem says about {asked}",
    "the task is to compute {asked}, so I will go through the story",
    "the story says: {told} And I want {asked}",
    "we are told this: {told} The goal is {asked}",
    "it begins like this: {told} From there I go on to {asked}",
    "the start is clear: {told} And {asked} is what I need",
)


@dataclass(frozen=True)
class StoryProblem:
    """A story with its chain of sums."""

    told: str
    ask: str  # the question at its end
    asked: str
    sums: tuple[Sum, ...]
    subject: str
    options: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        return f"{self.told} {self.ask}"

    @property
    def gold(self) -> str:
        return str(outcomes(self.sums)[-1])

    @property
    def key(self) -> str:
        """Splits by the sums alone: the same numbers in another story are on the same side."""
        return "story " + " ".join(f"{each.left}{each.operator}{each.right}" for each in self.sums)

    def restate(self, rng: Random) -> str:
        return say(rng, RESTATED, asked=f"the {self.asked}", told=self.told.split(". ")[0].rstrip(".") + ".")

    def solve(self, rng: Random, wrong: bool) -> Solution:
        return solve_sums(rng, self.sums, wrong, REFLECTING, LARGEST)
