"""Tokens and their texts: a tokenizer with its tags, texts as ids, and what tokens spell.

token ids -> one text per token that together give the whole; token texts -> sentences, and reflection phrases ("wait",
"alternatively", ...) as token ranges (paper section 4, Figure 4). Text is tokenised as plain text, so that a question
can never produce a tag.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from r2a_core.config import Tags
from r2a_core.infra.errors import R2AError


@dataclass(frozen=True)
class TagIds:
    """Token ids of a model's tags; bos is None where prompts start without one.

    other_ends: the tokens besides eos that end a text, by the model's own generation config.
    """

    bos: int | None
    eos: int
    think_open: int
    think_close: int
    pad: int
    other_ends: tuple[int, ...] = ()

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a text, the tag eos first."""
        return (self.eos, *self.other_ends)


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer with its tags resolved."""

    hf: Any  # transformers PreTrainedTokenizerFast
    tags: Tags
    ids: TagIds

    @cached_property
    def end_texts(self) -> dict[str, int]:
        """Returns the tokens that end a text by what they spell."""
        return {self.tags.eos: self.ids.eos} | {str(self.hf.decode([token])): token for token in self.ids.other_ends}

    @cached_property
    def added(self) -> Set[str]:
        """Returns the added tokens of more than one letter."""
        return {str(token) for token in self.hf.get_added_vocab() if len(str(token)) > 1}


SENTENCE_END = re.compile(r"[.!?][\"'”’)\]*]*(?=\s)|\n+")

LINE_END = re.compile(r"\n+")

PENDING = 4  # tokens: a character has at most four bytes

UNFINISHED = "\ufffd"  # what a part of a character decodes to


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """Returns the text of each token; joined they are the decoded trace.

    A character split over several tokens belongs to the last of them.
    """

    def decode(start: int, stop: int) -> str:
        ids = list(token_ids[start:stop])
        return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    pieces: list[str] = []
    context, start = 0, 0  # the text of context..start is known; start.. is not finished
    for stop in range(1, len(token_ids) + 1):
        text = decode(context, stop)[len(decode(context, start)) :]
        if text.endswith(UNFINISHED) and stop - start < PENDING and stop < len(token_ids):
            pieces.append("")
            continue
        pieces.append(text)
        context, start = start, stop
    return pieces


def sentence_ranges(pieces: Sequence[str], tokens: range) -> list[range]:
    """Cuts `tokens` into sentences: after . ! ? before white space, and at line breaks. None is only white space.

    `pieces`: text of every token of the trace. A token that ends a sentence belongs to it as a whole.
    """
    return ranges_up_to(SENTENCE_END, pieces, tokens)


def line_ranges(pieces: Sequence[str], tokens: range) -> list[range]:
    """Cuts `tokens` into lines in the same way, or into sentences where they are one line."""
    lines = ranges_up_to(LINE_END, pieces, tokens)
    return lines if len(lines) > 1 else sentence_ranges(pieces, tokens)


def ranges_up_to(end: re.Pattern[str], pieces: Sequence[str], tokens: range) -> list[range]:
    """Cuts `tokens` behind every match of `end`. None is only white space, which belongs to what is before it."""
    text = "".join(pieces[tokens.start : tokens.stop])
    ends = [match.end() for match in end.finditer(text)]
    found: list[range] = []
    start, position = tokens.start, 0
    for token in tokens:
        before, position = position, position + len(pieces[token])
        if bisect_right(ends, position) == bisect_right(ends, before) and token + 1 < tokens.stop:
            continue
        if "".join(pieces[start : token + 1]).strip():
            found.append(range(start, token + 1))
        elif found:
            found[-1] = range(found[-1].start, token + 1)
        else:
            continue
        start = token + 1
    return found


def reflection_ranges(pieces: Sequence[str], tokens: range, phrases: Sequence[str]) -> list[range]:
    """Returns the token ranges within `tokens` that spell a phrase, as whole words in any case, in order.

    `pieces`: text of every token of the trace; a phrase may span several tokens.
    """
    ends = list(accumulate(len(pieces[token]) for token in tokens))  # in characters
    text = "".join(pieces[tokens.start : tokens.stop])
    found = []
    for match in words_pattern(phrases, re.IGNORECASE).finditer(text):
        first, last = bisect_right(ends, match.start()), bisect_left(ends, match.end())
        found.append(range(tokens.start + first, tokens.start + last + 1))
    return found


def words_pattern(words: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    """Match any of the words, whole, the longest first; nothing where there are none."""
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{listed})(?!\w)" if listed else r"(?!)", flags)


def plain_ids(tokenizer: LoadedTokenizer, content: str) -> list[int]:
    """Returns the token ids of `content` as ordinary text: what looks like a special or added token is spelled out.

    Raises R2AError for text that no tokenizer takes (lone surrogates).
    """
    ids: list[int] = []
    for piece in split_added_tokens(tokenizer.added, encodable(content)):
        ids += tokenizer.hf.encode(piece, add_special_tokens=False)
    return ids


def encodable(content: str) -> str:
    """Returns the text itself. Raises R2AError for text that no tokenizer takes (lone surrogates)."""
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise R2AError(f"a text has a lone surrogate at character {error.start}", "remove or replace it") from None
    return content


def split_added_tokens(names: Set[str], content: str) -> list[str]:
    """Cuts `content` inside every occurrence of an added token, so that none is recognised."""
    first, lengths = {name[0] for name in names}, sorted({len(name) for name in names})
    cuts = [
        place + 1
        for place, letter in enumerate(content)
        if letter in first and any(content[place : place + length] in names for length in lengths)
    ]
    return [content[start:stop] for start, stop in pairwise([0, *cuts, len(content)])]
