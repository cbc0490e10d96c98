"""Which of two real things is heavier, better for a purpose, and so on: the context decides which quality counts.

Problems are split by the pair of things, whatever is asked of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.things import MARGIN, Domain, Quality
from r2a_core.builtin.tasks.writing import (
    Line,
    Piece,
    Solution,
    article,
    capital,
    fill,
    result,
    say,
    write,
)

PAPER_FORM = "Considering {context}, which is {asked}: {first} or {second}?"

BY_QUALITY = (
    "Which is {asked}, {a} or {b}?",
    "Which of the two is {asked}: {a} or {b}?",
    "Is {a} or {b} {asked}?",
    "Think of {a} and {b}. Which one is {asked}?",
    "{A} or {b}: which is {asked}?",
)

BY_PURPOSE = (
    "{Context}, which is better: {a} or {b}?",
    "Which is better {context}, {a} or {b}?",
    "Somebody can choose {a} or {b}. Which is better {context}?",
    "{A} or {b}: which is the better one {context}?",
)

RESTATED = (
    "I have to compare {a} and {b}",
    "the question is whether {a} or {b} is {asked}",
    "we have two things here, {a} and {b}, and want the one that is {asked}",
    "let me think about {a} and {b}",
    "I need to decide between {a} and {b}",
    "two options are given, {a} and {b}",
)

COUNTS = (  # the quality named by the question itself
    "This is about {quality}, and I want the one that is {want}.",
    "What matters is the {quality}: I look for the one that is {want}.",
    "So I compare the {quality} of both to find which is {want}.",
    "The {quality} decides which one is {want}.",
    "I should look at the {quality} and see which one is {want}.",
)

CONTEXT = (
    "With {context} in mind, what counts is the {quality}, and {asked} means {want}.",
    "Considering {context}, I look at the {quality} and want the one that is {want}.",
    "For {context} the {quality} matters, and the {asked} one is the one that is {want}.",
    "The context is {context}, so the {quality} decides: which one is {want}?",
)

PURPOSE = (
    "{Purpose}, what counts is the {quality}, and the one that is {want} is better.",
    "What matters {purpose} is the {quality}: the one that is {want} wins.",
    "{Purpose}, I should look at the {quality} and take the one that is {want}.",
)

WRONG_QUALITY = (
    "I first think of the {other}. Wait, that is not what is asked: it is the {quality} that counts.",
    "Should I look at the {other}? No, wait, here only the {quality} matters.",
    "The {other} comes to mind. Wait, the question is not about that but about the {quality}.",
)

FIRST_FACTS = (
    "{Fact}.",
    "I know that {fact}.",
    "{Fact}, roughly.",
    "As far as I know, {fact}.",
    "Let me recall: {fact}.",
)

SECOND_FACTS = ("{Fact}.", "On the other hand, {fact}.", "And {fact}.", "In comparison, {fact}.", "{Fact}, though.")

LARGER = (
    "{High} is more than {low}. So the one that is {more} is {top}, and the one that is {less} is {bottom}.",
    "{High} is more than {low}, so the one that is {more} is {top} and the one that is {less} is {bottom}.",
    "The larger number is {high}, so the one that is {more} is {top}; the one that is {less} is {bottom}.",
    "{High} against {low}: the one that is {more} is {top}, the one that is {less} is {bottom}.",
    "As {high} is more than {low}, the one that is {more} is {top}, whereas the one that is {less} is {bottom}.",
)

VERDICTS = (
    "I want the one that is {want}: that is {winner}.",
    "So the one that is {want} is {winner}.",
    "Asked for is the one that is {want}, which is {winner}.",
    "I need the one that is {want}, so I take {winner}.",
    "Since I look for the one that is {want}, it is {winner}.",
)

SERVES = (
    "That is what we want here.",
    "And this is just what is needed.",
    "So it fits better.",
    "That settles the question.",
)

CHECKS = (
    "Wait, let me double-check the numbers: {va} against {vb}. Yes, the gap is clear.",
    "Alternatively, I can turn it round: {loser} is {other_way}, so it cannot be {loser}.",
    "Wait, do I have the {quality} the right way round? {Loser} is {other_way}, yes.",
    "Let me double-check with everyday sense: {winner} being {want} sounds right.",
)

SLIPS = (
    "So it is {loser}. Wait, I mixed them up: {winner} is the one that is {want}.",
    "That would be {loser}. Hmm, no, wait, {high} belongs to {winner}.",
)

TOLD_FACTS = (
    "In {quality}, {first} stands at {va} and {second} at {vb}.",
    "The {quality} is {va} for {first} but {vb} for {second}.",
    "Set side by side, we have {va} ({first}) and {vb} ({second}).",
    "{First} comes to {va}, whereas {second} comes to {vb}.",
    "Here {va} of {first} meet {vb} of {second}.",
)


@dataclass(frozen=True)
class ComparisonProblem:
    """Two things, the quality that counts, whether much of it is asked for, and how the question words that."""

    domain: Domain
    first: str
    second: str
    quality: Quality
    much: bool
    asked_word: str  # comparator of the question
    context: str  # what the question considers; empty where the comparator names the quality
    form: str  # template of the question

    @property
    def question(self) -> str:
        a, b = self.named(self.first), self.named(self.second)
        line = fill(
            self.form, context=self.context, asked=self.asked_word, first=self.first, second=self.second, a=a, b=b
        )
        return "".join(piece.text for piece in line)

    def named(self, thing: str) -> str:
        """Names a thing within a sentence."""
        return article(thing) if self.domain.counted else thing

    def value(self, thing: str) -> float:
        return self.domain.values[thing][self.quality.name]

    @property
    def gold(self) -> str:
        low, high = sorted((self.first, self.second), key=self.value)
        return high if self.much else low

    @property
    def options(self) -> tuple[str, ...]:
        return (self.first, self.second)

    @property
    def key(self) -> str:
        return f"things {sorted(self.options)}"

    @property
    def asked(self) -> str:
        return f"one that is {self.asked_word}" if " " in self.asked_word else f"{self.asked_word} one"

    @property
    def subject(self) -> str:
        return self.domain.name

    def restate(self, rng: Random) -> str:
        return say(rng, RESTATED, a=self.named(self.first), b=self.named(self.second), asked=self.asked_word)

    def opening(self, rng: Random) -> Line:
        """Says which quality counts, and in which direction."""
        words = {"quality": self.quality_name, "want": result(self.want), "asked": self.asked_word}
        if not self.context or self.context == self.quality_name:
            return write(rng, COUNTS, **words)
        if self.form == PAPER_FORM:
            return write(rng, CONTEXT, context=self.context, **words)
        return write(rng, PURPOSE, purpose=self.context, **words)

    @property
    def want(self) -> str:
        """Returns the word for what the context makes of the question: "cheaper"."""
        return self.quality.more if self.much else self.quality.less

    @property
    def quality_name(self) -> str:
        return {"age": "lifespan", "melting": "melting point", "seats": "number of seats"}.get(
            self.quality.name, self.quality.name
        )

    def solve(self, rng: Random, wrong: bool) -> Solution:
        solution = Solution("")
        order = [self.first, self.second] if rng.random() < 0.75 else [self.second, self.first]
        values = {thing: self.value(thing) for thing in order}
        slipped = self.mistake(rng, values) if wrong else ()
        low, high = sorted(order, key=values.__getitem__)
        solution.final = high if self.much else low
        others = [name for name in self.domain.qualities if name != self.quality.name]
        words = {"quality": self.quality_name, "other": rng.choice(others)}
        if rng.random() < 0.12:
            solution.detour(write(rng, WRONG_QUALITY, **words))
        solution.step(self.opening(rng))
        for thing, templates in zip(order, (FIRST_FACTS, SECOND_FACTS), strict=True):
            said = result(self.quality.worded(values[thing]), thing not in slipped)
            solution.step(self.fact(rng, thing, said, templates))
        winner, loser = (high, low) if self.much else (low, high)
        more, less = self.quality.more, self.quality.less
        worded = {thing: self.quality.worded(values[thing]) for thing in order}
        words |= {"more": more, "less": less, "want": self.want, "other_way": less if self.much else more}
        words |= {"winner": self.the(winner), "loser": self.the(loser), "va": worded[order[0]], "vb": worded[order[1]]}
        ends = {"top": result(self.the(high)), "bottom": result(self.the(low))}
        solution.step(write(rng, LARGER, **words | ends | {"high": result(worded[high]), "low": worded[low]}))
        if not wrong and rng.random() < 0.04:
            slip = {"high": worded[winner], "loser": result(self.the(loser), False)}
            solution.detour(write(rng, SLIPS, **words | slip))
        solution.step(write(rng, VERDICTS, **words | {"winner": result(self.the(winner))}))
        if not wrong and rng.random() < 0.25:
            solution.detour(write(rng, CHECKS, **words))
        if self.context and rng.random() < 0.5:
            solution.step(write(rng, SERVES))
        first, second = self.options
        names = {"first": self.the(first), "second": self.the(second)}
        told = say(rng, TOLD_FACTS, quality=self.quality_name, **names, va=worded[first], vb=worded[second])
        solution.told.append(told)
        return solution

    def fact(self, rng: Random, thing: str, said: Piece, templates: Sequence[str]) -> Line:
        """States the quality of a thing, in one of the templates for it. said: its value."""
        fact = fill(rng.choice(self.quality.facts), t=thing, a=self.named(thing), v=said)
        before, _, after = rng.choice(templates).partition("act}")
        if before.endswith("F"):
            fact[0] = Piece(capital(fact[0].text), fact[0].weight)
        return [*fill(before[:-2]), *fact, *fill(after)]

    def the(self, thing: str) -> str:
        """Names a thing that was named before."""
        return f"the {thing}" if self.domain.counted else thing

    def mistake(self, rng: Random, values: dict[str, float]) -> tuple[str, ...]:
        """Puts in the value of another thing that turns the comparison round; exchanges both values if there is none.

        Returns the things whose values are wrong now.
        """
        thing, other = rng.sample(list(values), 2)
        found = sorted({each[self.quality.name] for each in self.domain.values.values()})
        turned = [
            value
            for value in found
            if (value >= MARGIN * values[other] if values[thing] < values[other] else MARGIN * value <= values[other])
            and value != values[other]
        ]
        if turned:
            values[thing] = rng.choice(turned)
            return (thing,)
        values[thing], values[other] = values[other], values[thing]
        return (thing, other)
