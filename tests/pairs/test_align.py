"""Alignment: short responses that a person can cut and pad by hand, and any two responses."""

# pyright: reportCallIssue=false

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.config import AlignmentConfig
from r2a_core.data.items import QuestionPair
from r2a_core.pairs.align import ENDING, AlignedPair, PairRejected, Response, align
from r2a_core.patching.runs import mask_spec
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

PAIR = QuestionPair("p", "?", "otter", "?", "swan", "slower", "animals")
CLEAN_THOUGHT = "\nFirst, swan.\n\nSecond, otter.\n"
CORRUPTED_THOUGHT = "\nSwan.\n"
CLEAN_ANSWER = "\n\nOkay.\n\nThus, the slower one is \\boxed{otter}."
CORRUPTED_ANSWER = "\n\nIt is less.\nIt is less.\n\nSo \\boxed{swan} then."


def configured(**change) -> AlignmentConfig:
    usual = {"padding": "visible", "probe_in": "reasoning", "keep_reasoning": True, "ending_tokens": 3}
    return AlignmentConfig(**usual | change)


def response(text, question, thought, said) -> Response:
    prompt = [text.ids.bos, *plain_ids(text, f"{question} "), text.ids.think_open]
    return Response(prompt, [*plain_ids(text, thought), text.ids.think_close, *plain_ids(text, said), text.ids.eos])


@pytest.fixture(scope="module")
def text(built_in_tokenizer) -> LoadedTokenizer:
    return built_in_tokenizer


@pytest.fixture(scope="module")
def sides(text) -> tuple[Response, Response]:
    return (
        response(text, "Considering speed in water, which is slower?", CLEAN_THOUGHT, CLEAN_ANSWER),
        response(text, "Considering speed, which is slower?", CORRUPTED_THOUGHT, CORRUPTED_ANSWER),
    )


def aligned(text, sides, probe: Any = "plain", **change) -> AlignedPair:
    return align(text, PAIR, sides, probe, configured(**change))


def bare(text, sequence) -> str:
    """The text without padding."""
    return text.hf.decode([token for token, pad in zip(sequence.ids, sequence.pad, strict=True) if not pad])


def test_both_sides_are_cut_to_the_same_shape(text, sides):
    found = aligned(text, sides)
    tags = text.tags
    assert bare(text, found.clean) == (
        f"{tags.bos}Considering speed in water, which is slower? <think>{CLEAN_THOUGHT}Final answer is otter.\n</think>"
        "\n\nOkay.\n\nThus, the slower one is \\boxed{"
    )
    assert bare(text, found.corrupted) == (
        f"{tags.bos}Considering speed, which is slower? <think>{CORRUPTED_THOUGHT}Final answer is swan.\n</think>"
        "\n\nIt is less.\nIt is less.\n\nThus, the slower one is \\boxed{"
    )
    assert len(found.clean.ids) == len(found.corrupted.ids)
    for sequence in (found.clean, found.corrupted):
        assert sequence.ids[found.think_open] == text.ids.think_open
        assert sequence.ids[found.think_close] == text.ids.think_close
        assert all(token == text.ids.pad for token, pad in zip(sequence.ids, sequence.pad, strict=True) if pad)
    longer, shorter = (len(plain_ids(text, f"Considering {x}, which is slower? ")) for x in ("speed in water", "speed"))
    assert found.corrupted.pad[: longer - shorter + 1] == (True,) * (longer - shorter) + (False,)
    assert not any(found.clean.pad[: found.think_close]), "the clean side has the longer query and reasoning"
    assert found.clean.pad[found.think_close + 1], "and the shorter answer, padded right after </think>"


@pytest.mark.parametrize("probe", ["plain", "boxed"])
def test_positions_are_the_probe_the_closing_tag_and_the_end(text, sides, probe):
    found = aligned(text, sides, probe)
    phrase = {"plain": "Final answer is {}.\n", "boxed": "Final answer is \\boxed{{{}}}.\n"}[probe]
    n_probe = len(plain_ids(text, phrase.format("otter")))
    close, end = found.think_close, len(found.clean.ids)
    assert found.indices == (*range(close - n_probe, close + 1), *range(end - 3, end))
    spoken = "".join(place.clean_token for place in found.positions if place.role in ("probe", "flip"))
    assert spoken == phrase.format("otter")
    flips = [place for place in found.positions if place.role == "flip"]
    assert [(place.clean_token, place.corrupted_token) for place in flips] == [("otter", "swan")]
    assert [place.clean_token for place in found.positions if place.role == "answer_end"] == [" is", " \\boxed", "{"]
    assert (found.answer_a, found.answer_b) == tuple(plain_ids(text, word)[0] for word in ("otter", "swan"))


def test_reasoning_can_be_left_out_and_the_probe_stand_elsewhere(text, sides):
    short = aligned(text, sides, keep_reasoning=False)
    assert "<think>\nFinal answer is otter.\n</think>" in bare(text, short.clean)
    assert "<think>\nFinal answer is swan.\n</think>" in bare(text, short.corrupted)
    late = aligned(text, sides, probe_in="answer")
    assert bare(text, late.clean).count("Final answer is otter.\n") == 1
    assert "Okay.\n\nFinal answer is otter.\nThus, the slower one is \\boxed{" in bare(text, late.clean)
    assert [place.index > late.think_close for place in late.positions if place.role == "flip"] == [True]
    both = aligned(text, sides, probe_in="both")
    assert [place.index > both.think_close for place in both.positions if place.role == "flip"] == [False, True]
    # a boxed last paragraph of the reasoning goes
    boxed = response(text, "Which?", "\nFirst, swan.\n\nSo the final answer is \\boxed{otter}.\n", CLEAN_ANSWER)
    assert "<think>\nFirst, swan.\n\nFinal answer" in bare(text, aligned(text, (boxed, sides[1])).clean)


