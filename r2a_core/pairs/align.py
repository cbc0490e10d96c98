r"""One response cut down to what alignment keeps of it (paper section 5), on token ids.

Input: prompt and response ids of a finished response with reasoning. Output: TrimmedResponse, the ids of its query, its
reasoning and the part of its answer before the last paragraph; or the reason why it cannot be cut.

Cuts are found in the decoded text and made between tokens; only a token that straddles a cut is tokenised anew.

A clean and a corrupted response cut and padded to one shape, token by token (paper section 5).

Input: the two responses of a pair, as token ids. Output: an AlignedPair, two sequences of equal length

    [pad] query <think> [pad] reasoning probe </think> [pad] answer "Thus, the ... one is \\boxed{"

with the positions to patch; or an UnalignedPair with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from r2a_core.config import AlignmentConfig, ProbeStyle, Role
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import has_boxed, last_boxed_answer

BREAK = "\n\n"


class PairRejected(Exception):  # noqa: N818 - not an error: the reason why a pair is left out
    """Why a pair cannot be aligned, as a sentence; caught where pairs are aligned and kept in their record."""


@dataclass(frozen=True)
class TrimmedResponse:
    """Token ids of the three segments, without the tags between them and without EOS."""

    query: list[int]  # from the first token to before `<think>`
    reasoning: list[int]
    answer: list[int]  # ends where the common ending is to follow


def trim(
    tokenizer: LoadedTokenizer, prompt: Sequence[int], response: Sequence[int], keep_reasoning: bool
) -> TrimmedResponse:
    """Cuts the answer before the paragraph of its final boxed answer, and a last reasoning paragraph that is boxed.

    keep_reasoning False leaves only the line break after `<think>`. Raises NotAlignable when the tags are not exactly
    one `<think>` and then one `</think>`, or the answer holds no boxed answer.
    """
    ids = [*prompt, *response]
    opens = [index for index, token in enumerate(ids) if token == tokenizer.ids.think_open]
    closes = [index for index, token in enumerate(ids) if token == tokenizer.ids.think_close]
    if len(opens) != 1 or len(closes) != 1 or closes < opens:
        raise PairRejected(f"has {len(opens)} <think> and {len(closes)} </think>, not one of each in this order")
    end = len(ids) - (ids[-1] == tokenizer.ids.eos)
    reasoning, answer = ids[opens[0] + 1 : closes[0]], ids[closes[0] + 1 : end]
    return TrimmedResponse(
        query=ids[: opens[0]],
        reasoning=trim_reasoning(tokenizer, reasoning) if keep_reasoning else leading_breaks(tokenizer, reasoning),
        answer=trim_answer(tokenizer, answer),
    )


def trim_answer(tokenizer: LoadedTokenizer, answer: list[int]) -> list[int]:
    """The answer up to the paragraph of its final boxed answer. Raises NotAlignable when there is none."""
    content = decode(tokenizer, answer)
    box = last_boxed_answer(content)
    if box is None:
        raise PairRejected("holds no \\boxed{} in its answer")
    return cut(tokenizer, answer, last_paragraph(content[: box.start]))


def trim_reasoning(tokenizer: LoadedTokenizer, reasoning: list[int]) -> list[int]:
    """The reasoning without its last paragraph if that holds a boxed answer."""
    content = decode(tokenizer, reasoning)
    body = content.rstrip()
    start = last_paragraph(body)
    return cut(tokenizer, reasoning, start) if has_boxed(body[start:]) else reasoning


def leading_breaks(tokenizer: LoadedTokenizer, reasoning: list[int]) -> list[int]:
    """The line breaks that the reasoning starts with."""
    content = decode(tokenizer, reasoning)
    return cut(tokenizer, reasoning, len(content) - len(content.lstrip("\n")))


def last_paragraph(content: str) -> int:
    """Where the last paragraph starts: after the last blank line, or, without one, after the leading line breaks."""
    at = content.rfind(BREAK)
    return at + len(BREAK) if at >= 0 else len(content) - len(content.lstrip("\n"))


def cut(tokenizer: LoadedTokenizer, ids: list[int], end: int) -> list[int]:
    """The tokens of the first `end` characters of the decoded ids; a token that goes beyond is tokenised anew."""
    content = decode(tokenizer, ids)
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(decode(tokenizer, ids[:middle])) <= end else (low, middle - 1)
    kept = decode(tokenizer, ids[:low])
    if not content.startswith(kept):
        raise PairRejected("does not decode token by token to its own text")
    return ids[:low] + plain_ids(tokenizer, content[len(kept) : end])


def decode(tokenizer: LoadedTokenizer, ids: Sequence[int]) -> str:
    """The text of `ids`, tags included, spaces as they are."""
    return tokenizer.hf.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


PROBES: dict[ProbeStyle, str] = {"plain": "Final answer is {}.\n", "boxed": "Final answer is \\boxed{{{}}}.\n"}

ENDING = "Thus, the {} one is \\boxed{{"


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
    tokenizer: LoadedTokenizer,
    pair_id: str,
    comparator: str,
    clean: PairSide,
    corrupted: PairSide,
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> AlignedPair | UnalignedPair:
    """The pair with one probing phrase, aligned."""
    try:
        return align_sides(tokenizer, pair_id, ENDING.format(comparator), (clean, corrupted), probe, config)
    except PairRejected as reason:
        return UnalignedPair(pair_id, probe, str(reason))


def align_sides(
    tokenizer: LoadedTokenizer,
    pair_id: str,
    ending_text: str,
    sides: tuple[PairSide, PairSide],
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> AlignedPair:
    """`align` of (clean, corrupted) with the ending spelled out. Raises NotAlignable with the reason."""
    ending = plain_ids(tokenizer, ending_text)
    answers = [answer_token(tokenizer, ending_text, side.answer) for side in sides]
    phrases = [plain_ids(tokenizer, PROBES[probe].format(side.answer)) for side in sides]
    if len(phrases[0]) != len(phrases[1]) or phrases[0] == phrases[1]:
        raise PairRejected(f"the probing phrases have {len(phrases[0])} and {len(phrases[1])} tokens, or do not differ")
    trimmed = [
        trimmed_side(tokenizer, name, side, config) for name, side in zip(("clean", "corrupted"), sides, strict=True)
    ]
    segments = [
        segments_of(response, phrase, ending, config.probe_in)
        for response, phrase in zip(trimmed, phrases, strict=True)
    ]
    clean, corrupted = (pad_sequence(tokenizer, segments, side, config.padding == "masked") for side in (0, 1))
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
            index,
            role,
            decode(tokenizer, clean.ids[index : index + 1]),
            decode(tokenizer, corrupted.ids[index : index + 1]),
        )
        for index, role in sorted(roles.items())
    )
    return AlignedPair(pair_id, probe, clean, corrupted, positions, answers[0], answers[1], think_open, think_close)


def answer_token(tokenizer: LoadedTokenizer, ending: str, answer: str) -> int:
    """The one token of `answer` as it stands after the ending. Raises NotAlignable when it is not one token."""
    before, after = plain_ids(tokenizer, ending), plain_ids(tokenizer, ending + answer)
    if len(after) != len(before) + 1 or after[:-1] != before:
        raise PairRejected(f"the answer {answer!r} is not one token after {ending[-7:]!r}")
    return after[-1]


def trimmed_side(tokenizer: LoadedTokenizer, name: str, side: PairSide, config: AlignmentConfig) -> TrimmedResponse:
    """The trimmed response; a reason against it says which side it is."""
    try:
        return trim(tokenizer, side.prompt_ids, side.response_ids, config.keep_reasoning)
    except PairRejected as reason:
        raise PairRejected(f"the {name} response {reason}") from None


def segments_of(response: TrimmedResponse, phrase: list[int], ending: list[int], probe_in: str) -> list[list[int]]:
    """Query, reasoning and answer with probe and ending in place."""
    in_reasoning = phrase if probe_in != "answer" else []
    in_answer = phrase if probe_in != "reasoning" else []
    return [response.query, response.reasoning + in_reasoning, response.answer + in_answer + ending]


def pad_sequence(
    tokenizer: LoadedTokenizer, segments: list[list[list[int]]], side: int, masked: bool
) -> PaddedSequence:
    """One side with its segments left-padded to the longer of both sides, and the tags between them."""
    ids: list[int] = []
    pad: list[bool] = []
    for part, tag in enumerate((tokenizer.ids.think_open, tokenizer.ids.think_close, None)):
        own = segments[side][part]
        missing = max(len(segments[0][part]), len(segments[1][part])) - len(own)
        tail = own if tag is None else [*own, tag]
        ids += [tokenizer.ids.pad] * missing + tail
        pad += [True] * missing + [False] * len(tail)
    return PaddedSequence(tuple(ids), tuple(pad), masked)


def probe_roles(phrases: list[list[int]], end: int) -> dict[int, Role]:
    """Roles of the probe's tokens where it ends before `end`."""
    start = end - len(phrases[0])
    pairs = zip(*phrases, strict=True)
    return {
        start + offset: "flip" if clean != corrupted else "probe" for offset, (clean, corrupted) in enumerate(pairs)
    }
