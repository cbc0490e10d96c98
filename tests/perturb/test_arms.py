"""Arms by token ids, with two tokenizers: one token a letter, and one that merges words with the space before them."""

import random
from collections.abc import Sequence
from decimal import Decimal

import pytest

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import Tags
from r2a_core.evaluation.values import WHOLE_NUMBER as NUMBER
from r2a_core.models.tokenizers import resolve_tags
from r2a_core.perturb.arms import Arm, changed_arms, cut_arms
from r2a_core.perturb.edits import other_number
from r2a_core.perturb.mistakes import mistake_arms
from r2a_core.perturb.paraphrase import PHRASES, reworded
from r2a_core.perturb.reading import Reading, donor_of, read_trace
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import token_trace
from tests.perturb.cases import params
from tests.small_models import byte_tokenizer

THOUGHT = "So Mia has 12 pens. Then Max gets 3.5 of 12.\nHence Mia has 8.\n"
ANSWER = "\n\nMia has 8 pens.\nThe rest is \\boxed{8}."
OPTIONS = ("Mia", "Max", "Omar")


@pytest.fixture(params=[byte_tokenizer, build_tokenizer])
def text(request: pytest.FixtureRequest) -> LoadedTokenizer:
    hf = request.param()
    return LoadedTokenizer(hf, Tags(), resolve_tags(hf, Tags()))


def reading_of(text: LoadedTokenizer, thought: str = THOUGHT, answer: str = ANSWER, item: str = "a") -> Reading:
    prompt = prompt_ids(text, "Who?", "", "with_reasoning")
    response = [*plain_ids(text, thought), text.ids.think_close, *plain_ids(text, answer), text.ids.eos]
    found = read_trace(text, token_trace(item, prompt, response, text.ids), "The answer is")
    assert found is not None
    return found


def spelled(text: LoadedTokenizer, ids: Sequence[int]) -> str:
    return text.hf.decode(list(ids)).partition("<think>")[2]


def arms_of(text: LoadedTokenizer, boundary: int = 2, **values: object) -> dict[tuple[str, str, float], Arm]:
    own, other = reading_of(text), reading_of(text, "It is 7, I know, of 7.\n", "\\boxed{7}", "b")
    found = changed_arms(text, own, boundary, donor_of(own, [own, other]), OPTIONS, params(**values))
    return {(arm.family, arm.part, arm.level): arm for arm in found}


def test_an_answer_is_forced_with_the_tokens_of_its_own_box(text: LoadedTokenizer) -> None:
    reading = reading_of(text)
    assert text.hf.decode(reading.stem) == "</think>\n\nThe answer is \\boxed{"
    assert text.hf.decode(reading.result).startswith("8}")
    bare = reading_of(text, answer="\\boxed{8}")
    assert text.hf.decode(bare.stem) == "</think>The answer is \\boxed{"
    for opening, close in (("\\(", "\\)"), ("\\[\n", "\n\\]"), ("$", "$."), ("$$ ", "$$")):
        formula = reading_of(text, answer=f"\n\nIt is {opening}\\boxed{{8}}{close}")
        assert text.hf.decode(formula.stem) == f"</think>\n\nThe answer is {opening}\\boxed{{"
    prompt = prompt_ids(text, "Who?", "", "with_reasoning")
    for thought, answer in (("So.\n", "None."), ("\n", ANSWER)):
        response = [*plain_ids(text, thought), text.ids.think_close, *plain_ids(text, answer), text.ids.eos]
        assert read_trace(text, token_trace("a", prompt, response, text.ids), "The answer is") is None


def test_cuts_end_as_the_trace_does_and_the_last_is_the_trace(text: LoadedTokenizer) -> None:
    reading = reading_of(text)
    arms = cut_arms(reading)
    assert [spelled(text, arm.ids) for arm in arms] == [
        "\n\n",
        "\nSo Mia has 12 pens.\n",
        "\nSo Mia has 12 pens. Then Max gets 3.5 of 12.\n",
        f"\n{THOUGHT}",
    ]
    assert arms[-1].ids == reading.trace.token_ids[: reading.trace.segments.think_close]
    assert [arm.level for arm in arms] == [0, 1 / 3, 2 / 3, 1]


