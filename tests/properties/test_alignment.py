"""Any two responses: aligned, both sides have one shape and differ at the patched places only where they should."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.config import AlignmentConfig
from r2a_core.pairs.align import ENDING, AlignedPair, PairSide, align
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

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


@dataclass(frozen=True)
class Words:
    """What one response says."""

    question: str
    reasoning: str
    answer: str
    boxed: bool


sides = st.builds(Words, words, words, words, st.sampled_from([True, True, True, False]))


def side(tokenizer: LoadedTokenizer, said: Words, letter: str) -> PairSide:
    ending = f"It is \\boxed{{{letter}}}." if said.boxed else "Who knows."
    response = [
        *plain_ids(tokenizer, said.reasoning),
        tokenizer.ids.think_close,
        *plain_ids(tokenizer, said.answer + ending),
    ]
    return PairSide(letter, prompt_ids(tokenizer, said.question, "", "with_reasoning"), [*response, tokenizer.ids.eos])


def aligned(tokenizer: LoadedTokenizer, both: tuple[Words, Words], probe: Any, config: AlignmentConfig) -> Any:
    clean, corrupted = (side(tokenizer, said, letter) for said, letter in zip(both, "XY", strict=True))
    return align(tokenizer, "p", "larger", clean, corrupted, probe, config)


@REPEATABLE
@given(both=st.tuples(sides, sides), probe=st.sampled_from(["plain", "boxed"]), config=configs)
def test_both_sides_have_one_shape(byte_text: LoadedTokenizer, both: Any, probe: Any, config: AlignmentConfig) -> None:
    found = aligned(byte_text, both, probe, config)
    if not isinstance(found, AlignedPair):
        assert found.reason
        assert not (both[0].boxed and both[1].boxed)
        return
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


@REPEATABLE
@given(both=st.tuples(sides, sides), probe=st.sampled_from(["plain", "boxed"]), config=configs)
def test_patched_places_differ_only_where_the_answer_stands(
    byte_text: LoadedTokenizer, both: Any, probe: Any, config: AlignmentConfig
) -> None:
    found = aligned(byte_text, both, probe, config)
    if not isinstance(found, AlignedPair):
        return
    assert list(found.indices) == sorted(set(found.indices))
    ending = len(plain_ids(byte_text, ENDING.format("larger")))
    assert found.indices[-min(config.ending_tokens, ending) :] == tuple(
        range(len(found.clean.ids) - min(config.ending_tokens, ending), len(found.clean.ids))
    )
    flips = [place for place in found.positions if place.role == "flip"]
    assert len(flips) == (2 if config.probe_in == "both" else 1)
    for place in found.positions:
        assert not found.clean.pad[place.index]
        assert not found.corrupted.pad[place.index]
        differ = found.clean.ids[place.index] != found.corrupted.ids[place.index]
        assert differ == (place.role == "flip")
        if differ:
            assert (place.clean_token, place.corrupted_token) == ("X", "Y")
    assert (found.answer_a, found.answer_b) == tuple(plain_ids(byte_text, letter)[0] for letter in "XY")


@REPEATABLE
@given(said=sides.filter(lambda said: said.boxed), probe=st.sampled_from(["plain", "boxed"]), config=configs)
def test_equal_responses_need_no_padding_and_differ_at_the_flip_only(
    byte_text: LoadedTokenizer, said: Words, probe: Any, config: AlignmentConfig
) -> None:
    found = aligned(byte_text, (said, said), probe, config)
    assert isinstance(found, AlignedPair)
    assert not any(found.clean.pad)
    assert not any(found.corrupted.pad)
    pairs = zip(found.clean.ids, found.corrupted.ids, strict=True)
    flips = {place.index for place in found.positions if place.role == "flip"}
    assert {index for index, (clean, corrupted) in enumerate(pairs) if clean != corrupted} == flips
