r"""What training texts are put together from: a trace of lines, its conclusion, a probing phrase, and an answer.

Input: a seeded random generator, a problem and a solution. Output: lines of Pieces, and TrainingTexts of them.
"""

from random import Random

from r2a_core.builtin.pieces import TrainingText
from r2a_core.builtin.tasks.writing import (
    READ,
    RESULT,
    WORDING,
    Line,
    Piece,
    Problem,
    Solution,
    fill,
    write,
)
from r2a_core.builtin.texts import PROBE_ENDS, PROBE_STYLES

OPENERS = (
    "Okay, {said}.",
    "Alright, {said}.",
    "Okay, so {said}.",
    "Let me see: {said}.",
    "Hmm, {said}.",
    "So {said}.",
    "Alright, let me think. {Said}.",
    "{Said}.",
    "{Said}. Let me do it step by step.",
    "Okay. {Said}.",
    "First of all, {said}.",
    "Let me start: {said}.",
    "Okay, let me read this carefully. {Said}.",
    "Well, {said}.",
)

CONCLUSIONS = (
    "So the {asked} is {final}.",
    "Therefore, the {asked} is {final}.",
    "That means the {asked} is {final}.",
    "So the answer is {final}.",
    "Hence the {asked} must be {final}.",
    "I am done: the {asked} is {final}.",
    "So my answer is {final}.",
    "All in all, the {asked} is {final}.",
    "Good, the {asked} is {final}.",
    "Everything fits, so it is {final}.",
)

CLOSINGS = (
    "The {asked} is \\boxed{{{final}}}.",
    "So the {asked} is \\boxed{{{final}}}.",
    "Therefore, the {asked} is \\boxed{{{final}}}.",
    "The answer is \\boxed{{{final}}}.",
    "Hence the answer is \\boxed{{{final}}}.",
    "This gives \\boxed{{{final}}}.",
)

COMMON_CLOSING = "Thus, the {asked} is \\boxed{{{final}}}."  # of the sequences that are patched

BREAKS = (" ", "\n", "\n", "\n\n")  # between the lines of a trace

OTHER_WORDS = 0.62  # share of the answers that do not repeat the steps


def opened(rng: Random, problem: Problem, solution: Solution) -> list[Line]:
    """Restates the problem and goes through the steps."""
    restated = problem.restate(rng)
    opener = rng.choice([each for each in OPENERS if "et me" not in each or not restated.startswith("let me")])
    return [fill(opener, said=restated), *solution.steps]


def conclusion(rng: Random, asked: str, final: str) -> Line:
    """Names the result at the end of the steps."""
    return write(rng, CONCLUSIONS, asked=asked, final=Piece(final, RESULT))


def probe(rng: Random, final: str, right: bool) -> Line:
    """Writes "Final answer is X."; of an answer that the steps do not lead to, X is not to be learnt."""
    opening, closed = rng.choice(PROBE_STYLES)
    end = rng.choices(PROBE_ENDS, (8, 1, 1, 1, 1))[0].rstrip()
    return [Piece(opening), Piece(final, RESULT if right else 0.0), Piece(closed + end)]


def put_together(prompt: str, lines: list[Line], between: str, answer: Line, padded: bool) -> TrainingText:
    """Makes a text of its parts; what stands between the lines of the trace is `between`."""
    thinking = [Piece("\n", 0.0), *joined(lines, between), Piece("\n", READ)]
    return TrainingText(prompt, tuple(thinking), (Piece("\n\n", READ), *answer), True, padded)


def answer_of(rng: Random, asked: str, solution: Solution, final: str, bare: float) -> Line:
    """Writes an answer: the solution in other words, or its steps again, or, at least in a share `bare`, the result."""
    closing = COMMON_CLOSING if rng.random() < 0.5 else rng.choice(CLOSINGS)
    last = fill(closing, asked=asked, final=Piece(final, RESULT))
    how = rng.random()
    if how < bare or how > 0.94:
        return last
    sentences = solution.told if how < OTHER_WORDS else solution.quoted
    between = rng.choice((" ", "\n", "\n\n"))
    body = joined([[Piece(each, READ)] for each in sentences], " " if between == " " else "\n")
    return [*body, Piece(between, READ), *last]


def joined(lines: list[Line], between: str) -> Line:
    """Joins sentences into one line of pieces."""
    pieces: Line = []
    for number, line in enumerate(lines):
        if number:
            pieces.append(Piece(between, WORDING))
        pieces += line
    return pieces


def other_answer(rng: Random, problem: Problem, final: str) -> str:
    """Returns an answer of the same form that the trace does not lead to."""
    if problem.options:
        return rng.choice([option for option in problem.options if option != final])
    value = int(final)
    return str(rng.choice([other for other in range(max(1, value - 9), value + 10) if other != value]))