def test_wrong_numbers_stand_across_before_and_after_the_boundary(text: LoadedTokenizer) -> None:
    reading = reading_of(text)
    arms = arms_of(text, levels=[0.5, 1.0])
    own = NUMBER.findall(THOUGHT)
    assert own == ["12", "3.5", "12", "8"]
    for (family, part, level), arm in arms.items():
        if family != "number":
            continue
        now, thought = NUMBER.findall(spelled(text, arm.ids)), spelled(text, arm.ids)
        wrong = [old != new for old, new in zip(own, now, strict=False)]
        assert sum(wrong) == len(arm.edits)
        assert all(abs(Decimal(new) - Decimal(old)) in (0, 1, 2, 3, 4, 5) for old, new in zip(own, now, strict=False))
        assert {"across": len(now) == 4, "after": wrong[:3] == [False] * 3, "before": len(now) == 3}[part]
        assert len(arm.edits) == {"across": 4, "after": 1, "before": 3}[part] or level < 1
        assert (arm.kept == 2) == (part == "before")
        assert NUMBER.sub("", thought) == NUMBER.sub("", f"\n{THOUGHT}"[: None if part != "before" else 46])
        kept = sum(ours == theirs for ours, theirs in zip(arm.ids, reading.trace.token_ids, strict=False))
        assert kept > len(arm.ids) // 2 or len(now[0]) != len(own[0])  # ids stay where nothing changed
    assert [len(arms["number", "across", level].edits) for level in (0.5, 1.0)] == [2, 4]
    assert arms == arms_of(text, levels=[0.5, 1.0])
    assert arms["number", "across", 1.0] != arms_of(text, seed=1)["number", "across", 1.0]
    assert ("number", "after", 1.0) not in arms_of(text, boundary=3)
    ended = arms_of(text, boundary=3, levels=[0.5, 1.0])  # all is before the boundary
    assert all(ended["number", "before", level].ids == ended["number", "across", level].ids for level in (0.5, 1.0))


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.2, 1.0], {"across": {0.2: 1, 1.0: 4}, "after": {1.0: 1}, "before": {0.2: 1, 1.0: 3}}),
        ([0.1], {}),
        ([1.0, 0.9], {"across": {1.0: 4}, "after": {1.0: 1}, "before": {1.0: 3}}),
    ],
)
def test_a_level_has_as_many_wrong_values_as_it_says_or_is_left_out(
    text: LoadedTokenizer, levels: list[float], expected: dict[str, dict[float, int]]
) -> None:
    found: dict[str, dict[float, int]] = {}
    for (family, part, level), arm in arms_of(text, levels=levels).items():
        if family == "number":
            found.setdefault(part, {})[level] = len(arm.edits)
    assert found == expected


@pytest.mark.parametrize(
    ("said", "other"),
    [
        ("First, we add. At first, Lily has 3.", "To begin with, we add. In the beginning, Lily has 3."),
        ("First of all, it rains.\nFinally, the sum is 3.", "To begin with, it rains.\nIn the end, the sum is 3."),
        ("Okay, so I need to add. So the sum is 3.", "All right, so I must add. Thus the sum is 3."),
        ("Wait, let me check. It is 3, but we add.", "Hold on, I will check. It is 3, yet we add."),
        ("Then Sam swaps. Hence, 3 is it.", "After that Sam swaps. Thus, 3 is it."),
        ("It rains, which means that we add.", "It rains, which implies that we add."),
        *(
            (same, same)
            for same in (
                "The first day is Saturday, and the first of all is last.",
                "At first glance, I first think. First things come first, then I stop.",
                "First Lily and Max swap, so that she wins. So many are so good that it gives.",
                "Don't let me know. Let me know. It is nothing but time, not one but it.",
                "If so, then x = 3. Then x follows. It is so because of rain, just because it is.",
                "The word, which means 3, is now good. It has been 3 years since we met.",
                "All the time I have to spend is what I need to have. Wait for it. So what? So, why?",
            )
        ),
    ],
)
def test_other_words_stand_only_where_they_say_the_same(said: str, other: str) -> None:
    assert PHRASES.sub(lambda phrase: reworded(phrase[0]), said) == other


@pytest.mark.parametrize(
    ("options", "said", "forms"),
    [
        (["rice", "egg"], "Rice has 0 g. - Rice: rice.", "Egg has 0 g. - Egg: egg."),
        (["Mia", "Max"], "Mia is May; mia.", "Max is May; mia."),
        (["new york", "Rome"], "New york or new york.", "Rome or Rome."),
        (["a", "b"], "A cat has a.", "A cat has b."),
        (["rice"], "Rice and rice.", "Rice and rice."),
    ],
)
def test_every_option_is_exchanged_also_where_a_sentence_starts(
    text: LoadedTokenizer, options: list[str], said: str, forms: str
) -> None:
    reading = reading_of(text, f"{said}\n")
    arms = changed_arms(text, reading, 1, None, options, params(families=["option"], levels=[1.0]))
    found = {arm.part: spelled(text, arm.ids).strip() for arm in arms}
    assert found.get("across", said) == forms


def test_numbers_are_whole_and_keep_their_places() -> None:
    assert NUMBER.findall("x2 -3, 5-3 (1), 2.50. v1.2 \\3 4th") == ["-3", "5", "3", "1", "2.50"]
    found = {other_number("2.50", random.Random(seed)) for seed in range(200)}
    assert found == {f"{2.5 + delta:.2f}" for delta in range(-5, 6) if delta}
    assert NUMBER.findall("1,000 of 12,3456 or \u22122") == ["1,000", "3456", "\u22122"]
    cases = [{other_number(number, random.Random(seed)) for seed in range(99)} for number in ("9,998", "\u22129")]
    assert {"9,994", "10,002"} <= cases[0]
    assert {"\u22124", "\u221214"} <= cases[1]


