"""Training texts of the built-in reasoners: a chain -> its question, a reasoning trace and an answer, as tokens with loss weights.

    prompt     BOS question instruction " " <think> "\n"
    reasoning  one line a quantity; "Maybe ... Wait, ..." before a subtraction that borrows, "Alternatively, ..." after twice a
               two-digit number, "Let me double check: ..." when two compared quantities are close; then the conclusion;
               in some traces the probing phrase "Final answer is X."
    answer     the lines again word by word, without the detours, then the boxed answer

In a share of the traces some lines hold a wrong quantity (no loss on it) and all that follows goes on from what is written; the
probing phrase of such a trace may name another answer, which the boxed answer then follows. So a model learns to rely on what
its trace says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Annotated

from pydantic import Field

from r2a_core.data.builtin import Chain, draw_chain, question
from r2a_core.models.tokenizer import BOS, EOS, PAD, THINK_CLOSE, THINK_OPEN

INSTRUCTION = " Please reason step by step, and put your final answer within \\boxed{}."
INSTRUCTION_PAIRS = " Please reason step by step (but not overthinking), and put your final answer within \\boxed{}."
OPENERS = ("", "Then ", "Now ", "Next ", "So ", "Here ")
EQUALS = (" = ", " makes ", " gives ")
LINE_ENDS = (".\n", ";\n")
CLOSE = 2  # compared quantities at most this far apart are checked twice

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class TaskMix:
    """What training texts look like, as shares of all samples unless said."""

    comparisons: Share  # the others are arithmetic
    without_reasoning: Share
    probes: Share  # of traces: the probing phrase ends the reasoning
    perturbed: Share  # of traces: wrong quantities that the trace goes on from
    conflicting_probes: (
        Share  # of perturbed traces: a probing phrase that names another answer, which the answer follows
    )
    padded: Share  # of traces: padding before a segment, as aligned pairs have


@dataclass(frozen=True)
class Piece:
    """One token of a training text; learned: whether it counts in the loss."""

    text: str
    learned: bool = True


@dataclass(frozen=True)
class Sample:
    """One training text as tokens. prompt: those that are given, response: those to learn."""

    chain: Chain
    prompt: tuple[str, ...]  # question and instruction as text, tags and padding as tokens
    response: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join(self.prompt) + "".join(piece.text for piece in self.response)


@dataclass(frozen=True)
class Line:
    """The line of one quantity, and the detours around it."""

    before: list[Piece]
    line: list[Piece]
    after: list[Piece]
    value: int  # as written


def learned(*texts: str) -> list[Piece]:
    return [Piece(text) for text in texts]


def digits(value: int, count: bool = True) -> list[Piece]:
    """A number as one token a digit; count: whether it counts in the loss."""
    return [Piece(digit, count) for digit in str(value)]


def draw_sample(random: Random, mix: TaskMix) -> Sample:
    """A random training text: its chain is never one kept for testing."""
    kind = "comparison" if random.random() < mix.comparisons else "arithmetic"
    chain = draw_chain(kind, random)
    while chain.held_out:
        chain = draw_chain(kind, random)
    instructions = (INSTRUCTION_PAIRS, INSTRUCTION) if chain.comparator else (INSTRUCTION, INSTRUCTION_PAIRS)
    instruction = random.choices((*instructions, ""), (6, 3, 1))[0]
    prompt = (BOS, f"{question(chain)}{instruction} ", THINK_OPEN)
    if random.random() < mix.without_reasoning:
        return Sample(chain, *without_reasoning(chain, prompt, random))
    return Sample(chain, *with_reasoning(chain, prompt, random, mix))


def without_reasoning(
    chain: Chain, prompt: tuple[str, ...], random: Random
) -> tuple[tuple[str, ...], tuple[Piece, ...]]:
    """Prompt and response of a text whose answer is given at once."""
    thought = "\nOkay, I think I have finished thinking.\n" if random.random() < 0.85 else "\n\n"
    response = learned("\n\n") + conclusion(chain, chain.gold) + learned(EOS)
    return (*prompt, thought, THINK_CLOSE), tuple(response)


def with_reasoning(
    chain: Chain, prompt: tuple[str, ...], random: Random, mix: TaskMix
) -> tuple[tuple[str, ...], tuple[Piece, ...]]:
    """Prompt and response of a text that reasons first."""
    wrong = random.random() < mix.perturbed
    lines = write_lines(chain, random, 0.5 if wrong else 0.0)
    values = [line.value for line in lines]
    while not (all(1 <= value <= 99 for value in values) and (not chain.comparator or values[0] != values[-1])):
        lines = write_lines(chain, random, 0.5)
        values = [line.value for line in lines]
    answer = reached(chain, values)
    verdict, checks = write_verdict(chain, values, answer)
    reasoning = [piece for line in lines for piece in (*line.before, *line.line, *line.after)]
    reasoning += [*verdict, *checks, *so(chain, answer)]
    if random.random() < mix.probes:
        conflict = wrong and random.random() < mix.conflicting_probes
        answer = other_answer(chain, answer, random) if conflict else answer
        reasoning += probe(answer, boxed=random.random() < 0.5, count=not conflict)
    restated = [Piece(piece.text) for line in lines for piece in line.line] + verdict
    final = learned("\n") + conclusion(chain, answer) + learned(EOS)
    padding = [0, 0]
    if random.random() < mix.padded:
        padding = [random.choice((0, random.randint(1, 12))) for _ in range(2)]
    response = reasoning + learned(THINK_CLOSE) + [Piece(PAD, False)] * padding[1] + learned("\n\n") + restated + final
    return (*prompt, *([PAD] * padding[0]), "\n"), tuple(response)


def write_lines(chain: Chain, random: Random, wrong_share: float) -> list[Line]:
    """One line a quantity; each but the first holds a wrong value with probability wrong_share."""
    verb = f" {chain.domain.verb} "
    opener, end = random.choice(OPENERS), random.choice(LINE_ENDS)
    first = learned(*([opener] if opener else []), chain.things[0], verb) + digits(chain.start) + learned(end)
    lines = [Line([], first, [], chain.start)]
    for thing, step in zip(chain.things[1:], chain.steps, strict=True):
        value = lines[-1].value
        right = step.apply(value)
        written = wrong_value(right, random) if random.random() < wrong_share else right
        sign = f" {step.operation} "
        before, after = [], []
        if step.operation == "-" and value % 10 < step.operand <= value:
            before = learned("Maybe ") + digits(value) + learned(sign) + digits(step.operand) + learned(" = ")
            before += digits(unborrowed(value, step.operand)) + learned(". ", "Wait, ", "that is not right", ".\n")
        if step.operation == "*" and step.operand == 2 and value >= 10 and written == right:
            after = learned("Alternatively, ") + digits(value) + learned(" + ") + digits(value)
            after += learned(" = ") + digits(right) + learned(".\n")
        opener, end = random.choice(OPENERS), random.choice(LINE_ENDS)
        line = learned(*([opener] if opener else []), thing, verb) + digits(value) + learned(sign)
        line += digits(step.operand) + learned(random.choice(EQUALS)) + digits(written, written == right) + learned(end)
        lines.append(Line(before, line, after, written))
    return lines


def unborrowed(value: int, operand: int) -> int:
    """The usual slip in value - operand: the smaller digit from the larger one, nothing borrowed."""
    return value - value % 10 + abs(value % 10 - operand)


def wrong_value(right: int, random: Random) -> int:
    """Another number with as many digits; `right` itself when it is out of range."""
    if not 1 <= right <= 99:
        return right
    choices = range(1, 10) if right < 10 else range(10, 100)
    return random.choice([value for value in choices if value != right])


def reached(chain: Chain, values: list[int]) -> str:
    """The answer that follows from the written values."""
    if not chain.comparator:
        return str(values[-1])
    value_of = dict(zip(chain.things, values, strict=True))
    choose = max if chain.comparator == chain.domain.greater else min
    return choose(chain.asked, key=lambda thing: value_of[thing])


def write_verdict(chain: Chain, values: list[int], answer: str) -> tuple[list[Piece], list[Piece]]:
    """The line that compares the two things asked for, and its double check when they are close. Empty for arithmetic."""
    if not chain.comparator:
        return [], []
    value_of = dict(zip(chain.things, values, strict=True))
    first, second = chain.asked
    verdict = learned("Compare ", first, " at ") + digits(value_of[first])
    verdict += learned(" with ", second, " at ") + digits(value_of[second]) + learned(".\n")
    low, high = sorted((value_of[first], value_of[second]))
    if high - low > CLOSE:
        return verdict, []
    check = learned("Let me ", "double check", ": ") + digits(low) + learned(" + ") + digits(high - low)
    return verdict, check + learned(" = ") + digits(high) + learned(".\n")


def answer_pieces(answer: str) -> list[str]:
    return list(answer) if answer.isdigit() else [answer]


def so(chain: Chain, answer: str) -> list[Piece]:
    """The conclusion of the reasoning."""
    subject = [chain.comparator, " one is "] if chain.comparator else ["answer", " is "]
    return learned("So the ", *subject, *answer_pieces(answer), ".\n")


def conclusion(chain: Chain, answer: str) -> list[Piece]:
    """The last paragraph of the answer."""
    subject = [chain.comparator, " one is "] if chain.comparator else ["answer", " is "]
    return learned("Thus, the ", *subject, "\\boxed{", *answer_pieces(answer), "}.")


def probe(answer: str, boxed: bool, count: bool) -> list[Piece]:
    """The probing phrase; count: whether its answer counts in the loss."""
    opening, closing = (["\\boxed{"], "}.\n") if boxed else ([], ".\n")
    named = [Piece(piece, count) for piece in answer_pieces(answer)]
    return learned("Final ", "answer", " is ", *opening) + named + learned(closing)


def other_answer(chain: Chain, answer: str, random: Random) -> str:
    """An answer that the trace does not lead to, worded with as many tokens."""
    if chain.comparator:
        return next(thing for thing in chain.asked if thing != answer)
    return str(wrong_value(int(answer), random))


@dataclass(frozen=True)
class EncodedSample:
    """Token ids of a sample; learned[i]: token i counts in the loss."""

    ids: list[int]
    learned: list[bool]


def encoder(tokenizer: object) -> Callable[[Sample], EncodedSample]:
    """A function from samples to token ids. Response pieces are tokens of the vocabulary; question text is tokenised."""
    ids: dict[str, int] = {}

    def token(piece: str) -> int:
        if piece not in ids:
            found = tokenizer.encode(piece, add_special_tokens=False)  # type: ignore[attr-defined]
            if len(found) != 1:
                raise ValueError(f"{piece!r} is not one token of the built-in tokenizer")
            ids[piece] = found[0]
        return ids[piece]

    def encode(sample: Sample) -> EncodedSample:
        prompt: list[int] = []
        for part in sample.prompt:
            prompt += tokenizer.encode(part, add_special_tokens=False)  # type: ignore[attr-defined]
        response = [token(piece.text) for piece in sample.response]
        return EncodedSample(prompt + response, [False] * len(prompt) + [piece.learned for piece in sample.response])

    return encode
