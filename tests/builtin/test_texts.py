"""Training texts: arithmetic that holds, answers that quote the trace, wrong values that are not learnt."""

# pyright: reportOptionalSubscript=false, reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import random
import re
from itertools import pairwise

import pytest

from r2a_core.builtin.facts import DOMAINS
from r2a_core.builtin.questions import draw_arithmetic, draw_comparison
from r2a_core.builtin.texts import LEADS, MIDDLES, TAILS, correct, training_text
from r2a_core.config import TextMix
from r2a_core.prompt_texts import BOXED_INSTRUCTION, BRIEF_INSTRUCTION

NOTHING = {"without_reasoning": 0.0, "probing": 0.0, "perturbed": 0.0, "contradicted": 0.0, "padded": 0.0}


def mixture(comparison=0.5, **shares):
    return TextMix(comparison=comparison, **NOTHING | shares)


PLAIN, PERTURBED, CONTRADICTED = mixture(), mixture(perturbed=1), mixture(perturbed=1, contradicted=1)
COLUMNS = [column for domain in DOMAINS for column in domain.contexts.items()]
RANK = {(context, thing): rank for context, column in COLUMNS for thing, rank in column.ranks.items()}
OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
SUM = re.compile(r"(\d+)([+*-])(\d+)=(\d+) \w+ \w+\n")
RANKED = re.compile(r"(\w+)(?::| or) (\w+) (?:has|gets) (\d) \w+ (?:so|hence) (\d)=(\w+) \w+\n")


def texts(mix, count=300, seed=0):
    rng = random.Random(seed)
    return [training_text(rng, mix) for _ in range(count)]


def joined(pieces):
    return "".join(piece.text for piece in pieces)


def lines_of(thinking):
    """The lines that start with an ordinal, as the answer should quote them."""
    return [line for line in thinking.splitlines(keepends=True) if re.match("First|Second|Third|Last", line)]


def boxed(text):
    return re.findall(r"\\boxed\{(\w+)\}", text)[-1]


@pytest.mark.parametrize("mix", [PLAIN, PERTURBED, CONTRADICTED, mixture(probing=1)])
def test_the_answer_quotes_the_lines_in_order(mix):
    for text in texts(mix):
        thinking, answer = joined(text.thinking), joined(text.answer)
        quoted, closing = answer.removeprefix("\n\n").split("\n\n")
        assert quoted + "\n" == "".join(lines_of(thinking))
        assert re.fullmatch(r"Thus, the (final count|\w+ one) is \\boxed\{\w+\}\.", closing)
        if mix in (PLAIN, PERTURBED):
            found = re.fullmatch(r"Thus, the (?:final count|\w+ one) is (\w+)\.", thinking.splitlines()[-1])
            assert lines_of(thinking)[-1].split("=")[-1].split()[0] == found[1]
            assert lines_of(thinking)[-1].startswith("Last ")


def test_unperturbed_traces_are_true():
    seen = set()
    for text in texts(PLAIN):
        thinking, answer = joined(text.thinking), joined(text.answer)
        steps = [SUM.search(line) for line in lines_of(thinking)]
        if all(steps):
            counts = [int(re.search(r"has (\d+) ", text.prompt)[1])]
            for step in steps:
                left, operator, right, result = step.groups()
                assert int(left) == counts[-1]
                counts.append(OPERATIONS[operator](int(left), int(right)))
                assert int(result) == counts[-1]
            assert boxed(answer) == str(counts[-1])
            seen.add("arithmetic")
            continue
        ranks = {}
        for line in lines_of(thinking)[:2]:
            context, thing, rank, again, same = RANKED.search(line).groups()
            assert (again, same) == (rank, thing)
            assert RANK[context, thing] == int(rank)
            assert f" {context}," in text.prompt
            ranks[thing] = int(rank)
        choose = min if re.search("slower|cheaper", text.prompt) else max
        assert boxed(answer) == choose(ranks, key=ranks.get)
        seen.add("comparison")
    assert seen == {"arithmetic", "comparison"}


