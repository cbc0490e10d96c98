"""Counting legs of animals and wheels of vehicles: products, then their sum."""

from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.sums import Of, Sum, outcomes, solve_sums
from r2a_core.builtin.tasks.writing import WORDING, Piece, Solution, listed, say

LEGS = {
    "hens": 2,
    "ducks": 2,
    "crows": 2,
    "geese": 2,
    "children": 2,
    "cows": 4,
    "dogs": 4,
    "cats": 4,
    "horses": 4,
    "pigs": 4,
    "goats": 4,
    "rabbits": 4,
    "lions": 4,
    "frogs": 4,
    "flies": 6,
    "bees": 6,
    "beetles": 6,
    "spiders": 8,
    "crabs": 10,
}

WHEELS = {"bicycles": 2, "scooters": 2, "tricycles": 3, "cars": 4, "vans": 4, "wagons": 4, "wheelbarrows": 1}

NONE = ("snakes", "fish", "worms")  # have no legs at all

SCENES = {
    "legs": (
        "On a farm there are {all}.",
        "A child draws {all}.",
        "In a picture book you can see {all}.",
        "A film shows {all}.",
        "Behind the barn sit {all}.",
        "A zoo keeper counts {all}.",
    ),
    "wheels": (
        "In a yard stand {all}.",
        "A shop repairs {all}.",
        "On a parking lot there are {all}.",
        "A village owns {all}.",
        "A boy counts {all} on the street.",
    ),
}

QUESTIONS = (
    "How many {part} do they have altogether?",
    "How many {part} are there in all?",
    "What is the total number of {part}?",
    "How many {part} is that together?",
)

RESTATED = (
    "I have to count all {part} of the {kinds}",
    "we are asked for the {part} of the {kinds} together",
    "let me count {part} kind by kind",
    "I multiply each number by the {part} of one and add up",
    "there are {kinds}, and I need all their {part}",
)

EVENTS = (
    "{kind} have {each} {part} each and there are {n} of them",
    "one {one} has {each} {part} and there are {n}",
    "each of the {n} {kind} has {each} {part}",
    "{n} {kind} with {each} {part} each are counted",
    "there are {n} {kind}, and a {one} has {each} {part}",
    "every {one} has {each} {part}, and I see {n} {kind}",
)

SINGULAR = {"children": "child", "flies": "fly", "geese": "goose"}

LEGLESS = (
    "Wait, {noun} have no legs, so the {n} {noun} add nothing.",
    "What about the {n} {noun}? They have no legs at all, so they count 0.",
    "Wait, I must not count the {n} {noun}: they have no legs.",
    "Alternatively, I could write {n} * 0 = 0 for the {noun}. They change nothing.",
)


@dataclass(frozen=True)
class CountProblem:
    """Numbers of some kinds, each with the same part."""

    scene: str
    ask: str
    part: str  # legs | wheels
    counts: tuple[tuple[str, int], ...]  # kind, how many; in the order told
    wordings: tuple[str, ...]  # of EVENTS, by kind
    legless: tuple[str, int] | None = None
    options: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        told = [f"{n} {kind}" for kind, n in self.counts]
        if self.legless:
            told.insert(1, f"{self.legless[1]} {self.legless[0]}")
        return f"{self.scene.format(all=listed(told))} {self.ask}"

    @property
    def each(self) -> dict[str, int]:
        return LEGS if self.part == "legs" else WHEELS

    def event(self, kind: str, n: int, wording: str) -> str:
        """Says what is counted of one kind."""
        each = self.each[kind]
        part = self.part if each > 1 else self.part[:-1]
        return wording.format(n=n, kind=kind, one=SINGULAR.get(kind, kind[:-1]), each=each, part=part)

    @property
    def sums(self) -> list[Sum]:
        sums = [
            Sum(n, "*", self.each[kind], self.event(kind, n, wording), self.part)
            for (kind, n), wording in zip(self.counts, self.wordings, strict=True)
        ]
        sums.append(
            Sum(
                Of(0),
                "+",
                Of(1),
                f"I add the {self.part} of the {self.counts[0][0]} and the {self.counts[1][0]}",
                self.part,
            )
        )
        if len(self.counts) > 2:
            sums.append(Sum(Of(3), "+", Of(2), f"the {self.part} of the {self.counts[2][0]} come on top", self.part))
        return sums

    @property
    def gold(self) -> str:
        return str(outcomes(self.sums)[-1])

    @property
    def key(self) -> str:
        return f"{self.part} " + " ".join(sorted(f"{self.each[kind]}x{n}" for kind, n in self.counts))

    @property
    def asked(self) -> str:
        return f"number of {self.part}"

    @property
    def subject(self) -> str:
        return self.part

    def restate(self, rng: Random) -> str:
        return say(rng, RESTATED, part=self.part, kinds=listed([kind for kind, _ in self.counts]))

    def solve(self, rng: Random, wrong: bool) -> Solution:
        solution = solve_sums(rng, self.sums, wrong, 0.16)
        if self.legless:
            noun, n = self.legless
            line = [Piece(say(rng, LEGLESS, noun=noun, n=n), WORDING)]
            solution.steps.insert(rng.randint(0, min(2, len(solution.steps))), line)
        return solution


def draw(rng: Random) -> CountProblem:
    """Draws two or three kinds."""
    part = "legs" if rng.random() < 0.7 else "wheels"
    table = LEGS if part == "legs" else WHEELS
    kinds = rng.sample(list(table), rng.choice((2, 2, 3)))
    counts = tuple((kind, rng.randint(2, 6 if table[kind] > 4 else 9)) for kind in kinds)
    wordings = tuple(rng.choice(EVENTS) for _ in counts)
    legless = (rng.choice(NONE), rng.randint(2, 9)) if part == "legs" and rng.random() < 0.2 else None
    return CountProblem(
        rng.choice(SCENES[part]), rng.choice(QUESTIONS).format(part=part), part, counts, wordings, legless
    )
