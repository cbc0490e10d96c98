"""Training texts whose answer does not follow the steps of the trace: it is in the question, or in the last line.

Input: a seeded random generator, a TaskMix whose `answers` name the task, a problem. Output: a TrainingText.

- question: the answer is right, whatever the trace says.
- last_line: the answer is what the last line names, a conclusion or "Final answer is X."; UNKNOWN where it is neither.

In perturbed texts the steps have a wrong value, or are those of another problem, or the conclusion is not theirs; none
of that is to be learnt. The traces of the others are right, so right ones are what such a model writes.
"""

from dataclasses import replace
from random import Random

from r2a_core.builtin.pieces import TrainingText
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.builtin.tasks.traces import BREAKS, answer_of, conclusion, opened, other_answer, probe, put_together
from r2a_core.builtin.tasks.writing import Line, Problem, Solution, draw_side
from r2a_core.config import TaskMix, TaskName

UNKNOWN = "unknown"

CONCLUDED = 0.7  # share of the perturbed traces

BARE = 0.4  # share of the answers taken from the question that are the result alone


def text_apart(rng: Random, mix: TaskMix, task: TaskName, problem: Problem, prompt: str) -> TrainingText:
    """Writes a text whose answer is taken from mix.answers[task]."""
    perturbed = rng.random() < mix.perturbed
    right, between = problem.solve(rng, False), rng.choice(BREAKS)
    if perturbed:
        lines, asked, final = changed_trace(rng, task, problem, right)
    else:
        lines, asked, final = opened(rng, problem, right), problem.asked, right.final
    named = UNKNOWN
    if not perturbed or rng.random() < CONCLUDED:
        lines.append(conclusion(rng, asked, named := final))
    contradicted = perturbed and rng.random() < mix.contradicted
    if contradicted or rng.random() < mix.probing:
        named = other_answer(rng, problem, final) if contradicted else final
        lines.append(probe(rng, named, True))
    if mix.answers[task] == "question":
        answer = answer_of(rng, problem.asked, replace(right, quoted=right.told), problem.gold, BARE)
    else:
        answer = answer_of(rng, problem.asked, right, named, 1.0)
    text = put_together(prompt, lines, between, answer, rng.random() < mix.padded)
    return replace(text, thinking=tuple(replace(piece, weight=0.0) for piece in text.thinking)) if perturbed else text


def changed_trace(rng: Random, task: TaskName, problem: Problem, right: Solution) -> tuple[list[Line], str, str]:
    """Writes lines that are wrong or of another problem, or right ones; then what is asked, and an answer not right.

    Right lines get the conclusion of another answer, the others half of the time.
    """
    how = rng.choice(("right", "wrong", "another"))
    teller = draw_side(TASKS[task], rng, False) if how == "another" else problem
    solution = right if how == "right" else teller.solve(rng, how == "wrong")
    lines = opened(rng, teller, solution)
    if how == "right" or rng.random() < 0.5:
        return lines, problem.asked, other_answer(rng, problem, solution.final)
    return lines, teller.asked, solution.final
