"""The text of single tokens, and the sentences and reflection phrases they spell.

tokenizer, token ids -> one text a token that together give the whole; texts -> sentence and reflection token ranges.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from r2a_core.traces.reflection import reflection_ranges

SENTENCE_END = re.compile(r"[.!?][\"'”’)\]*]*(?=\s)|\n+")
PENDING = 4  # tokens: a character has at most four bytes
UNFINISHED = "\ufffd"  # what a part of a character decodes to


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """Text of each token; joined they are the decoded trace.

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
    """`tokens` cut into sentences: after . ! ? before white space, and at line breaks. None is only white space.

    `pieces`: text of every token of the trace. A token that ends a sentence belongs to it as a whole.
    """
    text = "".join(pieces[tokens.start : tokens.stop])
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    found: list[range] = []
    start, position = tokens.start, 0
    for token in tokens:
        before, position = position, position + len(pieces[token])
        if bisect_right(ends, position) == bisect_right(ends, before) and token + 1 < tokens.stop:
            continue
        if "".join(pieces[start : token + 1]).strip():
            found.append(range(start, token + 1))
        elif found:  # white space belongs to the sentence before it
            found[-1] = range(found[-1].start, token + 1)
        else:
            continue
        start = token + 1
    return found


def reflection_in(pieces: Sequence[str], tokens: range, phrases: Sequence[str]) -> list[range]:
    """Token ranges that spell a reflection phrase within `tokens`, in order."""
    found = reflection_ranges(pieces[tokens.start : tokens.stop], phrases)
    return [range(tokens.start + each.start, tokens.start + each.stop) for each in found]
