"""Who has the second largest number, the smallest, and so on: numbers are put in order, then one is picked."""

from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.writing import NAMES, Line, Piece, Solution, capital, fill, listed, result, say, write

SCENES = (  # the story, what each number is, the question for the largest and for the smallest
    ("In a test, {told} points.", "points", "Who has the {nth} score?", ("highest", "lowest")),
    ("At a fair, some friends throw darts: {told} points.", "points", "Who has the {nth} result?", ("best", "worst")),
    (
        "The children collect leaves. There, {told} leaves.",
        "leaves",
        "Who has the {nth} collection?",
        ("largest", "smallest"),
    ),
    ("In a reading week, {told} pages.", "pages", "Whose number of pages is the {nth}?", ("largest", "smallest")),
    ("After a game of cards, {told} points.", "points", "Who has the {nth} number?", ("largest", "smallest")),
)

ORDINALS = ("", "second ", "third ")

RESTATED = (
    "I have to put the numbers in order and pick the {nth} one",
    "we want the {nth} of these {count} numbers",
    "I need the {nth} {unit}, so sorting helps",
    "let me look for the {nth} number, step by step",
    "there are {count} people, and the {nth} is asked for",
)

TOP = (
    "The {top} number is {n}, from {name}.",
    "At the {end} of the list is {name} with {n}.",
    "{n} is the {top} of all, and it belongs to {name}.",
    "Looking through all of them, {name} has the {top}: {n}.",
    "First comes {name} with {n}.",
)

AFTER = (
    "After that comes {n}, which is {name}.",
    "Without {before}, the {top} is {n} from {name}.",
    "Of those that remain, {name} has the {top} with {n}.",
    "Next is {name} with {n}.",
    "Then {n} follows, and that is {name}.",
)

SORTED = (
    "In order, the numbers are {all}.",
    "Sorting gives {all}.",
    "Sorted from the {top} on: {all}.",
    "If I line them up, I get {all}.",
)

COUNTING = (
    "So number {place} in this order is {name}.",
    "Counting to {place}, I land on {name}.",
    "The one at place {place} is {name}.",
)

SLIPS = (
    "Next is {bad}. Wait, {name} has {n}, which comes before that.",
    "I see {bad} as the next one. Hmm, no, I overlooked {name} with {n}.",
    "Then it would be {bad}. Actually, wait: {name} has {n}, so {name} comes first.",
)

MISREADINGS = (
    "The {top} of all would be {first}. Wait, the question asks for the {nth}, so I must go on.",
    "One could answer {first}. Wait, that is only the {top}, and the {nth} is asked for.",
)

CHECKS = (
    "Wait, let me check from the other side: {below} of the {count} numbers {lie} {beyond} {n}. That fits.",
    "Let me double-check: {ahead} of the numbers {are} {before} {n}, so {name} is at place {place}.",
    "Alternatively, I count how many are {before} {n}: {ahead}. So the place is {place}.",
)

TOLD = (
    "{before} {is} ahead with {numbers}, and {name} follows with {n}.",
    "Only {before} {does} better than {name}, who has {n}.",
    "{name} has {n}, and just {before} {is} before that.",
)

TOLD_TOP = (
    "Nobody comes before {name}, who has {n}.",
    "With {n}, {name} stands at the {end} of everyone.",
    "{name} has {n}, and no other number goes beyond it.",
)


