r"""Cuts and pads a clean and a corrupted response to one shape, token by token (paper section 5).

The token ids of the two responses of a pair -> AlignedPair, two sequences of equal length

    [pad] query <think> [pad] reasoning probe </think> [pad] answer "Thus, the ... one is \boxed{"

with the positions to patch; a pair that has no such form raises PairRejected with the reason.

Of a response stay its query, its reasoning without a boxed last paragraph, and its answer up to the paragraph of the
last boxed answer. Cuts are found in the decoded text and made between tokens; only a token that straddles a cut is
tokenised anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from r2a_core.config import AlignmentConfig, ProbeStyle, Role
from r2a_core.data.items import QuestionPair
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import last_boxed_answer, opens_box

BREAK = "\n\n"

PROBES: dict[ProbeStyle, str] = {"plain": "Final answer is {}.\n", "boxed": "Final answer is \\boxed{{{}}}.\n"}

ENDING = "Thus, the {} one is \\boxed{{"


class PairRejected(Exception):  # noqa: N818 - not an error: the reason why a pair is left out
    """Why a pair cannot be used, as a sentence; caught where pairs are filtered and kept in their record."""


@dataclass(frozen=True)
class Response:
    """Token ids of a model's prompt and finished response to one question of a pair."""

    prompt_ids: Sequence[int]
    response_ids: Sequence[int]


@dataclass(frozen=True)
class TrimmedResponse:
    """Token ids of the three segments, without the tags between them and without EOS."""

    query: list[int]  # from the first token to before `<think>`
    reasoning: list[int]
    answer: list[int]  # ends where the common ending is to follow


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


