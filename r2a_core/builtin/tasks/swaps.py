"""What somebody holds after some swaps: the state is followed swap by swap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from r2a_core.builtin.tasks.writing import (
    NAMES,
    READ,
    Line,
    Piece,
    Solution,
    capital,
    fill,
    fill_around,
    listed,
    result,
    say,
    write,
)

COLORS = ["red", "blue", "green", "yellow", "black", "white", "purple", "orange"]

SCENES = (  # things, opening
    ("ball", "{all} play a game. At the start, {told}."),
    ("book", "{all} meet at the library, and {told}."),
    ("hat", "{all} stand in a row; {told}."),
    ("card", "{all} hold one card each: {told}."),
    ("cup", "{all} sit at a table, where {told}."),
    ("balloon", "At a party, {told}."),
)

EVENTS = ("{a} and {b} swap", "{a} trades with {b}", "{a} and {b} change {things}", "{a} swaps with {b}")

ASKS = ("Which color is the {thing} of {name} in the end?", "What is the color of the {thing} that {name} has now?")

RESTATED = (
    "I have to follow the {things} through {count} swaps",
    "let me keep track of who has which {thing}",
    "I will update the {things} after every swap",
    "the {things} change hands {count} times, so I go through it one by one",
    "we need to know where each {thing} ends up",
)

STARTS = ("At first, {state}.", "In the beginning, {state}.", "Start: {state}.", "Before any swap, {state}.")

STEPS = (  # {told}: the swap as in the question; {x} and {y}: what a and b give away
    "{told}: {a} gives {x} and {b} gives {y}, so {state}.",
    "{told}. {a} had {x} and {b} had {y}. Now {state}.",
    "{told}, {x} for {y}, so that {state}.",
    "{told}; {a} hands over {x} and takes {y}. So {state}.",
    "{told}. With {x} and {y} exchanged, {state}.",
)

SLIPS = (
    "So {a} keeps {old}. Wait, {a} gives that away.",
    "{a} still has {old}. No, wait, {b} gets it.",
)

CHECKS = (
    "Wait, did anything happen to {other}? No, {other} still has {theirs}.",
    "Let me double-check: {state}. Every color is there once.",
    "Alternatively, I follow just {a}, who has {new} at this point. It agrees.",
)

ENDS = ("In the end, {state}.", "So the final state is: {state}.", "After all swaps, {state}.")

TOLD = (
    "{name} starts with {first}, {path}.",
    "The {thing} of {name} is first {first}, {path}.",
    "Watching only {name}, we see {first}, {path}.",
)


@dataclass(frozen=True)
class SwapProblem:
    """Colors of things that people hold, swaps of two people each, and a person to ask for."""

    scene: int
    names: tuple[str, ...]
    colors: tuple[str, ...]  # by name, at the start
    swaps: tuple[tuple[int, int], ...]
    target: int  # of names
    events: tuple[str, ...]
    ask: str

    @property
    def thing(self) -> str:
        return SCENES[self.scene][0]

    @property
    def question(self) -> str:
        held = listed(
            [f"{name} has the {color} {self.thing}" for name, color in zip(self.names, self.colors, strict=True)]
        )
        opening = SCENES[self.scene][1].format(all=listed(self.names), told=held)
        ask = self.ask.format(thing=self.thing, name=self.names[self.target])
        return f"{opening} {' '.join(f'{swap}.' for swap in self.told())} {ask}"

    def told(self) -> list[str]:
        """Tells every swap."""
        orders = ("First", "Then", "After that", "Finally")
        return [
            f"{orders[number if number < len(self.swaps) - 1 else 3]} "
            + event.format(a=self.names[a], b=self.names[b], things=f"{self.thing}s")
            for number, ((a, b), event) in enumerate(zip(self.swaps, self.events, strict=True))
        ]

    def states(self) -> list[list[str]]:
        """Lists who holds which color, at the start and after each swap."""
        states = [list(self.colors)]
        for a, b in self.swaps:
            held = list(states[-1])
            held[a], held[b] = held[b], held[a]
            states.append(held)
        return states

    def answer(self, held: list[str]) -> str:
        return held[self.target]

    @property
    def options(self) -> tuple[str, ...]:
        return self.colors

    @property
    def gold(self) -> str:
        return self.answer(self.states()[-1])

    @property
    def key(self) -> str:
        return f"swaps {sorted(self.names)} {sorted(self.colors)}"

    @property
    def asked(self) -> str:
        return f"color that {self.names[self.target]} has"

    @property
    def subject(self) -> str:
        return self.thing

    def restate(self, rng: Random) -> str:
        count = len(self.swaps)
        fitting = [each for each in RESTATED if count > 1 or "{count}" not in each]
        return say(rng, fitting, thing=self.thing, things=f"{self.thing}s", count=count)

    def swap(self, held: list[str], number: int, slipped: int | None) -> None:
        """Makes one swap; the one that slipped involves a third person."""
        a, b = self.swaps[number]
        held[a], held[b] = held[b], held[a]
        if number == slipped:
            c = next(each for each in range(len(self.names)) if each not in (a, b))
            held[b], held[c] = held[c], held[b]

    def mistake(self, rng: Random) -> int:
        """Chooses a swap whose mistake changes the answer, if there is one."""
        changing = []
        for slipped in range(len(self.swaps)):
            held = list(self.colors)
            for number in range(len(self.swaps)):
                self.swap(held, number, slipped)
            if self.answer(held) != self.gold:
                changing.append(slipped)
        return rng.choice(changing or range(len(self.swaps)))

    def state(self, held: list[str], right: bool = True) -> Line:
        """Writes who holds what, by name in the order of the question."""
        line: Line = []
        for number, (name, color) in enumerate(zip(self.names, held, strict=True)):
            line += [Piece((", " if number else "") + f"{name} has ", READ), result(color, right)]
        return line

    def solve(self, rng: Random, wrong: bool) -> Solution:
        held, solution = list(self.colors), Solution("")
        slipped = self.mistake(rng) if wrong else None
        path = [self.answer(held)]
        solution.step(fill_around(rng.choice(STARTS), "{state}", self.state(held)))
        for number, (a, b) in enumerate(self.swaps):
            right = number != slipped
            fields = {"a": self.names[a], "b": self.names[b], "told": self.told()[number]}
            given = {"x": result(held[a]), "y": result(held[b])}
            if right and rng.random() < 0.03:
                solution.detour(write(rng, SLIPS, old=result(held[a], False), **fields))
            self.swap(held, number, slipped)
            solution.step(fill_around(rng.choice(STEPS), "{state}", self.state(held, right), **fields, **given))
            if right and rng.random() < 0.12:
                other = next(each for each in range(len(self.names)) if each not in (a, b))
                template = rng.choice(CHECKS)
                if "{state}" in template:
                    solution.detour(fill_around(template, "{state}", self.state(held)))
                else:
                    solution.detour(fill(template, other=self.names[other], theirs=held[other], new=held[a], **fields))
            if self.answer(held) != path[-1]:
                path.append(self.answer(held))
        if rng.random() < 0.15:
            solution.step(fill_around(rng.choice(ENDS), "{state}", self.state(held)))
        solution.final = path[-1]
        words = {"name": self.names[self.target], "thing": self.thing, "first": path[0]}
        later = path[1:] or [f"still {path[0]}"]
        solution.told.append(capital(say(rng, TOLD, path=", ".join(f"then {each}" for each in later), **words)))
        return solution


def draw(rng: Random) -> SwapProblem:
    """Draws a problem whose target changes hands at least once."""
    while True:
        problem = draw_any(rng)
        if len({problem.answer(held) for held in problem.states()}) > 1:
            return problem


def draw_bystander(rng: Random) -> SwapProblem:
    """Draws a single swap in which who is asked for takes no part: so easy that no trace is needed."""
    problem = draw_any(rng, (1,))
    (target,) = {0, 1, 2} - set(problem.swaps[0])
    return replace(problem, target=target)


def draw_any(rng: Random, counts: Sequence[int] = (2, 2, 3)) -> SwapProblem:
    """Draws three people and some swaps, none of the two that swapped just before."""
    names, colors = tuple(rng.sample(NAMES, 3)), tuple(rng.sample(COLORS, 3))
    swaps: list[tuple[int, int]] = []
    wanted = rng.choice(counts)
    while len(swaps) < wanted:
        a, b = rng.sample(range(3), 2)
        if not swaps or set(swaps[-1]) != {a, b}:
            swaps.append((a, b))
    events = tuple(rng.choice(EVENTS) for _ in swaps)
    ask = rng.choice(ASKS)
    scene, target = rng.randrange(len(SCENES)), rng.randrange(3)
    return SwapProblem(scene, names, colors, tuple(swaps), target, events, ask)