@dataclass(frozen=True)
class RankingProblem:
    """Numbers of people, and the place that is asked for."""

    scene: int  # of SCENES
    numbers: tuple[tuple[str, int], ...]  # name, number; in the order told
    place: int  # 1 = first
    largest: bool  # ordered from the largest on
    subject: str = "ranking"

    @property
    def nth(self) -> str:
        return ORDINALS[self.place - 1] + SCENES[self.scene][3][not self.largest]

    @property
    def asked(self) -> str:
        return f"person with the {self.nth} number"

    @property
    def question(self) -> str:
        story, _, ask, _ = SCENES[self.scene]
        told = listed([f"{name} has {n}" for name, n in self.numbers])
        return f"{story.format(told=told)} {ask.format(nth=self.nth)}"

    @property
    def order(self) -> list[tuple[str, int]]:
        return sorted(self.numbers, key=lambda each: each[1], reverse=self.largest)

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.numbers)

    @property
    def gold(self) -> str:
        return self.order[self.place - 1][0]

    @property
    def key(self) -> str:
        return f"ranking {sorted(n for _, n in self.numbers)}"

    def restate(self, rng: Random) -> str:
        return say(rng, RESTATED, nth=self.nth, count=len(self.numbers), unit=SCENES[self.scene][1])

    def solve(self, rng: Random, wrong: bool) -> Solution:
        order = self.order
        top = "largest" if self.largest else "smallest"
        end = "top" if self.largest else "bottom"
        slipped = self.place - 1 if wrong else None
        solution = Solution("")
        if slipped is not None:  # two neighbours change places, and the rest follows that
            other = slipped + 1 if slipped + 1 < len(order) else slipped - 1
            order[slipped], order[other] = order[other], order[slipped]
        name, n = order[self.place - 1]
        solution.final = name
        if self.place > 1 and rng.random() < 0.15:
            solution.detour(write(rng, MISREADINGS, top=top, first=order[0][0], nth=self.nth))
        if rng.random() < 0.45 or (slipped is not None and slipped != self.place - 1):
            line: Line = []
            for number, (who, value) in enumerate(order):
                line += [Piece(", ") if number else Piece(""), result(value, slipped is None)]
                line.append(Piece(f" ({who})"))
            template = rng.choice(SORTED)
            before, _, after = template.partition("{all}")
            solution.step([*fill(before, top=top), *line, *fill(after)])
            solution.step(write(rng, COUNTING, place=self.place, name=result(name, slipped is None)))
        else:
            for number, (who, value) in enumerate(order[: self.place]):
                right = slipped is None or number < slipped
                fields = {"n": result(value, right), "name": result(who, right), "top": top, "end": end}
                if number and right and number + 1 < len(order) and rng.random() < 0.1:
                    bad = result(order[number + 1][1], False)
                    solution.detour(write(rng, SLIPS, bad=bad, **fields))
                    solution.quoted.append(f"Next is {who} with {value}.")
                else:
                    solution.step(
                        write(
                            rng,
                            AFTER if number else TOP,
                            before=listed([w for w, _ in order[:number]] or [""]),
                            **fields,
                        )
                    )
        ahead, below = self.place - 1, len(order) - self.place
        if slipped is None and rng.random() < 0.2:
            before, beyond = ("above", "below") if self.largest else ("below", "above")
            solution.detour(
                write(
                    rng,
                    CHECKS,
                    below=below,
                    count=len(order),
                    n=n,
                    name=name,
                    place=self.place,
                    before=before,
                    beyond=beyond,
                    ahead=ahead,
                    lie="lies" if below == 1 else "lie",
                    are="is" if ahead == 1 else "are",
                )
            )
        front = [each[0] for each in order[: self.place - 1]]
        many = len(front) > 1
        solution.told.append(
            say(
                rng,
                TOLD if front else TOLD_TOP,
                before=listed(front or [""]),
                name=name,
                n=n,
                end=end,
                numbers=listed([str(each[1]) for each in order[: self.place - 1]] or [""]),
                **{"is": "are" if many else "is", "does": "do" if many else "does"},
            )
        )
        solution.told = [capital(each) for each in solution.told]
        return solution


def draw(rng: Random) -> RankingProblem:
    """Draws three or four people with numbers of different tens."""
    count = rng.choice((3, 4, 4))
    names = rng.sample(NAMES, count)
    numbers = [10 * tens + rng.randrange(10) for tens in rng.sample(range(1, 10), count)]
    place = rng.choice((1, 1, 2, 2))
    return RankingProblem(
        rng.randrange(len(SCENES)), tuple(zip(names, numbers, strict=True)), place, rng.random() < 0.5
    )