def test_one_value_of_a_sentence_is_wrong_and_the_trace_ends_there(text: LoadedTokenizer) -> None:
    reading = reading_of(text)
    free = {"traces": 1, "mistakes": 3, "max_new_tokens": 5, "batch_size": 4}
    arms = [*mistake_arms(text, reading, OPTIONS, params(free=free))]
    assert [(arm.part, arm.kept, len(arm.edits)) for arm in arms] == [
        (part, kept, int(part == "made")) for kept in (1, 2, 3) for part in ("made", "none")
    ]
    for made, none in zip(arms[::2], arms[1::2], strict=True):
        assert none.ids == reading.trace.token_ids[: len(none.ids)]
        thought = spelled(text, none.ids)
        assert f"\n{THOUGHT}".startswith(thought.rstrip())
        assert thought.rstrip().endswith({1: " pens.", 2: " of 12.", 3: " 8."}[made.kept])
        pairs = zip(NUMBER.findall(thought), NUMBER.findall(spelled(text, made.ids)), strict=True)
        (changed,) = [place for place, (old, new) in enumerate(pairs) if old != new]
        assert changed in {1: (0,), 2: (1, 2), 3: (3,)}[made.kept]
        assert NUMBER.sub("", spelled(text, made.ids)) == NUMBER.sub("", thought)
        same = [ours == theirs for ours, theirs in zip(made.ids, none.ids, strict=False)]
        assert all(same[: same.index(False)])
        stop = reading.first_sentences(made.kept - 1).stop
        assert made.ids[:stop] == none.ids[:stop]

    def kept(most: int, thought: str = THOUGHT) -> list[int]:
        values = params(free=free | {"mistakes": most})
        return [arm.kept for arm in mistake_arms(text, reading_of(text, thought), OPTIONS, values)][::2]

    assert [kept(most) for most in (0, 1, 2)] == [[], [2], [1, 3]]
    assert kept(9, "So. Then Mia. No.\nThen 8 for Mia.\n") == [2, 4]
    assert kept(9, "So. No.\n") == []
    option = next(mistake_arms(text, reading_of(text, "So Mia.\n"), OPTIONS, params(free=free)))
    assert spelled(text, option.ids).strip() in ("So Max.", "So Omar.")
    assert [*mistake_arms(text, reading, OPTIONS, params(free=None))] == []


def test_other_texts_in_the_place_of_the_reasoning(text: LoadedTokenizer) -> None:
    arms, own = arms_of(text), reading_of(text)
    named = {key: spelled(text, arm.ids) for key, arm in arms.items()}
    assert named["other", "", 1] == "\nIt is 7, I know, of 7.\n"
    assert arms["other", "", 1].planted == "7"
    assert named["filler", "", 1].strip(" .\n") == ""
    assert len(arms["filler", "", 1].ids) == own.trace.segments.think_close
    assert named["paraphrase", "", 1] == "\nThus Mia has 12 pens. After that Max gets 3.5 of 12.\nThus Mia has 8.\n"
    options = named["option", "across", 1]
    assert not options.startswith("\nSo Mia")
    assert options.count("Omar") + options.count("Max") + options.count("Mia") == 3
    planted = arms["preempt", "last", 1].planted
    assert planted in OPTIONS
    assert named["preempt", "last", 1] == f"\n{THOUGHT.strip()}\nFinal answer is {planted}.\n"
    assert named["preempt", "first", 1] == f"\nI already know the answer is {planted}.\n{THOUGHT}"
    question = arms["preempt", "question", 1]
    assert text.hf.decode(list(question.ids)).endswith(f"Who? The answer is {planted}. <think>\n{THOUGHT}")
    opened = [arms["preempt", place, 1].open_ids for place in ("question", "first")]
    assert [text.hf.decode(list(ids)).partition("Who? ")[2] for ids in opened if ids] == [
        f"The answer is {planted}. <think>\n",
        f"<think>\nI already know the answer is {planted}.\n",
    ]


def test_the_donor_is_nearest_in_length_among_those_with_another_answer(text: LoadedTokenizer) -> None:
    own = reading_of(text, "One two three.\n")
    thoughts = {"b": ("One two four.\n", "8"), "c": ("One.\n", "7"), "d": ("One two three four five six.\n", "7")}
    others = [reading_of(text, thought, f"\\boxed{{{box}}}", item) for item, (thought, box) in thoughts.items()]
    found = [donor_of(own, each) for each in ([own, *others], [own, others[0]], [own])]
    assert [donor and donor.item_id for donor in found] == ["c", None, None]
