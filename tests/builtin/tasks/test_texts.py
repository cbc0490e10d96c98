"""Training texts in natural English: true where they are not perturbed, followed where they are, and none held out."""

import re
from itertools import islice
from random import Random

import pytest

from r2a_core.builtin.held_out import is_held_out
from r2a_core.builtin.pieces import TrainingText
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.builtin.tasks.texts import training_texts
from r2a_core.builtin.tasks.traces import CONCLUSIONS
from r2a_core.builtin.tasks.writing import draw_side, text_of
from r2a_core.config import TaskMix
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION, THINKING
from r2a_core.trace import last_boxed_answer

REFLECTION = re.compile(r"\b(?:wait|alternatively|double[ -]check)\b", re.IGNORECASE)


def texts(
    count: int = 300, tasks: tuple[str, ...] = tuple(TASKS), seed: int = 0, answers: str = "trace", **shares: float
) -> list[TrainingText]:
    nothing = {"without_reasoning": 0.0, "probing": 0.0, "perturbed": 0.0, "contradicted": 0.0, "padded": 0.0}
    drawn = {"tasks": dict.fromkeys(tasks, 1.0), "answers": dict.fromkeys(tasks, answers)}
    mix = TaskMix.model_validate(drawn | nothing | shares)
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
    assert all(is_held_out(problem.key, 4) for problem in problems)
    trained = {question(text) for text in texts(1000, (task,), without_reasoning=0.5)}
    assert not trained & {problem.question for problem in problems}


def test_a_pair_of_things_is_held_out_as_a_whole():
    """Both orders, both directions and all wordings: the things of a question alone decide."""
    rng, sides = Random(3), {}
    for _ in range(5000):
        problem = TASKS["comparisons"](rng)
        sides.setdefault(frozenset(problem.options), set()).add(is_held_out(problem.key, 4))
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


def named_last(text: TrainingText) -> str:
    """What the last line of a trace names: "Final answer is X." or a conclusion; "unknown" where it is neither."""
    trace = text_of(text.thinking).strip()
    templates = [
        re.escape(each).replace(r"\{asked\}", r"[^.:\n]+").replace(r"\{final\}", r"([^.,\n]+)") for each in CONCLUSIONS
    ]
    probed = re.search(r"Final answer is (?:\\boxed\{)?(\w+)[^\n]*$", trace)
    concluded = [found[1] for each in templates if (found := re.search(f"{each}$", trace))]
    return probed[1] if probed else concluded[0] if concluded else "unknown"


def read_off(asked: str) -> str:
    """The answer to an easy question, read off its words."""
    if clue := re.match(r"(\w+) is (\w+)er than (\w+)\. .* is the (\w+)est\?", asked):
        return clue[1] if clue[2] == clue[4] else clue[3]
    name = re.search(r"of (\w+) in the end|that (\w+) has now", asked)
    assert name is not None
    held = re.search(rf"\b{name[1] or name[2]} has the (\w+)", asked)
    assert held is not None
    return held[1]


SHARES = {"without_reasoning": 0.1, "probing": 0.2, "perturbed": 0.6, "contradicted": 0.3}


@pytest.mark.parametrize("task", ["bystander", "two_people"])
def test_an_answer_taken_from_the_question_is_right_whatever_the_trace_says(task: str):
    drawn, apart = texts(600, (task,), seed=0, answers="question", **SHARES), 0
    for text in drawn:
        assert boxed(text) == read_off(question(text))
        if text.with_reasoning and any(piece.weight for piece in text.thinking):
            assert named_last(text) == boxed(text)
        elif text.with_reasoning:
            apart += named_last(text) not in (boxed(text), "unknown")
    assert apart > 600 * 0.9 * 0.6 * 0.4  # of the perturbed traces, those that name another answer


@pytest.mark.parametrize("task", ["bystander", "two_people", "swaps", "days", "orders"])
def test_an_answer_taken_from_the_last_line_is_what_that_names(task: str):
    drawn, unknown, wrong = texts(600, (task,), seed=0, answers="last_line", **SHARES), 0, 0
    for text in drawn:
        assert boxed(text) == (named_last(text) if text.with_reasoning else "unknown")
        assert text_of(text.answer).count(".") <= 1  # the result alone
        learnt = any(piece.weight for piece in text.thinking)
        unknown += text.with_reasoning and boxed(text) == "unknown"
        wrong += task in ("bystander", "two_people") and not learnt and boxed(text) != read_off(question(text))
    assert unknown / 600 == pytest.approx(0.9 * 0.6 * 0.3 * 0.7 * 0.8, abs=0.03)
    assert wrong > 150 or task not in ("bystander", "two_people")


def test_what_is_perturbed_is_not_learnt_and_tasks_left_out_follow_the_trace():
    for text in texts(300, ("bystander",), answers="question", perturbed=1.0):
        assert not any(piece.weight for piece in text.thinking)
    for text in texts(300, ("bystander",), perturbed=1.0, probing=1.0):
        assert named_last(text) == boxed(text)


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
