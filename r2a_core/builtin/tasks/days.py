"""Days of the week: which day it is after some moves forward and back. One option in seven is right."""

from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.writing import (
    NAMES,
    Solution,
    article,
    capital,
    fill_around,
    listed,
    pronouns,
    result,
    say,
    write,
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

STORIES = (
    (
        "{A_thing} is planned for {day}.",
        "it is moved {n} days {way}",
        ("later", "earlier"),
        "On which day of the week is the {thing} now?",
    ),
    (
        "Today is {day}. {name} counts days on a calendar.",
        "{he} goes {n} days {way}",
        ("forward", "back"),
        "On which weekday does {he} end?",
    ),
    (
        "{name} wants to travel on {day}.",
        "the trip is put {n} days {way}",
        ("later", "earlier"),
        "On which weekday does {he} travel?",
    ),
    (
        "The {thing} should be on {day}.",
        "the date shifts {n} days {way}",
        ("forward", "back"),
        "Which weekday is it in the end?",
    ),
)

THINGS = ["meeting", "concert", "exam", "party", "game", "market", "lesson", "wedding"]

RESTATED = (
    "I start from {day} and follow the days",
    "it begins on {day}, and I have to keep track of the weekday",
    "we need a weekday, and the start is {day}",
    "let me move along the week, beginning with {day}",
    "the first day is {day}, so I go on from there",
)

COUNTED = (
    "From {day}, {n} {way}: {chain}.",
    "{N} {way} from {day}: {chain}.",
    "Starting at {day} I count {n} {way}: {chain}.",
    "I go {n} {way} from {day}, that is {chain}.",
    "Counting {n} {way} after {day} gives {chain}.",
)

LANDED = (
    "So we are at {end}.",
    "That is {end}.",
    "Now it is {end}.",
    "This lands on {end}.",
    "It is {end} at this point.",
)

SLIPS = (
    "I think it is {bad}. Hmm, let me recount: {again}. So it is {end}.",
    "So it is {bad}. Wait, I should count one by one: {again}. It must be {end}.",
    "That gives {bad}. Wait, no, I went one too far or too short: {again}. It is {end}.",
)

CHECKS = (
    "Wait, let me check by going back: {n} {back} from {end} is {day}. Good.",
    "Alternatively, I can go back from {end}: {n} {back} is {day} again. Good.",
    "Let me double-check the count: {again}. Yes, {end}.",
)

TOLD = (
    "a shift of {n} days {shift} turns {day} into {end}",
    "moving {n} days {shift}, {day} becomes {end}",
    "{n} days {way} {day} comes {end}",
    "being {n} days {shift} than {day} means {end}",
)

WAYS = {True: {"way": "after", "shift": "later"}, False: {"way": "before", "shift": "earlier"}}


@dataclass(frozen=True)
class DayProblem:
    """A weekday and moves by a number of days, negative backwards."""

    story: str
    ask: str
    start: int  # 0 = Monday
    moves: tuple[int, ...]
    options: tuple[str, ...] = DAYS
    asked: str = "day of the week"
    subject: str = "days"

    @property
    def question(self) -> str:
        return f"{self.story} {self.ask}"

    @property
    def gold(self) -> str:
        return DAYS[(self.start + sum(self.moves)) % 7]

    @property
    def key(self) -> str:
        return f"days {self.start} {self.moves}"

    def restate(self, rng: Random) -> str:
        return say(rng, RESTATED, day=DAYS[self.start])

    def solve(self, rng: Random, wrong: bool) -> Solution:
        solution, day = Solution(""), self.start
        slipped = rng.randrange(len(self.moves)) if wrong else None
        for number, move in enumerate(self.moves):
            end = (day + move) % 7
            if number == slipped:
                end = (end + rng.choice((1, 2, 5, 6))) % 7
            self.move(rng, solution, day, move, end, number == slipped)
            solution.told.append(
                capital(say(rng, TOLD, n=abs(move), day=DAYS[day], end=DAYS[end], **WAYS[move > 0])) + "."
            )
            day = end
        solution.final = DAYS[day]
        return solution

    def move(self, rng: Random, solution: Solution, day: int, move: int, end: int, wrong: bool) -> None:
        """Writes one move, counted day by day; wrong: with another day at its end."""
        sign, n = 1 if move > 0 else -1, abs(move)
        way = f"days {rng.choice(('forward', 'ahead') if sign > 0 else ('back', 'backwards'))}"
        days = [DAYS[(day + sign * step) % 7] for step in range(1, n)] + [DAYS[end]]
        chain = [f"{each} ({step})" for step, each in enumerate(days, start=1)]
        fields = {"day": DAYS[day], "n": n, "way": way, "end": result(DAYS[end]), "again": listed(chain)}
        thought = 1.0 if wrong else rng.random()
        if thought < 0.04:
            bad = DAYS[(end + rng.choice((-1, 1))) % 7]
            solution.detour(write(rng, SLIPS, bad=result(bad, False), **fields))
            solution.quoted.append(f"{n} {way} from {DAYS[day]} is {DAYS[end]}.")
            return
        counted = [result(", ".join(chain), not wrong)]
        solution.step(fill_around(rng.choice(COUNTED), "{chain}", counted, **fields))
        if rng.random() < 0.7:
            solution.step(write(rng, LANDED, **fields))
        if 0.04 <= thought < 0.25:
            back = f"days {'back' if sign > 0 else 'forward'}"
            solution.detour(write(rng, CHECKS, **fields | {"back": back, "end": DAYS[end]}))


def draw(rng: Random) -> DayProblem:
    """Draws one or two moves."""
    opening, clause, ways, ask = rng.choice(STORIES)
    name = rng.choice(NAMES)
    words = {
        "name": name,
        "he": pronouns(name)["he"],
        "thing": (thing := rng.choice(THINGS)),
        "A_thing": capital(article(thing)),
    }
    start = rng.randrange(7)
    count = rng.choice((1, 2, 2))
    moves = tuple(rng.choice((-1, 1)) * rng.randint(2, 9 if count == 1 else 6) for _ in range(count))
    clauses = [clause.format(n=abs(move), way=ways[move < 0], **words) for move in moves]
    story = opening.format(day=DAYS[start], **words) + " " + capital(", and then ".join(clauses)) + "."
    return DayProblem(story, ask.format(**words), start, moves)
