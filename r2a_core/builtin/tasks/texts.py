r"""Training texts in natural English: problems of all tasks with traces and answers, as r2a_core.prompts asks for them.

Input: a seed and a TaskMix. Output: an endless stream of TrainingTexts, none of a held-out problem:

    BOS + question + instruction + " " + <think> + "\n" + trace + </think> + "\n\n" + answer + EOS

A trace restates the question, goes step by step, now and then has a second thought, and concludes. More than half of
the answers tell the solution in other words than the trace. In perturbed texts one value is wrong, and the rest and the
answer follow it; in contradicted ones a closing "Final answer is X." names another answer, and the answer follows that.
Tasks whose answer is taken from elsewhere (mix.answers) have texts of their own: r2a_core.builtin.tasks.sources.
"""

from collections.abc import Iterator
from random import Random

from r2a_core.builtin.pieces import TrainingText
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.builtin.tasks.sources import UNKNOWN, text_apart
from r2a_core.builtin.tasks.traces import (
    BREAKS,
    COMMON_CLOSING,
    answer_of,
    conclusion,
    opened,
    other_answer,
    probe,
    put_together,
)
from r2a_core.builtin.tasks.writing import READ, RESULT, Piece, Problem, draw_side, fill
from r2a_core.config import TaskMix
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION, THINKING

DIRECT = ("The {asked} is \\boxed{{{final}}}.", "The answer is \\boxed{{{final}}}.", "\\boxed{{{final}}}")


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
    source = mix.answers.get(task, "trace")
    if rng.random() < mix.without_reasoning:
        thinking = THINKING["finished" if rng.random() < 0.85 else "empty"]
        answer = direct_answer(rng, problem, UNKNOWN if source == "last_line" else problem.gold)
        return TrainingText(prompt, (Piece(thinking, 0.0),), answer, False)
    if source == "trace":
        return with_reasoning(rng, mix, problem, prompt)
    return text_apart(rng, mix, task, problem, prompt)


def direct_answer(rng: Random, problem: Problem, final: str) -> tuple[Piece, ...]:
    """Writes an answer without a solution."""
    template = COMMON_CLOSING if rng.random() < 0.6 else rng.choice(DIRECT)
    return (Piece("\n\n", READ), *fill(template, asked=problem.asked, final=Piece(final, RESULT)))


def with_reasoning(rng: Random, mix: TaskMix, problem: Problem, prompt: str) -> TrainingText:
    """Writes a text with a trace, perhaps with a wrong value or a probing phrase."""
    perturbed = rng.random() < mix.perturbed
    solution = problem.solve(rng, perturbed)
    final, between = solution.final, rng.choice(BREAKS)
    lines = opened(rng, problem, solution)
    if rng.random() < 0.85:
        lines.append(conclusion(rng, problem.asked, final))
    contradicted = perturbed and rng.random() < mix.contradicted
    if contradicted:
        final = other_answer(rng, problem, final)
    if contradicted or rng.random() < mix.probing:
        lines.append(probe(rng, final, not contradicted))
    answer = answer_of(rng, problem.asked, solution, final, 0.5 if contradicted else 0.0)
    return put_together(prompt, lines, between, answer, rng.random() < mix.padded)
