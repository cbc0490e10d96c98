"""Who is tallest, second youngest, and so on, from clues about two people each.

A line of people, the end that is asked about first, grows at both ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.writing import (
    NAMES,
    READ,
    Line,
    Piece,
    Solution,
    capital,
    fill_around,
    listed,
    result,
    say,
    write,
)

RELATIONS = (  # more, less, most, least
    ("taller", "shorter", "tallest", "shortest"),
    ("older", "younger", "oldest", "youngest"),
    ("faster", "slower", "fastest", "slowest"),
    ("stronger", "weaker", "strongest", "weakest"),
    ("richer", "poorer", "richest", "poorest"),
    ("louder", "quieter", "loudest", "quietest"),
)

QUESTIONS = ("Who is the {nth}?", "Which of them is the {nth}?", "Who of these {count} is the {nth}?")

RESTATED = (
    "I need to order {all} from the clues",
    "there are {count} people, and I want the {nth}",
    "let me build one line out of the clues to see who is the {nth}",
    "the clues compare two people at a time, so I chain them",
    "we are asked for the {nth}, so I sort everybody",
)

CLUES = (  # {clue}: as told in the question; {line}: everybody so far
    "{clue}, so {line}.",
    "{clue}: {line}.",
    "I know that {clue}. That is {line}.",
    "One clue says that {clue}, which makes {line}.",
    "From the clue that {clue} I get {line}.",
)

NEXT = (
    "Then {clue}, so {line}.",
    "Next, {clue}: {line}.",
    "Also, {clue}. Now the line is {line}.",
    "And {clue}, which gives {line}.",
    "Since {clue}, the order becomes {line}.",
)

LINES = (
    "So the order is, from the {most} to the {least}: {line}.",
    "Together, the {most} first and the {least} last, that makes {line}.",
    "Putting it in one line from the {most} on: {line}.",
    "Hence, from the {most} down to the {least}, {line}.",
)

PICKS = (  # {counted}: who stands there, counted from the end of the line that is asked about
    "For the {nth} I count from there: {counted}.",
    "The {nth} is asked for, so I count: {counted}.",
    "Counting to the {nth}: {counted}.",
    "To find the {nth}, I go along the line: {counted}.",
)

MISREADINGS = (
    "Maybe it is {first}, who comes first. Wait, the {nth} is asked for, not the {most}.",
    "{First} leads the line. Wait, I need the {nth}, so that is not the answer.",
)

SLIPS = (
    "So {b} is {more} than {a}. Wait, I read that the wrong way round: {a} is {more} than {b}.",
    "That puts {b} before {a}. Hmm, no, wait. It is {a} who is {more}.",
)

CHECKS = (
    "Wait, let me check this against the clues: {a} before {b}, yes, that is right.",
    "Let me double-check: {count} people, {count} places, and {a} is indeed {more} than {b}. Good.",
    "Alternatively, I can start from the {least}: that is {last}, and going back I meet the same order.",
)

TOLD_LINE = (
    "From the {most} to the {least} we have {all}.",
    "Everybody in order: {all}.",
    "The row begins at the {most} end with {all}.",
    "Sorted by all clues at once, they are {all}.",
)

TOLD_INNER = (
    "{up} is {more} than {name}, while {down} is {less}.",
    "{name} stands between {up} and {down}.",
    "Right before {name} comes {up}, right after comes {down}.",
)

TOLD_END = (
    "Nobody is {more} than {name}.",
    "All the others are {less} than {name}.",
    "No clue puts anyone before {name}.",
)


@dataclass(frozen=True)
class OrderProblem:
    """People in order, clues about neighbours, and the place that is asked for."""

    relation: tuple[str, str, str, str]  # in the direction of the question: its words for more, less, most, least
    line: tuple[str, ...]  # from the most to the least
    clues: tuple[tuple[int, bool], ...]  # place of the first of two neighbours, told with the word for more
    place: int  # 1 = the most
    ask: str

    @property
    def nth(self) -> str:
        return ("", "second ")[self.place - 1] + self.relation[2]

    @property
    def asked(self) -> str:
        return f"{self.nth} one"

    @property
    def question(self) -> str:
        told = [f"{clue}." for clue in self.told(self.line)]
        return f"{' '.join(told)} {self.ask.format(nth=self.nth, count=len(self.line))}"

    def told(self, line: Sequence[str]) -> list[str]:
        """Words the clues about people in this order."""
        more, less, _, _ = self.relation
        return [
            f"{line[i]} is {more} than {line[i + 1]}" if up else f"{line[i + 1]} is {less} than {line[i]}"
            for i, up in self.clues
        ]

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(sorted(self.line))

    @property
    def gold(self) -> str:
        return self.line[self.place - 1]

    @property
    def key(self) -> str:
        return f"order {sorted(self.line)}"

    @property
    def subject(self) -> str:
        return self.relation[2]

    def restate(self, rng: Random) -> str:
        return say(rng, RESTATED, all=listed(self.options), count=len(self.line), nth=self.nth)

    def chain(self, line: Sequence[str], wrong: Sequence[str]) -> Line:
        """Writes people in order; the wrong ones are not to be learnt."""
        sign = " > " if self.relation in RELATIONS else " < "
        pieces: Line = []
        for number, name in enumerate(line):
            pieces += [Piece(sign if number else ""), result(name, name not in wrong)]
        return pieces

    def solve(self, rng: Random, wrong: bool) -> Solution:
        more, less, most, least = self.relation
        words = {"more": more, "less": less, "most": most, "least": least, "nth": self.nth, "count": len(self.line)}
        line = list(self.line)
        swapped: tuple[str, ...] = ()
        if wrong:  # neighbours change places, and the rest follows that
            i = self.place - 1
            line[i], line[i + 1] = line[i + 1], line[i]
            swapped = (line[i], line[i + 1])
        solution = Solution(line[self.place - 1])
        low = high = self.clues[0][0]  # of the line so far, as places
        for number, ((i, _), clue) in enumerate(zip(self.clues, self.told(line), strict=True)):
            low, high = min(low, i), max(high, i + 1)
            if not wrong and rng.random() < 0.03:
                solution.detour(write(rng, SLIPS, a=line[i], b=line[i + 1], **words))
            template = rng.choice(NEXT if number and rng.random() < 0.7 else CLUES)
            said = Piece(clue, 0.0 if wrong else READ)
            solution.step(fill_around(template, "{line}", self.chain(line[low : high + 1], swapped), clue=said))
        if rng.random() < 0.5:
            solution.step(fill_around(rng.choice(LINES), "{line}", self.chain(line, swapped), **words))
        if self.place > 1 and rng.random() < 0.1:
            solution.detour(write(rng, MISREADINGS, first=line[0], **words))
        if not wrong and rng.random() < 0.22:
            i = rng.randrange(len(line) - 1)
            solution.detour(write(rng, CHECKS, a=line[i], b=line[i + 1], last=line[-1], **words))
        counted = ", ".join(f"{name} ({place})" for place, name in enumerate(line[: self.place], start=1))
        solution.step(fill_around(rng.choice(PICKS), "{counted}", [result(counted, not wrong)], **words))
        if rng.random() < 0.6:
            solution.told.append(say(rng, TOLD_LINE, all=", then ".join(line), **words))
        fields = {"name": solution.final} | words
        if self.place > 1:
            fields |= {"up": line[self.place - 2], "down": line[self.place]}
        solution.told.append(say(rng, TOLD_INNER if self.place > 1 else TOLD_END, **fields))
        solution.told = [capital(each) for each in solution.told]
        return solution


def draw(rng: Random) -> OrderProblem:
    """Draws three or four people and a clue about every two neighbours."""
    return draw_line(rng, rng.choice((3, 3, 4)), (1, 2))


def draw_two(rng: Random) -> OrderProblem:
    """Draws two people and one clue."""
    return draw_line(rng, 2, (1,))


def draw_line(rng: Random, count: int, places_asked: tuple[int, ...]) -> OrderProblem:
    """Draws people, a clue about every two neighbours, and one of the places to ask for."""
    line = tuple(rng.sample(NAMES, count))
    places = [rng.randrange(count - 1)]
    while len(places) < count - 1:  # the next clue is about an end of the line so far
        ends = [place for place in (min(places) - 1, max(places) + 1) if 0 <= place < count - 1]
        places.append(rng.choice(ends))
    clues = tuple((place, rng.random() < 0.5) for place in places)
    more, less, most, least = rng.choice(RELATIONS)
    relation = (more, less, most, least) if rng.random() < 0.5 else (less, more, least, most)
    return OrderProblem(relation, line, clues, rng.choice(places_asked), rng.choice(QUESTIONS))
