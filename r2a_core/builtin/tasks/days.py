"""Days of the week: which day it is after some moves forward and back. One option in seven is right."""

from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.writing import (
    NAMES,
    READ,
    Line,
    Piece,
    Solution,
    article,
    capital,
    fill,
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

WEEKS = (
    "{n} days are {w} and {r} more days, and {w} changes nothing, so only {r} count.",
    "A week has 7 days. {n} - {full} = {r}, so going {n} days is like going {r} days.",
    "Since the days repeat after 7, {n} is the same as {n} - {full} = {r}.",
    "Taking full weeks out of {n} leaves {n} - {full} = {r} days.",
)

WHOLE = ("{n} days are exactly {w}, so it stays {day}.", "Since {n} is {w}, the weekday does not change: {day}.")

COUNTED = (
    "From {day}, {r} {way}: {chain}.",
    "{R} {way} from {day}: {chain}.",
    "Starting at {day} I count {r} {way}: {chain}.",
    "I go {r} {way} from {day}, that is {chain}.",
    "Counting {r} {way} after {day} gives {chain}.",
)

LANDED = (
    "So we are at {end}.",
    "That is {end}.",
    "Now it is {end}.",
    "This lands on {end}.",
    "It is {end} at this point.",
)

SLIPS = (
    "I think it is {bad}. Hmm, let me recount: {chain}. So it is {end}.",
    "So it is {bad}. Wait, I should count one by one: {chain}. It must be {end}.",
    "That gives {bad}. Wait, no, I went one too far or too short: {chain}. It is {end}.",
)

CHECKS = (
    "Wait, let me check by going back: {r} {back} from {end} is {day}. Good.",
    "Alternatively, I can go {other} {back} instead, because {r} + {other} = 7. That also gives {end}.",
    "Let me double-check the count: {chain}. Yes, {end}.",
)

TOLD = (
    "a shift of {n} days {shift} turns {day} into {end}",
    "moving {n} days {shift}, {day} becomes {end}",
    "{n} days {way} {day} comes {end}",
    "being {n} days {shift} than {day} means {end}",
)

WAYS = {True: {"way": "after", "shift": "later"}, False: {"way": "before", "shift": "earlier"}}

WEEK_WORDS = {1: "one week", 2: "two weeks", 3: "three weeks", 4: "four weeks"}


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
        """Writes one move: weeks are left out, then days counted; wrong: too many or too few of them."""
        n, sign = abs(move), 1 if move > 0 else -1
        rest, weeks = n % 7, n // 7
        if weeks and rest == 0 and not wrong:
            solution.step(write(rng, WHOLE, n=n, w=WEEK_WORDS[weeks], day=DAYS[day]))
            return
        if weeks and rest:
            fields = {"n": n, "w": WEEK_WORDS[weeks], "r": result(rest), "full": 7 * weeks}
            solution.step(write(rng, WEEKS, **fields))
        unit = "day" if rest == 1 else "days"
        ways = f"{unit} {rng.choice(('forward', 'ahead') if sign > 0 else ('back', 'backwards'))}"
        chain = [DAYS[(day + sign * step) % 7] for step in range(1, sign * (end - day) % 7 + 1)]
        fields = {"day": DAYS[day], "r": rest, "way": ways, "end": result(DAYS[end])}
        counted: Line = [Piece(", ".join(chain), 0.0 if wrong else READ)]
        thought = 1.0 if wrong else rng.random()
        if thought < 0.08 and rest > 1:
            bad = DAYS[(end + rng.choice((-1, 1))) % 7]
            solution.detour(write(rng, SLIPS, bad=result(bad, False), chain=listed(chain), **fields))
            solution.quoted.append(f"{capital(str(rest))} {ways} from {DAYS[day]} is {DAYS[end]}.")
            return
        template = rng.choice(COUNTED)
        before, _, after = template.partition("{chain}")
        solution.step([*fill(before, **fields), *counted, *fill(after)])
        if rng.random() < 0.7:
            solution.step(write(rng, LANDED, **fields))
        if 0.08 <= thought < 0.3:
            back = f"{unit} {'back' if sign > 0 else 'forward'}"
            other = 7 - rest
            checks = fields | {"back": back, "other": other, "chain": listed(chain), "end": DAYS[end]}
            template = rng.choice(CHECKS)
            if "{other}" in template:
                checks["back"] = f"{'day' if other == 1 else 'days'} {'back' if sign > 0 else 'forward'}"
            solution.detour(fill(template, **checks))


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
    moves = tuple(rng.choice((-1, 1)) * rng.randint(2, 16 if count == 1 else 9) for _ in range(count))
    clauses = [clause.format(n=abs(move), way=ways[move < 0], **words) for move in moves]
    story = opening.format(day=DAYS[start], **words) + " " + capital(", and then ".join(clauses)) + "."
    return DayProblem(story, ask.format(**words), start, moves)
