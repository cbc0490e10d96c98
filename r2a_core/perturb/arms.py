r"""What a trace is changed into: cuts, wrong values, strange reasoning and answers named too early, by token ids.

TokenTrace, texts of its tokens -> Reading; Reading, params `perturb` -> Arms, each the token ids before `</think>`. A
text is never tokenised as a whole again: what stays keeps its ids, and what comes in is tokenised by itself. A value is
replaced only where its tokens are what the tokenizer makes of their text alone. Needs no torch.

The answer is forced by the tokens

    arm </think> [white space as the trace's own answer starts] "The answer is" [ \boxed{] [pig] [}]

of which the last two groups are those of the trace's own last box: `opening` and `result`.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import accumulate
from typing import Any

from r2a_core.attention.map_selection import tokens_of
from r2a_core.config import PerturbFamily, PerturbParams
from r2a_core.perturb.grid import cut_counts, random_of
from r2a_core.tokenizer import LoadedTokenizer, plain_ids, sentence_ranges, token_pieces
from r2a_core.trace import TokenTrace, last_boxed_answer

NUMBER = re.compile(r"(?<![\w.\\])-?\d+(?:\.\d+)?(?!\w)")

DELTAS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)

# Other words for the same, both ways to read: the paraphrase of a trace that the models here or R1 would write.
WORDINGS = {
    "okay": "all right",
    "alright": "very well",
    "let me": "I will",
    "wait": "hold on",
    "hmm": "well",
    "so": "thus",
    "hence": "as a result",
    "therefore": "as a result",
    "thus": "so",
    "since": "because",
    "then": "next",
    "first": "to begin",
    "finally": "at last",
    "now": "at this point",
    "also": "as well",
    "but": "yet",
    "because": "since",
    "which means": "that is",
    "gives": "yields",
    "good": "fine",
    "yes": "right",
    "on the other hand": "in contrast",
    "in other words": "put differently",
    "i have to": "I must",
}

STATEMENTS = {  # by place: in the question, as the first words of the reasoning, as its last
    "question": "The answer is {}. ",
    "first": "I already know the answer is {}.\n",
    "last": "\nFinal answer is {}.",
}


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
class Arm:
    """One changed trace: all its tokens before `</think>`, and what to compare it with."""

    family: PerturbFamily
    part: str  # number, option: before, after, across; preempt: question, first, last; mistake: made, none; else empty
    level: float  # cut, mistake: share of the sentences that stay; number, option: of the values that are wrong; else 1
    ids: tuple[int, ...]
    kept: int  # sentences of the trace that the arm has, or has changed
    changed: int = 0  # values or phrases that were replaced
    planted: str | None = None  # the answer that the arm names instead
    open_ids: tuple[int, ...] | None = None  # where free continuation starts within the reasoning, its start


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
    opening = tokens_of(pieces, answer, range(box.start, box.start + 1)).start
    if opening > answer.start and not pieces[opening][:1].isspace() and not pieces[opening - 1].strip():
        opening -= 1
    spaces = trimmed(pieces, answer).start
    ids = trace.token_ids
    words = plain_ids(tokenizer, stem if pieces[opening][:1].isspace() else f"{stem} ")
    forced = (*ids[segments.think_close : spaces], *words, *ids[max(opening, spaces) : content.start])
    sentences = sentence_ranges(pieces, segments.reasoning)
    return Reading(trace, pieces, sentences, body, forced, ids[content.start : content.stop], box.content)


def trimmed(pieces: Sequence[str], tokens: range) -> range:
    """Leave out the tokens of nothing but white space on either side."""
    filled = [token for token in tokens if pieces[token].strip()]
    return range(filled[0], filled[-1] + 1) if filled else range(tokens.start, tokens.start)


def donor_of(reading: Reading, others: Sequence[Reading]) -> Donor | None:
    """Choose the other item whose reasoning is nearest in length, among those with another answer where there are."""
    apart = [each for each in others if each.trace.item_id != reading.trace.item_id]
    chosen = [each for each in apart if each.answer != reading.answer] or apart
    if not chosen:
        return None
    nearest = min(chosen, key=lambda each: (abs(len(each.body) - len(reading.body)), each.trace.item_id))
    return Donor(nearest.trace.item_id, nearest.ids(nearest.body), nearest.answer)


def cut_arms(reading: Reading) -> list[Arm]:
    """Cut a trace after each sentence; the last arm is the trace as it is."""
    total = len(reading.sentences)
    return [
        Arm("cut", "", kept / total, reading.with_body(reading.ids(reading.first_sentences(kept))), kept)
        for kept in cut_counts(total)
    ]


def changed_arms(
    tokenizer: LoadedTokenizer,
    reading: Reading,
    boundary: int,
    donor: Donor | None,
    options: Sequence[str],
    params: PerturbParams,
) -> Iterator[Arm]:
    """Yield the arms of all families but cuts, in their order; what a trace has no place for is left out.

    boundary: sentences up to the commitment boundary. options: the answers that the question lets one choose from.
    """
    item, total = reading.trace.item_id, len(reading.sentences)
    encode = partial(plain_ids, tokenizer)
    body = reading.ids(reading.body)
    generator = partial(random_of, params.seed, item)
    for family in params.families:
        if family in ("number", "option"):
            edits = wrong_values(encode, reading, family, options, generator(family))
            yield from value_arms(reading, family, edits, boundary, params.levels, generator(f"{family} order"))
        elif family == "paraphrase":
            edits = replacements(encode, reading, words_pattern(WORDINGS, re.IGNORECASE), reworded, generator(family))
            if edits:
                yield Arm(family, "", 1, reading.with_body(edited(reading, reading.body, edits)), total, len(edits))
        elif family == "other" and donor is not None:
            yield Arm(family, "", 1, reading.with_body(donor.body), 0, planted=donor.answer)
        elif family == "filler":
            unit = encode(params.filler)
            yield Arm(family, "", 1, reading.with_body((unit * len(body))[: len(body)]), 0)
        elif family == "preempt" and (named := another_answer(reading.answer, options, donor, generator(family))):
            yield from preemptive_arms(reading, named, encode)


@dataclass(frozen=True)
class Edit:
    """Tokens of a trace and the ids that replace them."""

    tokens: range
    ids: tuple[int, ...]


def words_pattern(words: Any, flags: int = 0) -> re.Pattern[str]:
    """Match any of the words, whole, the longest first; nothing where there are none."""
    listed = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{listed})(?!\w)" if listed else r"(?!)", flags)


def replacements(
    encode: Callable[[str], list[int]],
    reading: Reading,
    pattern: re.Pattern[str],
    change: Callable[[str, random.Random], str | None],
    generator: random.Random,
) -> list[Edit]:
    """Replace each match in the reasoning by what `change` makes of it, in order.

    A match whose tokens are not what the tokenizer makes of their text alone stays, as does one that shares a token
    with the one before it.
    """
    tokens, pieces = reading.body, reading.pieces
    ends = list(accumulate(len(pieces[token]) for token in tokens))
    found: list[Edit] = []
    for match in pattern.finditer("".join(pieces[tokens.start : tokens.stop])):
        new = change(match[0], generator)
        first = bisect_right(ends, match.start())
        last = bisect_right(ends, match.end() - 1)
        place = range(tokens.start + first, tokens.start + last + 1)
        own, start = "".join(pieces[place.start : place.stop]), ends[first] - len(pieces[place.start])
        inside = slice(match.start() - start, match.end() - start)
        overlaps = bool(found) and place.start < found[-1].tokens.stop
        if new is None or overlaps or tuple(encode(own)) != reading.ids(place):
            continue
        found.append(Edit(place, tuple(encode(own[: inside.start] + new + own[inside.stop :]))))
    return found


def edited(reading: Reading, tokens: range, edits: Sequence[Edit]) -> tuple[int, ...]:
    """The ids of a range with the edits within it made."""
    ids: list[int] = []
    at = tokens.start
    for edit in edits:
        if tokens.start <= edit.tokens.start and edit.tokens.stop <= tokens.stop:
            ids += [*reading.ids(range(at, edit.tokens.start)), *edit.ids]
            at = edit.tokens.stop
    return (*ids, *reading.ids(range(at, tokens.stop)))


def wrong_values(
    encode: Callable[[str], list[int]],
    reading: Reading,
    family: PerturbFamily,
    options: Sequence[str],
    generator: random.Random,
) -> list[Edit]:
    """Replace each number of the reasoning, or each of the question's options that it names, by another."""
    if family == "number":
        return replacements(encode, reading, NUMBER, other_number, generator)
    return replacements(encode, reading, words_pattern(options), partial(other_option, options), generator)


