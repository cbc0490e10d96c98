r"""Training texts in natural English: problems of all tasks with traces and answers, as r2a_core.prompts asks for them.

Input: a seed and a TaskMix. Output: an endless stream of TrainingTexts, none of a held-out problem:

    BOS + question + instruction + " " + <think> + "\n" + trace + </think> + "\n\n" + answer + EOS

A trace restates the question, goes step by step, now and then has a second thought, and concludes. More than half of
the answers tell the solution in other words than the trace. In perturbed texts one value is wrong, and the rest and the
answer follow it; in contradicted ones a closing "Final answer is X." names another answer, and the answer follows that.
"""

from collections.abc import Iterator
from random import Random

from r2a_core.builtin.pieces import TrainingText
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.builtin.tasks.writing import (
    READ,
    RESULT,
    WORDING,
    Line,
    Piece,
    Problem,
    Solution,
    draw_side,
    fill,
    write,
)
from r2a_core.builtin.texts import PROBE_ENDS, PROBE_STYLES
from r2a_core.config import TaskMix
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION, THINKING

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

DIRECT = ("The {asked} is \\boxed{{{final}}}.", "The answer is \\boxed{{{final}}}.", "\\boxed{{{final}}}")

BREAKS = (" ", "\n", "\n", "\n\n")

OTHER_WORDS = 0.62  # share of the answers that do not repeat the steps


def training_texts(seed: int, mix: TaskMix) -> Iterator[TrainingText]:
    """Yields training texts endlessly, the same for the same seed and mix."""
    rng = Random(f"training texts {seed}")
    while True:
        yield training_text(rng, mix)


def training_text(rng: Random, mix: TaskMix) -> TrainingText:
    """Draws a text of the mix."""
    task = rng.choices(list(mix.tasks), list(mix.tasks.values()))[0]
    problem = draw_side(TASKS[task], rng, False)
    instruction = rng.choices((BOXED_INSTRUCTION, BRIEF_INSTRUCTION, ""), (0.68, 0.27, 0.05))[0]
    prompt = f"{problem.question}{instruction} "
    if rng.random() < mix.without_reasoning:
        thinking = THINKING["finished" if rng.random() < 0.85 else "empty"]
        return TrainingText(prompt, (Piece(thinking, 0.0),), direct_answer(rng, problem), False)
    return with_reasoning(rng, mix, problem, prompt)


def direct_answer(rng: Random, problem: Problem) -> tuple[Piece, ...]:
    """Writes the right answer without a solution."""
    template = COMMON_CLOSING if rng.random() < 0.6 else rng.choice(DIRECT)
    final = Piece(problem.gold, RESULT)
    return (Piece("\n\n", READ), *fill(template, asked=problem.asked, final=final))


def with_reasoning(rng: Random, mix: TaskMix, problem: Problem, prompt: str) -> TrainingText:
    """Writes a text with a trace, perhaps with a wrong value or a probing phrase."""
    perturbed = rng.random() < mix.perturbed
    solution = problem.solve(rng, perturbed)
    final, between = solution.final, rng.choice(BREAKS)
    restated = problem.restate(rng)
    opener = rng.choice([each for each in OPENERS if "et me" not in each or not restated.startswith("let me")])
    lines = [fill(opener, said=restated), *solution.steps]
    if rng.random() < 0.85:
        lines.append(write(rng, CONCLUSIONS, asked=problem.asked, final=Piece(final, RESULT)))
    contradicted = perturbed and rng.random() < mix.contradicted
    if contradicted:
        final = other_answer(rng, problem, final)
    if contradicted or rng.random() < mix.probing:
        opening, closed = rng.choice(PROBE_STYLES)
        end = rng.choices(PROBE_ENDS, (8, 1, 1, 1, 1))[0].rstrip()
        lines.append([Piece(opening), Piece(final, 0.0 if contradicted else RESULT), Piece(closed + end)])
    thinking = [Piece("\n", 0.0), *joined(lines, between), Piece("\n", READ)]
    answer = [Piece("\n\n", READ), *answer_of(rng, problem, solution, final, contradicted)]
    return TrainingText(prompt, tuple(thinking), tuple(answer), True, rng.random() < mix.padded)


def answer_of(rng: Random, problem: Problem, solution: Solution, final: str, contradicted: bool) -> Line:
    """Writes an answer: the solution in other words, or its steps again, or only the result."""
    closing = COMMON_CLOSING if rng.random() < 0.5 else rng.choice(CLOSINGS)
    last = fill(closing, asked=problem.asked, final=Piece(final, RESULT))
    how = rng.random()
    if (contradicted and how < 0.5) or how > 0.94:
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
