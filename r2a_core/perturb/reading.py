r"""A trace in the parts that its changes are made of, and the reasoning of another item that can take its place.

TokenTrace, texts of its tokens -> Reading; Readings -> Donor. Needs no torch.

The answer is forced by the tokens

    arm </think> [white space as the trace's own answer starts] "The answer is" [ \boxed{] [pig] [}]

of which the last two groups are those of the trace's own last box, with what opens the formula that it stands in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from r2a_core.attention.map_selection import tokens_of
from r2a_core.evaluation.values import agree
from r2a_core.tokenizer import LoadedTokenizer, plain_ids, sentence_ranges, token_pieces
from r2a_core.trace import TokenTrace, last_boxed_answer

OPENING = re.compile(r"(\s*)(?:(?:\\[(\[]|\$\$?)\s*)?(?:\\\w*\s*\{?\s*)?$")  # of a formula, and the box in it


@dataclass(frozen=True)
class Reading:
    """A trace in the parts that arms are made of. Ranges are token indices of the trace."""

    trace: TokenTrace
    pieces: list[str]
    sentences: list[range]
    body: range  # the reasoning without white space on either side
    stem: tuple[int, ...]  # from </think> to the open brace of the box
    result: tuple[int, ...]  # content of the box, up to the token that closes it
    answer: str  # the content

    @property
    def lead(self) -> tuple[int, ...]:
        """White space that the reasoning starts with."""
        return self.trace.token_ids[self.trace.segments.think_open + 1 : self.body.start]

    @property
    def close(self) -> tuple[int, ...]:
        """White space that the reasoning ends with."""
        return self.trace.token_ids[self.body.stop : self.trace.segments.think_close]

    def ids(self, tokens: range) -> tuple[int, ...]:
        """Token ids of a range of the trace."""
        return self.trace.token_ids[tokens.start : tokens.stop]

    def with_body(self, body: Sequence[int], closed: bool = True) -> tuple[int, ...]:
        """The trace up to `</think>` with this reasoning in the place of its own."""
        start = self.trace.token_ids[: self.trace.segments.think_open + 1]
        return (*start, *self.lead, *body, *(self.close if closed else ()))

    def first_sentences(self, count: int) -> range:
        """The tokens of the first sentences, without white space behind them."""
        if not count:
            return range(self.body.start, self.body.start)
        return trimmed(self.pieces, range(self.body.start, min(self.sentences[count - 1].stop, self.body.stop)))


@dataclass(frozen=True)
class Donor:
    """Reasoning of another item, without white space on either side, and the answer it came to."""

    item_id: str
    body: tuple[int, ...]
    answer: str


def read_trace(tokenizer: LoadedTokenizer, trace: TokenTrace, stem: str) -> Reading | None:
    """Cut a trace into its parts; None for one whose answer has no box, or whose reasoning is empty."""
    segments, pieces = trace.segments, token_pieces(tokenizer.hf, trace.token_ids)
    answer = segments.answer
    text = "".join(pieces[answer.start : answer.stop])
    box, body = last_boxed_answer(text), trimmed(pieces, segments.reasoning)
    if box is None or not body:
        return None
    content = tokens_of(pieces, answer, range(box.inside.start, text.index("}", box.inside.stop) + 1))
    spaces, ids = trimmed(pieces, answer).start, trace.token_ids
    own = range(spaces, content.start)
    forced = (*ids[segments.think_close : spaces], *words_to_box(tokenizer, pieces, ids, own, stem))
    sentences = sentence_ranges(pieces, segments.reasoning)
    return Reading(trace, pieces, sentences, body, forced, ids[content.start : content.stop], box.content)


def words_to_box(
    tokenizer: LoadedTokenizer, pieces: Sequence[str], ids: Sequence[int], own: range, stem: str
) -> tuple[int, ...]:
    """The stem and the trace's own tokens for the box and what opens its formula: the last of `own`.

    Where a token that they begin in has something else too, their text is tokenised anew.
    """
    text = "".join(pieces[own.start : own.stop])
    opening = OPENING.search(text)
    assert opening is not None  # at least of no characters, at the end
    starts = dict(zip(accumulate((len(pieces[token]) for token in own), initial=0), own, strict=False))
    for start in opening.span(1):
        if start in starts:
            words = plain_ids(tokenizer, stem if text[start].isspace() else f"{stem} ")
            return (*words, *ids[starts[start] : own.stop])
    return tuple(plain_ids(tokenizer, f"{stem} {text[opening.end(1) :]}"))


def trimmed(pieces: Sequence[str], tokens: range) -> range:
    """Leave out the tokens of nothing but white space on either side."""
    filled = [token for token in tokens if pieces[token].strip()]
    return range(filled[0], filled[-1] + 1) if filled else range(tokens.start, tokens.start)


def donor_of(reading: Reading, others: Sequence[Reading]) -> Donor | None:
    """Choose the item with another answer whose reasoning is nearest in length; None where no item has another."""
    apart = [each for each in others if each.trace.item_id != reading.trace.item_id]
    chosen = [each for each in apart if not agree(each.answer, reading.answer)]
    if not chosen:
        return None
    nearest = min(chosen, key=lambda each: (abs(len(each.body) - len(reading.body)), each.trace.item_id))
    return Donor(nearest.trace.item_id, nearest.ids(nearest.body), nearest.answer)