def other_number(text: str, generator: random.Random) -> str:
    """Add one of DELTAS; decimals keep their places."""
    return str(Decimal(text) + generator.choice(DELTAS))


def other_option(options: Sequence[str], text: str, generator: random.Random) -> str | None:
    """Choose another of the options."""
    rest = [option for option in options if option != text]
    return generator.choice(rest) if rest else None


def reworded(text: str, generator: random.Random) -> str:
    """The other wording, with a capital where the text has one."""
    new = WORDINGS[text.lower()]
    return new[0].upper() + new[1:] if text[0].isupper() else new


def value_arms(
    reading: Reading,
    family: PerturbFamily,
    edits: Sequence[Edit],
    boundary: int,
    levels: Sequence[float],
    generator: random.Random,
) -> Iterator[Arm]:
    """Yield wrong values across the trace, after the boundary alone, and before it with an exit at the boundary.

    More of them hold those of fewer, in each part.
    """
    total, early = len(reading.sentences), reading.first_sentences(boundary)
    parts = {
        "across": (edits, reading.body, total),
        "after": ([edit for edit in edits if edit.tokens.start >= early.stop], reading.body, total),
        "before": ([edit for edit in edits if edit.tokens.stop <= early.stop], early, boundary),
    }
    for part, (own, tokens, kept) in parts.items():
        order = generator.sample(own, len(own))
        for level in levels if own else ():
            chosen = sorted(order[: max(1, round(level * len(own)))], key=lambda edit: edit.tokens.start)
            yield Arm(family, part, level, reading.with_body(edited(reading, tokens, chosen)), kept, len(chosen))


