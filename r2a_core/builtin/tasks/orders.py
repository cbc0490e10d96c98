"""Who is tallest, second oldest, and so on, from clues about two people each: a line of people grows at its ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.writing import NAMES, READ, Line, Piece, Solution, capital, fill, listed, result, say, write

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

FIRST = (
    "The {most} stands first: {name}.",
    "At the front of the line is {name}.",
    "The line begins with the {most}, {name}.",
)

LAST = (
    "The {least} stands last: {name}.",
    "At the end of the line is {name}.",
    "The line ends with the {least}, {name}.",
)

SECOND = (
    "The {most} is {first}, and right after {first} comes {name}.",
    "{First} leads the line, so the {nth} is the next one: {name}.",
)

LAST_BUT_ONE = (
    "The {least} is {last}, and right before {last} comes {name}.",
    "{Last} ends the line, so the {nth} is the one before: {name}.",
)

MISREADINGS = (
    "Maybe it is {first}, who comes first. Wait, the {nth} is asked for, not the {most}.",
    "{First} leads the line. Wait, I need the {nth}, so that is not the answer.",
)

SLIPS = (
    "So {b} is {more} than {a}. Wait, I read that the wrong way round: {a} is {more} than {b}.",
    "That puts {b} above {a}. Hmm, no, wait. It is {a} who is {more}.",
)

CHECKS = (
    "Wait, let me check this against the clues: {a} before {b}, yes, that is right.",
    "Let me double-check: {count} people, {count} places, and {a} is indeed {more} than {b}. Good.",
    "Alternatively, I can start from the {least}: that is {last}, and going up I meet the same order.",
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
    "Directly above {name} is {up}, directly below is {down}.",
)

TOLD_END = (
    "Nobody is {more} than {name}.",
    "All the others are {less} than {name}.",
    "No clue puts anyone above {name}.",
)

TOLD_BOTTOM = (
    "Nobody is {less} than {name}.",
    "All the others are {more} than {name}.",
    "No one is left below {name}.",
)


@dataclass(frozen=True)
class OrderProblem:
    """People in order, clues about neighbours, and the place that is asked for."""

    relation: tuple[str, str, str, str]
    line: tuple[str, ...]  # from the most to the least
    clues: tuple[tuple[int, bool], ...]  # place of the upper one, told with the word for more
    place: int  # 1 = the most
    from_top: bool  # whether the question counts from the most
    ask: str

    @property
    def nth(self) -> str:
        place = self.place if self.from_top else len(self.line) - self.place + 1
        return ("", "second ")[place - 1] + self.relation[2 if self.from_top else 3]

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

    def solve(self, rng: Random, wrong: bool) -> Solution:
        more, less, most, least = self.relation
        words = {"more": more, "less": less, "most": most, "least": least, "nth": self.nth, "count": len(self.line)}
        line = list(self.line)
        slip = None
        if wrong:  # neighbours change places, and the rest follows that
            slip = self.place - 1 if self.place < len(line) else self.place - 2
            line[slip], line[slip + 1] = line[slip + 1], line[slip]
        final = line[self.place - 1]
        solution = Solution(final)
        wrong_ones = () if slip is None else (line[slip], line[slip + 1])
        first = self.clues[0][0]
        low, high = first, first  # of the line so far, as places
        for number, ((i, _), clue) in enumerate(zip(self.clues, self.told(line), strict=True)):
            low, high = min(low, i), max(high, i + 1)
            if slip is None and rng.random() < 0.06:
                solution.detour(write(rng, SLIPS, a=line[i], b=line[i + 1], **words))
            template = rng.choice(NEXT if number and rng.random() < 0.7 else CLUES)
            said = Piece(clue, READ if slip is None else 0.0)
            solution.step(with_line(template, chain(line[low : high + 1], wrong_ones), clue=said))
        if rng.random() < 0.5:
            solution.step(with_line(rng.choice(LINES), chain(line, wrong_ones), **words))
        if self.place > 1 and rng.random() < 0.15:
            solution.detour(write(rng, MISREADINGS, first=line[0], **words))
        if slip is None and rng.random() < 0.22:
            i = rng.randrange(len(line) - 1)
            solution.detour(write(rng, CHECKS, a=line[i], b=line[i + 1], last=line[-1], **words))
        picks = {(1, True): FIRST, (2, True): SECOND, (1, False): LAST, (2, False): LAST_BUT_ONE}
        nth = self.place if self.from_top else len(line) - self.place + 1
        ends = {
            "first": result(line[0], line[0] not in wrong_ones),
            "last": result(line[-1], line[-1] not in wrong_ones),
        }
        solution.step(write(rng, picks[nth, self.from_top], name=result(final), **ends, **words))
        if rng.random() < 0.6:
            solution.told.append(say(rng, TOLD_LINE, all=", then ".join(line), **words))
        fields = {"name": final} | words
        if self.place == 1:
            solution.told.append(say(rng, TOLD_END, **fields))
        elif self.place == len(line):
            solution.told.append(say(rng, TOLD_BOTTOM, **fields))
        else:
            solution.told.append(say(rng, TOLD_INNER, up=line[self.place - 2], down=line[self.place], **fields))
        solution.told = [capital(each) for each in solution.told]
        return solution


def chain(line: Sequence[str], wrong: Sequence[str]) -> Line:
    """Writes people in order; the wrong ones are not to be learnt."""
    pieces: Line = []
    for number, name in enumerate(line):
        pieces += [Piece(" > ") if number else Piece(""), result(name, name not in wrong)]
    return pieces


def with_line(template: str, line: Line, **fields: str | int | Piece) -> Line:
    """Fills a template around a line of people."""
    before, _, after = template.partition("{line}")
    return [*fill(before, **fields), *line, *fill(after, **fields)]


def draw(rng: Random) -> OrderProblem:
    """Draws three or four people and a clue about every two neighbours."""
    count = rng.choice((3, 4, 4))
    line = tuple(rng.sample(NAMES, count))
    places = [rng.randrange(count - 1)]
    while len(places) < count - 1:  # the next clue is about an end of the line so far
        ends = [place for place in (min(places) - 1, max(places) + 1) if 0 <= place < count - 1]
        places.append(rng.choice(ends))
    clues = [(place, rng.random() < 0.5) for place in places]
    from_top = rng.random() < 0.5
    nth = rng.choice((1, 1, 2))
    place = nth if from_top else count - nth + 1
    return OrderProblem(rng.choice(RELATIONS), line, tuple(clues), place, from_top, rng.choice(QUESTIONS))
