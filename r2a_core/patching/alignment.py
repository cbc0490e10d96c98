"""A clean and a corrupted response cut and padded to one shape, token by token (paper section 5).

Input: the two responses of a pair, as token ids. Output: an AlignedPair, two sequences of equal length

    [pad] query <think> [pad] reasoning probe </think> [pad] answer "Thus, the ... one is \\boxed{"

with the positions to patch; or an UnalignedPair with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from r2a_core.models.loading import LoadedTokenizer
from r2a_core.patching.trimming import NotAlignable, TrimmedResponse, decode, trim
from r2a_core.traces.prompts import plain_ids

Role = Literal["probe", "flip", "think_close", "answer_end"]
ProbeStyle = Literal["plain", "boxed"]
PROBES: dict[ProbeStyle, str] = {"plain": "Final answer is {}.\n", "boxed": "Final answer is \\boxed{{{}}}.\n"}
ENDING = "Thus, the {} one is \\boxed{{"


@dataclass(frozen=True)
class AlignmentConfig:
    """How pairs are aligned."""

    padding: Literal["visible", "masked"]  # visible: pads are attended to as any token, as in the reference
    probe_in: Literal["reasoning", "answer", "both"]  # before </think>, before the common ending, or in both places
    keep_reasoning: bool  # False: only the probe stands between the tags
    ending_tokens: int  # last tokens of the sequence to patch


@dataclass(frozen=True)
class PairSide:
    """One response of a pair."""

    answer: str  # the right answer of its question
    prompt_ids: Sequence[int]
    response_ids: Sequence[int]


@dataclass(frozen=True)
class PaddedSequence:
    """Token ids of one side. pad is True on padding; masked padding is not attended to and takes no position."""

    ids: tuple[int, ...]
    pad: tuple[bool, ...]
    masked: bool


@dataclass(frozen=True)
class PatchPosition:
    """One token index to patch and what stands there. flip: the token of the probe where clean and corrupted differ."""

    index: int
    role: Role
    clean_token: str
    corrupted_token: str


@dataclass(frozen=True)
class AlignedPair:
    """Two sequences of equal length and segment bounds that end in `\\boxed{`, ready to patch."""

    pair_id: str
    probe: ProbeStyle
    clean: PaddedSequence
    corrupted: PaddedSequence
    positions: tuple[PatchPosition, ...]  # ascending
    answer_a: int  # token id of the clean answer
    answer_b: int  # token id of the corrupted answer
    think_open: int
    think_close: int

    @property
    def indices(self) -> tuple[int, ...]:
        """Token indices to patch, ascending."""
        return tuple(position.index for position in self.positions)


@dataclass(frozen=True)
class UnalignedPair:
    """A pair that cannot be aligned, and why."""

    pair_id: str
    probe: ProbeStyle
    reason: str


def align(
    text: LoadedTokenizer,
    pair_id: str,
    comparator: str,
    clean: PairSide,
    corrupted: PairSide,
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> AlignedPair | UnalignedPair:
    """The pair with one probing phrase, aligned."""
    try:
        return align_sides(text, pair_id, ENDING.format(comparator), (clean, corrupted), probe, config)
    except NotAlignable as reason:
        return UnalignedPair(pair_id, probe, str(reason))


def align_sides(
    text: LoadedTokenizer,
    pair_id: str,
    ending_text: str,
    sides: tuple[PairSide, PairSide],
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> AlignedPair:
    """`align` of (clean, corrupted) with the ending spelled out. Raises NotAlignable with the reason."""
    ending = plain_ids(text, ending_text)
    answers = [answer_token(text, ending_text, side.answer) for side in sides]
    phrases = [plain_ids(text, PROBES[probe].format(side.answer)) for side in sides]
    if len(phrases[0]) != len(phrases[1]) or phrases[0] == phrases[1]:
        raise NotAlignable(f"the probing phrases have {len(phrases[0])} and {len(phrases[1])} tokens, or do not differ")
    trimmed = [trimmed_side(text, name, side, config) for name, side in zip(("clean", "corrupted"), sides, strict=True)]
    segments = [
        segments_of(response, phrase, ending, config.probe_in)
        for response, phrase in zip(trimmed, phrases, strict=True)
    ]
    clean, corrupted = (pad_sequence(text, segments, side, config.padding == "masked") for side in (0, 1))
    widths = [max(len(side[part]) for side in segments) for part in range(3)]
    think_open, think_close = widths[0], widths[0] + 1 + widths[1]
    roles: dict[int, Role] = {}
    if config.probe_in != "answer":
        roles |= probe_roles(phrases, end=think_close)
    roles[think_close] = "think_close"
    if config.probe_in != "reasoning":
        roles |= probe_roles(phrases, end=len(clean.ids) - len(ending))
    n_ending = min(config.ending_tokens, len(ending))
    roles |= dict.fromkeys(range(len(clean.ids) - n_ending, len(clean.ids)), "answer_end")
    positions = tuple(
        PatchPosition(
            index, role, decode(text, clean.ids[index : index + 1]), decode(text, corrupted.ids[index : index + 1])
        )
        for index, role in sorted(roles.items())
    )
    return AlignedPair(pair_id, probe, clean, corrupted, positions, answers[0], answers[1], think_open, think_close)


def answer_token(text: LoadedTokenizer, ending: str, answer: str) -> int:
    """The one token of `answer` as it stands after the ending. Raises NotAlignable when it is not one token."""
    before, after = plain_ids(text, ending), plain_ids(text, ending + answer)
    if len(after) != len(before) + 1 or after[:-1] != before:
        raise NotAlignable(f"the answer {answer!r} is not one token after {ending[-7:]!r}")
    return after[-1]


def trimmed_side(text: LoadedTokenizer, name: str, side: PairSide, config: AlignmentConfig) -> TrimmedResponse:
    """The trimmed response; a reason against it says which side it is."""
    try:
        return trim(text, side.prompt_ids, side.response_ids, config.keep_reasoning)
    except NotAlignable as reason:
        raise NotAlignable(f"the {name} response {reason}") from None


def segments_of(response: TrimmedResponse, phrase: list[int], ending: list[int], probe_in: str) -> list[list[int]]:
    """Query, reasoning and answer with probe and ending in place."""
    in_reasoning = phrase if probe_in != "answer" else []
    in_answer = phrase if probe_in != "reasoning" else []
    return [response.query, response.reasoning + in_reasoning, response.answer + in_answer + ending]


def pad_sequence(text: LoadedTokenizer, segments: list[list[list[int]]], side: int, masked: bool) -> PaddedSequence:
    """One side with its segments left-padded to the longer of both sides, and the tags between them."""
    ids: list[int] = []
    pad: list[bool] = []
    for part, tag in enumerate((text.ids.think_open, text.ids.think_close, None)):
        own = segments[side][part]
        missing = max(len(segments[0][part]), len(segments[1][part])) - len(own)
        tail = own if tag is None else [*own, tag]
        ids += [text.ids.pad] * missing + tail
        pad += [True] * missing + [False] * len(tail)
    return PaddedSequence(tuple(ids), tuple(pad), masked)


def probe_roles(phrases: list[list[int]], end: int) -> dict[int, Role]:
    """Roles of the probe's tokens where it ends before `end`."""
    start = end - len(phrases[0])
    pairs = zip(*phrases, strict=True)
    return {
        start + offset: "flip" if clean != corrupted else "probe" for offset, (clean, corrupted) in enumerate(pairs)
    }
