"""Alignment on short responses that a person can cut and pad by hand."""

# pyright: reportCallIssue=false

from dataclasses import replace

import pytest
import torch

from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import AlignmentConfig, Tags
from r2a_core.models.load import resolve_tags
from r2a_core.pairs.align import AlignedPair, PairSide, UnalignedPair, align
from r2a_core.pairs.filter import PAIR_SCHEMA, aligned_pair, alignment_columns
from r2a_core.patching.runs import mask_spec
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

CONFIG = AlignmentConfig(padding="visible", probe_in="reasoning", keep_reasoning=True, ending_tokens=3)
CLEAN_THOUGHT = "\nFirst, swan.\n\nSecond, otter.\n"
CORRUPTED_THOUGHT = "\nSwan.\n"
CLEAN_ANSWER = "\n\nOkay.\n\nThus, the slower one is \\boxed{otter}."
CORRUPTED_ANSWER = "\n\nIt is less.\nIt is less.\n\nSo \\boxed{swan} then."


@pytest.fixture(scope="module")
def text() -> LoadedTokenizer:
    tokenizer = build_tokenizer()
    return LoadedTokenizer(tokenizer, Tags(), resolve_tags(tokenizer, Tags()))


def side(text, answer, question, thought, said, end=True) -> PairSide:
    prompt = [text.ids.bos, *plain_ids(text, f"{question} "), text.ids.think_open]
    response = [*plain_ids(text, thought), text.ids.think_close, *plain_ids(text, said)]
    return PairSide(answer, prompt, [*response, text.ids.eos] if end else response)


@pytest.fixture(scope="module")
def sides(text) -> tuple[PairSide, PairSide]:
    return (
        side(text, "otter", "Considering speed in water, which is slower?", CLEAN_THOUGHT, CLEAN_ANSWER),
        side(text, "swan", "Considering speed, which is slower?", CORRUPTED_THOUGHT, CORRUPTED_ANSWER),
    )


def aligned(text, sides, probe="plain", config=CONFIG) -> AlignedPair:
    found = align(text, "p", "slower", *sides, probe, config)
    assert isinstance(found, AlignedPair), found
    return found


def bare(text, sequence) -> str:
    """The text without padding."""
    ids = [token for token, pad in zip(sequence.ids, sequence.pad, strict=True) if not pad]
    return text.hf.decode(ids)


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
    n_query = [
        len(plain_ids(text, q))
        for q in ("Considering speed in water, which is slower? ", "Considering speed, which is slower? ")
    ]
    assert found.corrupted.pad[: n_query[0] - n_query[1] + 1] == (True,) * (n_query[0] - n_query[1]) + (False,)
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


def test_a_boxed_last_paragraph_of_the_reasoning_goes(text, sides):
    boxed = side(text, "otter", "Which?", "\nFirst, swan.\n\nSo the final answer is \\boxed{otter}.\n", CLEAN_ANSWER)
    found = aligned(text, (boxed, sides[1]))
    assert "<think>\nFirst, swan.\n\nFinal answer is otter.\n</think>" in bare(text, found.clean)


def test_reasoning_can_be_left_out(text, sides):
    found = aligned(text, sides, config=CONFIG.model_copy(update={"keep_reasoning": False}))
    assert "<think>\nFinal answer is otter.\n</think>" in bare(text, found.clean)
    assert "<think>\nFinal answer is swan.\n</think>" in bare(text, found.corrupted)


def test_the_probe_can_stand_in_the_answer_or_in_both_places(text, sides):
    late = aligned(text, sides, config=CONFIG.model_copy(update={"probe_in": "answer"}))
    assert bare(text, late.clean).count("Final answer is otter.\n") == 1
    assert "Okay.\n\nFinal answer is otter.\nThus, the slower one is \\boxed{" in bare(text, late.clean)
    assert [place.index > late.think_close for place in late.positions if place.role == "flip"] == [True]
    both = aligned(text, sides, config=CONFIG.model_copy(update={"probe_in": "both"}))
    assert [place.index > both.think_close for place in both.positions if place.role == "flip"] == [False, True]


def test_masked_padding_takes_no_position(text, sides):
    found = aligned(text, sides, config=CONFIG.model_copy(update={"padding": "masked"}))
    seen = mask_spec(found.corrupted, torch.device("cpu"))
    assert seen.keep is not None
    assert seen.keep.tolist() == [not pad for pad in found.corrupted.pad]
    assert seen.positions[seen.keep].tolist() == list(range(sum(seen.keep.tolist())))
    assert mask_spec(aligned(text, sides).corrupted, torch.device("cpu")).keep is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"said": "\n\nIt is the otter."}, "the clean response holds no \\boxed{} in its answer"),
        ({"thought": "\nOkay.\n</think>\n"}, None),
        ({"answer": "otters"}, "the answer 'otters' is not one token after"),
    ],
)
def test_a_pair_that_cannot_be_aligned_says_why(text, sides, change, reason):
    values = {"answer": "otter", "question": "Which?", "thought": CLEAN_THOUGHT, "said": CLEAN_ANSWER} | change
    found = align(text, "p", "slower", side(text, **values), sides[1], "plain", CONFIG)
    if reason is None:
        assert isinstance(found, AlignedPair), "a tag spelled out as text is no tag"
        return
    assert isinstance(found, UnalignedPair)
    assert reason in found.reason


def test_a_second_closing_tag_and_equal_answers_are_reasons(text, sides):
    twice = replace(sides[0], response_ids=[*sides[0].response_ids, text.ids.think_close])
    found = align(text, "p", "slower", twice, sides[1], "plain", CONFIG)
    assert isinstance(found, UnalignedPair)
    assert found.reason == "the clean response has 1 <think> and 2 </think>, not one of each in this order"
    same = align(text, "p", "slower", sides[0], replace(sides[1], answer="otter"), "plain", CONFIG)
    assert isinstance(same, UnalignedPair)
    assert "do not differ" in same.reason


def test_an_aligned_pair_survives_the_table(text, sides):
    from r2a_core.data.pairs import ComparisonPair
    from r2a_core.pairs.filter import Response

    pair = ComparisonPair("p", "?", "otter", "?", "swan", "slower", "animals")
    responses = {
        f"p-{name}": Response(list(each.prompt_ids), list(each.response_ids), "", "ok")
        for name, each in zip(("clean", "corrupted"), sides, strict=True)
    }
    row = alignment_columns(text, pair, responses, "boxed", CONFIG)
    assert set(row) <= set(PAIR_SCHEMA)
    assert aligned_pair(row | {"pair_id": "p", "probe": "boxed"}) == aligned(text, sides, "boxed")
