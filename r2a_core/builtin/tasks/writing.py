"""What every task of natural English is made of: problems, their solutions, and sentences filled into templates.

Input: templates with {fields} and a seeded random generator. Output: Pieces, stretches of text with the weight of their
tokens in the loss. A field whose name starts with a capital letter is the lower-case field, capitalised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from string import Formatter
from typing import Protocol

from r2a_core.builtin.held_out import is_held_out
from r2a_core.builtin.pieces import Piece

WORDING, READ, RESULT = 0.5, 1.0, 4.0  # weights: free wording, what is read off earlier text, values to find

HELD_OUT_SHARE = 4  # one problem in this many is kept for testing

MAX_TRIES = 20_000  # draws before a generator gives up

Line = list[Piece]  # one sentence


@dataclass
class Solution:
    """One way to solve a problem, as sentences. Wrong values and what is given have weight 0."""

    final: str  # the answer that the steps lead to
    steps: list[Line] = field(default_factory=list)  # of the trace, detours included
    quoted: list[str] = field(default_factory=list)  # of an answer that repeats the steps, detours left out
    told: list[str] = field(default_factory=list)  # of an answer in other words than the steps

    def step(self, line: Line) -> None:
        """Adds a sentence that an answer may repeat."""
        self.steps.append(line)
        self.quoted.append(text_of(line))

    def detour(self, *lines: Line) -> None:
        """Adds sentences that no answer repeats."""
        self.steps += lines


class Problem(Protocol):
    """One question with its right answer."""

    @property
    def question(self) -> str: ...

    @property
    def gold(self) -> str: ...

    @property
    def key(self) -> str:
        """The content by which problems are split; two with one key are on one side."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """The answers to choose from; empty where there are none."""
        ...

    @property
    def asked(self) -> str:
        """What the question asks for, after "the"."""
        ...

    @property
    def subject(self) -> str:
        """The kind of problem within its task."""
        ...

    def restate(self, rng: Random) -> str:
        """Says in own words what is to be found; a clause that can follow "Okay, "."""
        ...

    def solve(self, rng: Random, wrong: bool) -> Solution:
        """Writes a solution; wrong: with a wrong value that all the rest follows."""
        ...


def text_of(line: Sequence[Piece]) -> str:
    """Returns the text of pieces."""
    return "".join(piece.text for piece in line)


def capital(text: str) -> str:
    """Returns the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def fill(template: str, **fields: str | int | Piece) -> Line:
    """Fills a template: its own words get the weight WORDING, fields READ, or their own where they are Pieces."""
    line: Line = []
    for literal, name, _, _ in Formatter().parse(template):
        if literal:
            line.append(Piece(literal, WORDING))
        if name:
            value = fields[name[0].lower() + name[1:]]
            piece = value if isinstance(value, Piece) else Piece(str(value), READ)
            line.append(Piece(capital(piece.text), piece.weight) if name[0].isupper() else piece)
    return line


def write(rng: Random, templates: Sequence[str], **fields: str | int | Piece) -> Line:
    """Fills one of the templates."""
    return fill(rng.choice(templates), **fields)


def fill_around(template: str, mark: str, line: Line, **fields: str | int | Piece) -> Line:
    """Fills a template, with a line in place of the mark."""
    before, _, after = template.partition(mark)
    return [*fill(before, **fields), *line, *fill(after, **fields)]


def say(rng: Random, templates: Sequence[str], **fields: str | int | Piece) -> str:
    """Fills one of the templates and returns its text."""
    return text_of(write(rng, templates, **fields))


def result(value: str | int, right: bool = True) -> Piece:
    """Returns a value as a Piece: one to be learnt, or a wrong one, which is not."""
    return Piece(str(value), RESULT if right else 0.0)


def article(noun: str) -> str:
    """Puts "a" or "an" before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Joins words as in "a, b and c"."""
    return " ".join([", ".join(words[:-1]), last, words[-1]]) if len(words) > 1 else words[0]


def draw_side(draw: Callable[[Random], Problem], rng: Random, held_out: bool) -> Problem:
    """Draws a problem from one side of the split."""
    while True:
        problem = draw(rng)
        if is_held_out(problem.key, HELD_OUT_SHARE) == held_out:
            return problem


HE = [
    "Ben",
    "Tom",
    "Sam",
    "Jack",
    "Paul",
    "David",
    "Mark",
    "John",
    "Bob",
    "Dan",
    "Frank",
    "Henry",
    "James",
    "Peter",
    "Max",
    "Tim",
    "Luke",
    "Adam",
    "Leo",
    "Omar",
    "Noah",
]

SHE = [
    "Anna",
    "Maria",
    "Mary",
    "Alice",
    "Jane",
    "Sarah",
    "Emily",
    "Lily",
    "Maya",
    "Lucy",
    "Emma",
    "Mia",
    "Nina",
    "Kate",
    "Lisa",
    "Grace",
    "Laura",
    "Rosa",
    "Ella",
    "Amy",
    "Ruth",
]

NAMES = (*HE, *SHE)


def pronouns(name: str) -> Mapping[str, str]:
    """Returns the fields he and his of a name."""
    return {"he": "he", "his": "his"} if name in HE else {"he": "she", "his": "her"}