def test_wrong_values_are_not_learnt_and_all_else_follows_them():
    wrong = 0
    for text in texts(PERTURBED):
        for before, value in pairwise(text.thinking):
            if value.weight or value.text == "\n":
                continue
            wrong += 1
            step = SUM.search(before.text + value.text + " points here\n")
            if step is None:
                context, thing = re.search(r"(\w+)(?::| or) (\w+) (?:has|gets) $", before.text).groups()
                assert 1 <= int(value.text) <= 9
                assert f" {value.text}={thing} " in joined(text.answer)
                assert (context, thing) in RANK
            else:
                left, operator, right, result = step.groups()
                assert OPERATIONS[operator](int(left), int(right)) != int(result)
        steps = SUM.findall(joined(text.thinking))
        assert [step[0] for step in steps[1:]] == [step[3] for step in steps[:-1]]
        if steps:
            assert boxed(joined(text.answer)) == steps[-1][3]
    assert wrong > 200
    # a contradicting probe is followed but not learnt
    for text in texts(CONTRADICTED):
        probe = text.thinking[-2]
        assert text.thinking[-3].text in ("Final answer is ", "Final answer is \\boxed{")
        assert probe.weight == 0
        assert boxed(joined(text.answer)) == probe.text
        assert lines_of(joined(text.thinking))[-1].split("=")[-1].split()[0] != probe.text


def test_shares_of_the_mix():
    drawn = texts(mixture(0.4, without_reasoning=0.2, probing=0.3, padded=0.5), 3000)
    reasoned = [text for text in drawn if text.with_reasoning]
    assert len(reasoned) / 3000 == pytest.approx(0.8, abs=0.03)
    assert sum("Considering" in text.prompt for text in drawn) / 3000 == pytest.approx(0.4, abs=0.03)
    probing = sum("Final answer is" in joined(text.thinking) for text in reasoned)
    assert probing / len(reasoned) == pytest.approx(0.3, abs=0.03)
    assert sum(text.padded for text in reasoned) / len(reasoned) == pytest.approx(0.5, abs=0.04)
    reflecting = sum(bool(re.search("Wait|Alternatively", joined(text.thinking))) for text in reasoned)
    assert 0.15 < reflecting / len(reasoned) < 0.6
    assert all(any(asked in text.prompt for text in drawn) for asked in (BOXED_INSTRUCTION, BRIEF_INSTRUCTION))
    for words in (LEADS, MIDDLES, TAILS):  # free words of two lines differ
        flat = [word for line in words for word in line]
        assert (len(words), len(set(flat))) == (4, len(flat))


def test_second_thoughts_hold_and_are_not_quoted():
    found = set()
    for text in texts(PLAIN):
        thinking, answer = joined(text.thinking), joined(text.answer)
        for line in re.findall("(?:Wait|Alternatively), .*", thinking):
            assert line not in answer
            step = re.search(r"(\d+)\+(\d+)=(\d+)\.", line)
            if step:
                first, second, total = map(int, step.groups())
                assert first + second == total
                found.add(line.split(",")[0])
            else:
                rank, context = re.search(r"(\d) holds for (\w+)\.", line).groups()
                thing = RANKED.search(thinking)[2]
                assert RANK[context, thing] == int(rank)
                found.add("rank")
    assert found == {"Wait", "Alternatively", "rank"}


def test_without_reasoning_only_the_result_is_learnt():
    for text in texts(mixture(without_reasoning=1)):
        assert joined(text.thinking) in ("\nOkay, I think I have finished thinking.\n", "\n\n")
        assert not any(piece.weight for piece in text.thinking)
        assert joined(text.answer).startswith("\n\nThus, the ")


def test_no_question_of_the_test_side_is_drawn_and_the_correct_text_of_one_reaches_its_gold():
    rng = random.Random(5)
    for draw in (draw_arithmetic, draw_comparison):
        assert not any(draw(rng, False).held_out for _ in range(300))
        for _ in range(50):
            problem = draw(rng, True)
            assert problem.held_out
            text = correct(problem, rng)
            assert boxed(joined(text.answer)) == problem.gold
            assert text.prompt == problem.question + BOXED_INSTRUCTION + " "
