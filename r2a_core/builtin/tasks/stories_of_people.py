"""Word problems about people: what they have, how they compare, how old they are, what they do by the day."""

from collections.abc import Sequence
from random import Random

from r2a_core.builtin.tasks.story import LARGEST, StoryProblem
from r2a_core.builtin.tasks.sums import Of, Sum
from r2a_core.builtin.tasks.writing import NAMES, capital, pronouns, say

THINGS = [
    "marbles",
    "stickers",
    "coins",
    "stamps",
    "shells",
    "cards",
    "buttons",
    "beads",
    "books",
    "toys",
    "balloons",
    "pencils",
]

GAINS = (
    "{name} finds {k} more in a drawer",
    "{name} buys {k} more at the market",
    "{name} gets {k} from {his} grandmother",
    "{name} wins {k} in a game",
    "{friend} gives {him} {k}",
    "{his} aunt sends {him} {k} more",
    "{name} picks up {k} more on the way home",
)

LOSSES = (
    "{name} gives {k} to {friend}",
    "{name} loses {k} on the bus",
    "{name} sells {k} to a neighbor",
    "{name} trades {k} away for a kite",
    "{friend} borrows {k} and keeps them",
    "{k} of them break",
    "{name} leaves {k} at school",
)

GROWTH = (
    (2, "{his} uncle doubles what {he} has"),
    (3, "{his} uncle triples what {he} has"),
    (2, "{name} then gets as many again as {he} already has"),
)

SHARES = ("{name} splits them equally into {k} bags", "{name} puts them equally into {k} boxes")


STARTS = ("{name} has {n} {things}.", "{name} owns {n} {things}.", "{name} starts with {n} {things}.")

ASKS = (
    "How many {things} does {name} have now?",
    "How many {things} does {name} have in the end?",
    "How many {things} are left with {name}?",
    "What is the number of {things} that {name} has now?",
)


def collection(rng: Random) -> StoryProblem:
    """Draws a story about what somebody has."""
    name, friend = rng.sample(NAMES, 2)
    words = dict(pronouns(name)) | {"name": name, "friend": friend}
    words["him"] = "him" if words["he"] == "he" else "her"
    things, start = rng.choice(THINGS), rng.randint(3, 20)
    sums: list[Sum] = []
    parts = [say(rng, STARTS, name=name, n=start, things=things)]
    steps = rng.choice((2, 2, 3))
    for number in range(steps):
        operator, k, templates = change(rng, number == steps - 1)
        event = say(rng, templates, k=k, **words)
        sums.append(Sum(Of(number - 1) if number else start, operator, k, event, things))
        opening = rng.choice(("", "", "Then ", "Later ", "The next day ")) if number else ""
        parts.append((opening + event if opening else capital(event)) + ".")
    if sums[-1].operator == "/":
        kind = "bag" if "bags" in sums[-1].event else "box"
        ask, asked = f"How many {things} are in each {kind}?", f"number of {things} in each {kind}"
    else:
        ask = say(rng, ASKS, things=things, name=name)
        asked = f"number of {things} that {name} has"
    return StoryProblem(" ".join(parts), ask, asked, tuple(sums), "collection")


def change(rng: Random, last: bool) -> tuple[str, int, Sequence[str]]:
    """Draws what becomes of a collection: operator, operand and what tells it. Only the last may share it out."""
    roll = rng.random()
    if roll < 0.42:
        return "+", rng.randint(2, 9), GAINS
    if roll < 0.82:
        return "-", rng.randint(2, 9), LOSSES
    if roll < 0.92 or not last:
        k, template = rng.choice(GROWTH)
        return "*", k, (template,)
    return "/", rng.randint(2, 5), SHARES


TOGETHER = ("How many {things} do they have together?", "How many {things} do {a} and {b} have in all?")


def two_people(rng: Random) -> StoryProblem:
    """Draws amounts of two or three people, told by comparison."""
    a, b, c = rng.sample(NAMES, 3)
    things, n = rng.choice(THINGS), rng.randint(3, 15)
    kind, k = rng.choice("+-*"), rng.randint(2, 9)
    k = rng.choice((2, 3)) if kind == "*" else k
    said = {
        "+": f"{k} more {things} than",
        "-": f"{k} fewer {things} than",
        "*": f"{'twice' if k == 2 else 'three times'} as many {things} as",
    }[kind]
    sums = [Sum(n, kind, k, f"{b} has {said} {a}", things)]
    story = f"{a} has {n} {things}. {b} has {said} {a}."
    if rng.random() < 0.4:
        m = rng.randint(2, 9)
        story += f" {c} has {m} {things} more than {b}."
        sums.append(Sum(Of(0), "+", m, f"{c} has {m} more than {b}", things))
        if rng.random() < 0.5:
            ask, asked = f"How many {things} does {c} have?", f"number of {things} that {c} has"
        else:
            sums.append(Sum(Of(0), "+", Of(1), f"{b} and {c} count theirs together", things))
            ask, asked = f"How many {things} do {b} and {c} have together?", f"number of {things} of {b} and {c}"
    else:
        sums.append(Sum(n, "+", Of(0), f"{a} and {b} put theirs together", things))
        ask, asked = say(rng, TOGETHER, things=things, a=a, b=b), f"number of {things} of both"
    return StoryProblem(story, ask, asked, tuple(sums), "two_people")


WORK = (
    ("reads {a} pages a day", "reads {k} pages", "pages", "The book has {t} pages.", "pages are left to read"),
    ("earns {a} dollars a day", "earns {k} dollars", "dollars", "A bike costs {t} dollars.", "dollars are missing"),
    ("runs {a} miles a day", "runs {k} miles", "miles", "The plan asks for {t} miles.", "miles are left to run"),
    ("plants {a} trees a day", "plants {k} trees", "trees", "There are {t} trees to plant.", "trees are left"),
    ("paints {a} chairs a day", "paints {k} chairs", "chairs", "The school has {t} chairs.", "chairs are not painted"),
)


def work(rng: Random) -> StoryProblem:
    """Draws work by the day towards a goal."""
    daily, once, unit, goal, ask = rng.choice(WORK)
    name, a, d, k = rng.choice(NAMES), rng.randint(2, 9), rng.randint(2, 5), rng.randint(2, 9)
    t = min(LARGEST, a * d + k + rng.randint(2, 9))
    sums = [
        Sum(d, "*", a, f"{name} {daily.format(a=a)} for {d} days", unit),
        Sum(Of(0), "+", k, f"on one more day {name} {once.format(k=k)}", unit),
        Sum(t, "-", Of(1), f"the goal is {t} {unit}", unit),
    ]
    story = f"{goal.format(t=t)} {name} {daily.format(a=a)} for {d} days and then {once.format(k=k)} on one more day."
    return StoryProblem(story, f"How many {ask}?", f"number of {unit} that are missing", tuple(sums), "work")


def ages(rng: Random) -> StoryProblem:
    """Draws ages that are told by comparison, some years later."""
    a, b = rng.sample(NAMES, 2)
    n, k, m = rng.randint(4, 20), rng.randint(2, 9), rng.randint(2, 9)
    older = rng.random() < 0.6
    sums = [
        Sum(n, "+" if older else "-", k, f"{b} is {k} years {'older' if older else 'younger'} than {a}", "years"),
        Sum(Of(0), "+", m, f"{m} years go by", "years"),
    ]
    story = f"{a} is {n} years old. {b} is {k} years {'older' if older else 'younger'} than {a}."
    return StoryProblem(story, f"How old will {b} be in {m} years?", f"age of {b} in {m} years", tuple(sums), "ages")
