"""One response cut down to what alignment keeps of it (paper section 5), on token ids.

Input: prompt and response ids of a finished response with reasoning. Output: TrimmedResponse, the ids of its query, its
reasoning and the part of its answer before the last paragraph; or the reason why it cannot be cut.

Cuts are found in the decoded text and made between tokens; only a token that straddles a cut is tokenised anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from r2a_core.models.loading import LoadedTokenizer
from r2a_core.traces.prompts import plain_ids

BOXED = "\\boxed"
BREAK = "\n\n"


class NotAlignable(Exception):  # noqa: N818 - not an error: the reason why a pair is left out
    """Why a pair cannot be aligned, as a sentence; caught where pairs are aligned and kept in their record."""


@dataclass(frozen=True)
class TrimmedResponse:
    """Token ids of the three segments, without the tags between them and without EOS."""

    query: list[int]  # from the first token to before `<think>`
    reasoning: list[int]
    answer: list[int]  # ends where the common ending is to follow


def trim(
    text: LoadedTokenizer, prompt: Sequence[int], response: Sequence[int], keep_reasoning: bool
) -> TrimmedResponse:
    """Cuts the answer before the paragraph of its final boxed answer, and a last reasoning paragraph that is boxed.

    keep_reasoning False leaves only the line break after `<think>`. Raises NotAlignable when the tags are not exactly
    one `<think>` and then one `</think>`, or the answer holds no boxed answer.
    """
    ids = [*prompt, *response]
    opens = [index for index, token in enumerate(ids) if token == text.ids.think_open]
    closes = [index for index, token in enumerate(ids) if token == text.ids.think_close]
    if len(opens) != 1 or len(closes) != 1 or closes < opens:
        raise NotAlignable(f"has {len(opens)} <think> and {len(closes)} </think>, not one of each in this order")
    end = len(ids) - (ids[-1] == text.ids.eos)
    reasoning, answer = ids[opens[0] + 1 : closes[0]], ids[closes[0] + 1 : end]
    return TrimmedResponse(
        query=ids[: opens[0]],
        reasoning=trim_reasoning(text, reasoning) if keep_reasoning else leading_breaks(text, reasoning),
        answer=trim_answer(text, answer),
    )


def trim_answer(text: LoadedTokenizer, answer: list[int]) -> list[int]:
    """The answer up to the paragraph of its final boxed answer. Raises NotAlignable when there is none."""
    content = decode(text, answer)
    boxed = content.rfind(BOXED + "{")
    if boxed < 0:
        raise NotAlignable("holds no \\boxed{} in its answer")
    return cut(text, answer, last_paragraph(content[:boxed]))


def trim_reasoning(text: LoadedTokenizer, reasoning: list[int]) -> list[int]:
    """The reasoning without its last paragraph if that holds a boxed answer."""
    content = decode(text, reasoning)
    body = content.rstrip()
    start = last_paragraph(body)
    return cut(text, reasoning, start) if BOXED in body[start:] else reasoning


def leading_breaks(text: LoadedTokenizer, reasoning: list[int]) -> list[int]:
    """The line breaks that the reasoning starts with."""
    content = decode(text, reasoning)
    return cut(text, reasoning, len(content) - len(content.lstrip("\n")))


def last_paragraph(content: str) -> int:
    """Where the last paragraph starts: after the last blank line, or, without one, after the leading line breaks."""
    at = content.rfind(BREAK)
    return at + len(BREAK) if at >= 0 else len(content) - len(content.lstrip("\n"))


def cut(text: LoadedTokenizer, ids: list[int], end: int) -> list[int]:
    """The tokens of the first `end` characters of the decoded ids; a token that goes beyond is tokenised anew."""
    content = decode(text, ids)
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(decode(text, ids[:middle])) <= end else (low, middle - 1)
    kept = decode(text, ids[:low])
    if not content.startswith(kept):
        raise NotAlignable("does not decode token by token to its own text")
    return ids[:low] + plain_ids(text, content[len(kept) : end])


def decode(text: LoadedTokenizer, ids: Sequence[int]) -> str:
    """The text of `ids`, tags included, spaces as they are."""
    return text.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
