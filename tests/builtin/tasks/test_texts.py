"""Training texts in natural English: true where they are not perturbed, followed where they are, and none held out."""

import re
from itertools import islice
from random import Random

import pytest

from r2a_core.builtin.pieces import TrainingText
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.builtin.tasks.texts import training_texts
from r2a_core.builtin.tasks.writing import draw_side, is_held_out, text_of
from r2a_core.config import TaskMix
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION, THINKING
from r2a_core.trace import last_boxed_answer

REFLECTION = re.compile(r"\b(?:wait|alternatively|double[ -]check)\b", re.IGNORECASE)


def texts(
    count: int = 300, tasks: tuple[str, ...] = tuple(TASKS), seed: int = 0, **shares: float
) -> list[TrainingText]:
    nothing = {"without_reasoning": 0.0, "probing": 0.0, "perturbed": 0.0, "contradicted": 0.0, "padded": 0.0}
    mix = TaskMix.model_validate({"tasks": dict.fromkeys(tasks, 1.0)} | nothing | shares)
    return list(islice(training_texts(seed, mix), count))


def question(text: TrainingText) -> str:
    return text.prompt.replace(BOXED_INSTRUCTION, "").replace(BRIEF_INSTRUCTION, "").strip()


def boxed(text: TrainingText) -> str:
    box = last_boxed_answer(text_of(text.answer))
    assert box is not None
    return box.content


@pytest.mark.parametrize("task", TASKS)
def test_solutions_reach_the_right_answer_and_wrong_ones_lead_elsewhere(task: str):
    rng, elsewhere = Random(1), 0
    for _ in range(300):
        problem = TASKS[task](rng)
        assert not problem.options or problem.gold in problem.options
        right, wrong = problem.solve(rng, False), problem.solve(rng, True)
        assert right.final == problem.gold
        assert right.told
        assert right.quoted
        assert any(piece.weight == 0 for line in wrong.steps for piece in line)
        elsewhere += wrong.final != problem.gold
    assert elsewhere > 270


@pytest.mark.parametrize("task", TASKS)
def test_no_held_out_problem_is_trained_on(task: str):
    rng = Random(2)
    problems = [draw_side(TASKS[task], rng, True) for _ in range(300)]
    assert all(is_held_out(problem.key) for problem in problems)
    trained = {question(text) for text in texts(1000, (task,), without_reasoning=0.5)}
    assert not trained & {problem.question for problem in problems}


def test_a_pair_of_things_is_held_out_as_a_whole():
    """Both orders, both directions and all wordings: the things of a question alone decide."""
    rng, sides = Random(3), {}
    for _ in range(5000):
        problem = TASKS["comparisons"](rng)
        sides.setdefault(frozenset(problem.options), set()).add(is_held_out(problem.key))
    assert all(len(side) == 1 for side in sides.values())
    held_out = [pair for pair, side in sides.items() if side == {True}]
    assert len(held_out) > 50
    for text in texts(500, ("comparisons",)):
        words = set(re.findall(r"\w+", text.prompt.lower()))
        assert not any({thing.lower() for thing in pair} <= words for pair in held_out)


def test_shares_of_the_mix():
    drawn = texts(2000, without_reasoning=0.2, probing=0.3, padded=0.4, perturbed=0.3, contradicted=0.5)
    reasoned = [text for text in drawn if text.with_reasoning]
    assert len(reasoned) / 2000 == pytest.approx(0.8, abs=0.04)
    assert sum(text.padded for text in reasoned) / len(reasoned) == pytest.approx(0.4, abs=0.04)
    probed = [text for text in reasoned if "Final answer is" in text_of(text.thinking)]
    assert len(probed) / len(reasoned) == pytest.approx(0.3 + 0.3 * 0.5 * 0.7, abs=0.04)
    for text in probed:
        probe = re.findall(r"Final answer is (?:\\boxed\{)?(\w+)", text_of(text.thinking))[-1]
        assert probe == boxed(text)
    for text in drawn:
        if not text.with_reasoning:
            assert text_of(text.thinking) in THINKING.values()
            assert text_of(text.answer).count("\n") == 2


def test_traces_reflect_now_and_then_and_answers_use_other_words():
    drawn = texts(2000)
    thinking = [text_of(text.thinking) for text in drawn]
    assert 0.3 < sum(bool(REFLECTION.search(trace)) for trace in thinking) / 2000 < 0.5
    other = 0
    for trace, text in zip(thinking, drawn, strict=True):
        told = [line for line in re.split(r"\n+|(?<=\.) ", text_of(text.answer)) if line and "boxed" not in line]
        other += not any(line in trace for line in told)
    assert 0.55 < other / 2000 < 0.8


def test_many_sentence_patterns():
    """Sentences of traces and answers with numbers, names and things taken out: at least 200 that occur three times."""
    seen: dict[str, int] = {}
    for text in texts(4000):
        asked = set(re.findall(r"\w+", question(text))) - {"the", "is", "and", "with", "each", "of", "in"}
        for sentence in re.split(r"(?<=[.?!:]) |\n+", text_of(text.thinking) + text_of(text.answer)):
            pattern = " ".join("_" if word in asked or word[:1].isdigit() else word for word in sentence.split())
            pattern = re.sub(r"\b\w*\d\w*\b|\b[A-Z][a-z]+\b(?!^)", "_", pattern)
            pattern = re.sub(r"(?:_\W*)+", "_ ", pattern)
            seen[pattern] = seen.get(pattern, 0) + 1
    assert sum(count >= 3 for count in seen.values()) >= 200


def test_the_same_seed_gives_the_same_texts():
    assert texts(20) == texts(20)
    assert texts(20) != texts(20, seed=1)
