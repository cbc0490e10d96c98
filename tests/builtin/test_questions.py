"""The built-in questions: held out, deterministic, with the right gold; pairs that differ in the context only."""

# pyright: reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import random
import re

import pytest

from r2a_core.builtin.facts import DOMAINS
from r2a_core.builtin.held_out import distinct, is_held_out
from r2a_core.builtin.questions import arithmetic, comparison, comparison_pairs
from r2a_core.infra.errors import R2AError

CLAUSE = re.compile(r"(?:First|Second|Third|Last) \w+ (\d+) (more|less|times)\.")


def test_arithmetic_golds_follow_from_the_question():
    for item in arithmetic(200, 0):
        count = int(re.search(r"has (\d+) ", item.question)[1])
        steps = CLAUSE.findall(item.question)
        for operand, word in steps:
            count = {"more": count + int(operand), "less": count - int(operand), "times": count * int(operand)}[word]
            assert 1 <= count <= 20
        assert item.gold == str(count)
        assert len(steps) in (2, 3, 4)
        assert is_held_out(item.question, 6)


def test_comparison_golds_follow_from_the_table():
    for item in comparison(200, 0):
        phrase, comparator, first, second = re.fullmatch(
            r"Considering ([\w ]+), which is (\w+): (\w+) or (\w+)\?", item.question
        ).groups()
        (ranks,) = [c.ranks for domain in DOMAINS for c in domain.contexts.values() if c.phrase == phrase]
        choose = min if comparator in ("slower", "cheaper") else max
        assert ranks[first] != ranks[second]
        assert item.gold == choose((first, second), key=ranks.get)


@pytest.mark.parametrize("make", [arithmetic, comparison, comparison_pairs])
def test_the_first_questions_do_not_depend_on_how_many_are_asked_for(make):
    assert make(40, 1) == make(60, 1)[:40]
    assert make(40, 1) != make(40, 2)
    assert len({str(each) for each in make(60, 1)}) == 60


def test_pairs_differ_in_the_context_and_have_opposite_answers():
    pairs = comparison_pairs(100, 0)
    assert len({frozenset((pair.clean_question, pair.corrupted_question)) for pair in pairs}) == 100
    for pair in pairs:
        clean, corrupted = (q.split(", which is ") for q in (pair.clean_question, pair.corrupted_question))
        assert clean[0] != corrupted[0]
        assert clean[1] == corrupted[1]
        assert is_held_out("which is " + clean[1], 6)
        assert {pair.clean_answer, pair.corrupted_answer} == set(re.search(r": (\w+) or (\w+)\?", clean[1]).groups())


def test_too_many_questions_are_refused():
    """A generator of two questions: the third is looked for among many draws and then given up."""
    drawn = distinct(lambda rng: rng.choice("ab"), str, random.Random("seed"), 100)
    assert {next(drawn), next(drawn)} == {"a", "b"}
    with pytest.raises(R2AError, match="there are only 2 built-in questions of this kind"):
        next(drawn)


def test_every_rank_is_used_and_contexts_disagree():
    for domain in DOMAINS:
        for context in domain.contexts.values():
            assert set(context.ranks) == set(domain.things)
            assert set(context.ranks.values()) == set(range(1, 10))
        rows = [tuple(context.ranks[thing] for context in domain.contexts.values()) for thing in domain.things]
        assert len(set(rows)) == len(rows)