def another_answer(answer: str, options: Sequence[str], donor: Donor | None, generator: random.Random) -> str | None:
    """A plausible answer that the trace did not give: another option of the question, or another item's answer."""
    rest = [option for option in options if option != answer] or ([donor.answer] if donor else [])
    named = generator.choice(rest) if rest else None
    return None if named == answer else named


def preemptive_arms(reading: Reading, named: str, encode: Callable[[str], list[int]]) -> Iterator[Arm]:
    """Yield the three places where an answer stands too early; the reasoning stays as it is.

    Free continuation writes the reasoning anew where the answer stands before it.
    """
    said = {place: encode(text.format(named)) for place, text in STATEMENTS.items()}
    body, total, opened = reading.ids(reading.body), len(reading.sentences), reading.trace.segments.think_open
    whole, empty = reading.with_body(body), reading.with_body((), closed=False)
    arms = {
        "question": (
            (*whole[:opened], *said["question"], *whole[opened:]),
            (*empty[:opened], *said["question"], *empty[opened:]),
        ),
        "first": (reading.with_body((*said["first"], *body)), (*empty, *said["first"])),
        "last": (reading.with_body((*body, *said["last"])), None),
    }
    for place, (ids, open_ids) in arms.items():
        yield Arm("preempt", place, 1, ids, total, planted=named, open_ids=open_ids)