def align(
    tokenizer: LoadedTokenizer,
    pair: QuestionPair,
    responses: tuple[Response, Response],
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> AlignedPair:
    """Aligns the clean and the corrupted response of a pair. Raises PairRejected with the reason why it cannot."""
    ending_text = ENDING.format(pair.comparator)
    ending = plain_ids(tokenizer, ending_text)
    golds = (pair.clean_answer, pair.corrupted_answer)
    first, second = (answer_token(tokenizer, ending_text, gold) for gold in golds)
    phrases = [plain_ids(tokenizer, PROBES[probe].format(gold)) for gold in golds]
    if len(phrases[0]) != len(phrases[1]) or phrases[0] == phrases[1]:
        raise PairRejected(f"the probing phrases have {len(phrases[0])} and {len(phrases[1])} tokens, or do not differ")
    segments = []
    for side, response, phrase in zip(("clean", "corrupted"), responses, phrases, strict=True):
        try:
            trimmed = trim(tokenizer, response, config.keep_reasoning)
        except PairRejected as reason:
            raise PairRejected(f"the {side} response {reason}") from None
        in_reasoning = [] if config.probe_in == "answer" else phrase
        in_answer = [] if config.probe_in == "reasoning" else phrase
        segments.append([trimmed.query, trimmed.reasoning + in_reasoning, trimmed.answer + in_answer + ending])
    clean, corrupted = (pad_sequence(tokenizer, segments, side, config.padding == "masked") for side in (0, 1))
    widths = [max(len(side[part]) for side in segments) for part in range(3)]
    think_open, think_close, end = widths[0], widths[0] + 1 + widths[1], len(clean.ids)
    roles: dict[int, Role] = {}
    if config.probe_in != "answer":
        roles |= probe_roles(phrases, end=think_close)
    roles[think_close] = "think_close"
    if config.probe_in != "reasoning":
        roles |= probe_roles(phrases, end=end - len(ending))
    roles |= dict.fromkeys(range(end - min(config.ending_tokens, len(ending)), end), "answer_end")
    positions = tuple(
        PatchPosition(index, role, *(decode(tokenizer, side.ids[index : index + 1]) for side in (clean, corrupted)))
        for index, role in sorted(roles.items())
    )
    return AlignedPair(pair.pair_id, probe, clean, corrupted, positions, first, second, think_open, think_close)


def answer_token(tokenizer: LoadedTokenizer, ending: str, answer: str) -> int:
    """Returns the one token of `answer` as it stands after the ending. Raises PairRejected when there are several."""
    before, after = plain_ids(tokenizer, ending), plain_ids(tokenizer, ending + answer)
    if len(after) != len(before) + 1 or after[:-1] != before:
        raise PairRejected(f"the answer {answer!r} is not one token after {ending[-7:]!r}")
    return after[-1]


def trim(tokenizer: LoadedTokenizer, response: Response, keep_reasoning: bool) -> TrimmedResponse:
    """Cuts the answer before the paragraph of its last boxed answer, and a last reasoning paragraph that is boxed.

    keep_reasoning False leaves only the line break after `<think>`. Raises PairRejected when the tags are not exactly
    one `<think>` and then one `</think>`, or the answer holds no boxed answer.
    """
    ids, tags = [*response.prompt_ids, *response.response_ids], tokenizer.ids
    opens = [index for index, token in enumerate(ids) if token == tags.think_open]
    closes = [index for index, token in enumerate(ids) if token == tags.think_close]
    if len(opens) != 1 or len(closes) != 1 or closes < opens:
        raise PairRejected(f"has {len(opens)} <think> and {len(closes)} </think>, not one of each in this order")
    end = len(ids) - (ids[-1] in tags.ends)
    reasoning, answer = ids[opens[0] + 1 : closes[0]], ids[closes[0] + 1 : end]
    return TrimmedResponse(
        query=ids[: opens[0]],
        reasoning=(trim_reasoning if keep_reasoning else leading_breaks)(tokenizer, reasoning),
        answer=trim_answer(tokenizer, answer),
    )


def trim_answer(tokenizer: LoadedTokenizer, answer: list[int]) -> list[int]:
    """Keeps the answer up to the paragraph of its last boxed answer. Raises PairRejected when there is none."""
    content = decode(tokenizer, answer)
    box = last_boxed_answer(content)
    if box is None:
        raise PairRejected("holds no \\boxed{} in its answer")
    return cut(tokenizer, answer, last_paragraph(content[: box.start]))


def trim_reasoning(tokenizer: LoadedTokenizer, reasoning: list[int]) -> list[int]:
    """Drops the last paragraph of the reasoning if it opens a box, closed or not."""
    body = decode(tokenizer, reasoning).rstrip()
    start = last_paragraph(body)
    return cut(tokenizer, reasoning, start) if opens_box(body[start:]) else reasoning


def leading_breaks(tokenizer: LoadedTokenizer, reasoning: list[int]) -> list[int]:
    """Keeps only the line breaks that the reasoning starts with."""
    content = decode(tokenizer, reasoning)
    return cut(tokenizer, reasoning, len(content) - len(content.lstrip("\n")))


def last_paragraph(content: str) -> int:
    """Finds where the last paragraph starts: after the last blank line, or else after the leading line breaks."""
    at = content.rfind(BREAK)
    return at + len(BREAK) if at >= 0 else len(content) - len(content.lstrip("\n"))


def cut(tokenizer: LoadedTokenizer, ids: list[int], end: int) -> list[int]:
    """Keeps the tokens of the first `end` characters of the decoded ids, tokenising anew one that goes beyond."""
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
    """Returns the text of `ids`, tags included, spaces as they are."""
    return tokenizer.hf.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def pad_sequence(
    tokenizer: LoadedTokenizer, segments: list[list[list[int]]], side: int, masked: bool
) -> PaddedSequence:
    """Joins one side, each segment left-padded to the longer of both sides, with the tags between them."""
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
    """Gives each token of the probe that ends before `end` its role, by index."""
    start = end - len(phrases[0])
    pairs = zip(*phrases, strict=True)
    return {
        start + offset: "flip" if clean != corrupted else "probe" for offset, (clean, corrupted) in enumerate(pairs)
    }