def test_masked_padding_takes_no_position(text, sides):
    found = aligned(text, sides, padding="masked")
    seen = mask_spec(found.corrupted, torch.device("cpu"))
    assert seen.keep is not None
    assert seen.keep.tolist() == [not pad for pad in found.corrupted.pad]
    assert seen.positions[seen.keep].tolist() == list(range(sum(seen.keep.tolist())))
    assert mask_spec(aligned(text, sides).corrupted, torch.device("cpu")).keep is None


REJECTED = [
    (CLEAN_THOUGHT, "\n\nIt is the otter.", "otter", "the clean response holds no \\boxed{} in its answer"),
    (CLEAN_THOUGHT, CLEAN_ANSWER, "otters", "the answer 'otters' is not one token after"),
    (CLEAN_THOUGHT, CLEAN_ANSWER, "swan", "do not differ"),
]


@pytest.mark.parametrize(("thought", "said", "answer", "reason"), REJECTED)
def test_a_pair_that_cannot_be_aligned_says_why(text, sides, thought, said, answer, reason):
    both = (response(text, "Which?", thought, said), sides[1])
    with pytest.raises(PairRejected, match=re.escape(reason)):
        align(text, replace(PAIR, clean_answer=answer), both, "plain", configured())
    # a tag spelled out as text is no reason
    spelled = response(text, "Which?", "\nOkay.\n</think>\n", CLEAN_ANSWER)
    assert aligned(text, (spelled, sides[1])).pair_id == "p"


words = st.text("ab \n.é", max_size=10)
REPEATABLE = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
configs = st.builds(
    AlignmentConfig,
    padding=st.sampled_from(["visible", "masked"]),
    probe_in=st.sampled_from(["reasoning", "answer", "both"]),
    keep_reasoning=st.booleans(),
    ending_tokens=st.integers(1, 30),
)
spoken = st.tuples(words, words, words, st.sampled_from([True, True, True, False]))  # question to answer; boxed
Words = tuple[str, str, str, bool]
LETTERS = QuestionPair("p", "?", "X", "?", "Y", "larger", "letters")


def lettered(tokenizer: LoadedTokenizer, both: Sequence[Words], probe: Any, config: AlignmentConfig) -> AlignedPair:
    """The pair of answers X and Y, aligned."""
    responses = []
    for (question, thought, said, in_box), letter in zip(both, "XY", strict=True):
        ending = f"It is \\boxed{{{letter}}}." if in_box else "Who knows."
        reasoning, answer = (plain_ids(tokenizer, part) for part in (thought, said + ending))
        ids = [*reasoning, tokenizer.ids.think_close, *answer, tokenizer.ids.eos]
        responses.append(Response(prompt_ids(tokenizer, question, "", "with_reasoning"), ids))
    return align(tokenizer, LETTERS, (responses[0], responses[1]), probe, config)


@REPEATABLE
@given(both=st.tuples(spoken, spoken), probe=st.sampled_from(["plain", "boxed"]), config=configs)
def test_both_sides_have_one_shape_and_differ_where_the_answer_stands(
    byte_text: LoadedTokenizer, both: Any, probe: Any, config: AlignmentConfig
) -> None:
    if not (both[0][-1] and both[1][-1]):
        with pytest.raises(PairRejected, match=r"no \\boxed\{\} in its answer"):
            lettered(byte_text, both, probe, config)
        return
    found = lettered(byte_text, both, probe, config)
    ids = byte_text.ids
    ending = plain_ids(byte_text, ENDING.format("larger"))
    lengths = {len(each) for part in (found.clean, found.corrupted) for each in (part.ids, part.pad)}
    assert len(lengths) == 1
    for part in (found.clean, found.corrupted):
        own = [token for token, pad in zip(part.ids, part.pad, strict=True) if not pad]
        assert (own.count(ids.think_open), own.count(ids.think_close)) == (1, 1)
        assert (part.ids[found.think_open], part.ids[found.think_close]) == (ids.think_open, ids.think_close)
        assert part.ids[-len(ending) :] == tuple(ending)
        assert {token for token, pad in zip(part.ids, part.pad, strict=True) if pad} <= {ids.pad}
        assert part.masked == (config.padding == "masked")
    borders = (0, found.think_open, found.think_close, len(found.clean.ids) - len(ending))
    for start, stop in pairwise(borders):
        assert min(sum(part.pad[start:stop]) for part in (found.clean, found.corrupted)) == 0  # one side has none
    # patched places differ only where the answer stands
    assert list(found.indices) == sorted(set(found.indices))
    end, taken = len(found.clean.ids), min(config.ending_tokens, len(ending))
    assert found.indices[-taken:] == tuple(range(end - taken, end))
    flips = [place for place in found.positions if place.role == "flip"]
    assert len(flips) == (2 if config.probe_in == "both" else 1)
    for place in found.positions:
        assert not found.clean.pad[place.index] | found.corrupted.pad[place.index]
        differ = found.clean.ids[place.index] != found.corrupted.ids[place.index]
        assert differ == (place.role == "flip")
        if differ:
            assert (place.clean_token, place.corrupted_token) == ("X", "Y")
    assert (found.answer_a, found.answer_b) == tuple(plain_ids(byte_text, letter)[0] for letter in "XY")

    equal = lettered(byte_text, (both[0], both[0]), probe, config)  # needs no padding and differs at the flip only
    assert not any(equal.clean.pad + equal.corrupted.pad)
    pairs = zip(equal.clean.ids, equal.corrupted.ids, strict=True)
    places = {place.index for place in equal.positions if place.role == "flip"}
    assert {index for index, (clean, corrupted) in enumerate(pairs) if clean != corrupted} == places
