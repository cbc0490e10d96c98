"""What a trace is changed into: cuts, wrong values, strange reasoning and answers named too early, by token ids.

Reading, params `perturb` -> Arms, each the token ids before `</think>`. Needs no torch.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from r2a_core.config import PerturbFamily, PerturbParams
from r2a_core.evaluation.values import agree
from r2a_core.perturb.edits import Edit, edited, replacements, wrong_values
from r2a_core.perturb.grid import cut_counts, random_of
from r2a_core.perturb.paraphrase import PHRASES, reworded
from r2a_core.perturb.reading import Donor, Reading
from r2a_core.tokenizer import LoadedTokenizer, plain_ids

STATEMENTS = {  # by place: in the question, as the first words of the reasoning, as its last
    "question": "The answer is {}. ",
    "first": "I already know the answer is {}.\n",
    "last": "\nFinal answer is {}.",
}


Family = PerturbFamily | Literal["cut", "mistake"]


@dataclass(frozen=True)
class Arm:
    """One changed trace: all its tokens before `</think>`, and what to compare it with."""

    family: Family
    part: str  # number, option: before, after, across; preempt: question, first, last; mistake: made, none; else empty
    level: float  # cut, mistake: share of the sentences that stay; number, option: of the values that are wrong; else 1
    ids: tuple[int, ...]
    kept: int  # sentences of the trace that the arm has, or has changed
    edits: tuple[Edit, ...] = ()  # values or phrases that were replaced
    added: tuple[int, ...] = ()  # token ids of what was put in besides: an answer named, the rest written anew
    planted: str | None = None  # the answer that the arm names instead
    open_ids: tuple[int, ...] | None = None  # where free continuation starts within the reasoning, its start
    n_written: int | None = None  # tokens that were run to write the rest of it anew


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
            edits = replacements(encode, reading, PHRASES, reworded, generator(family))
            if edits:
                yield Arm(family, "", 1, reading.with_body(edited(reading, reading.body, edits)), total, tuple(edits))
        elif family == "other" and donor is not None:
            yield Arm(family, "", 1, reading.with_body(donor.body), 0, planted=donor.answer)
        elif family == "filler":
            unit = encode(params.filler)
            yield Arm(family, "", 1, reading.with_body((unit * len(body))[: len(body)]), 0)
        elif family == "preempt" and (named := another_answer(reading.answer, options, donor, generator(family))):
            yield from preemptive_arms(reading, named, encode)


def value_arms(
    reading: Reading,
    family: PerturbFamily,
    edits: Sequence[Edit],
    boundary: int,
    levels: Sequence[float],
    generator: random.Random,
) -> Iterator[Arm]:
    """Yield wrong values across the trace, after the boundary alone, and before it with an exit at the boundary.

    More of them hold those of fewer. Of levels that are as many values of a part the highest stands for all, and one
    that is half a value or less for none.
    """
    total, early = len(reading.sentences), reading.first_sentences(boundary)
    order = generator.sample(edits, len(edits))
    parts = {
        "across": (order, reading.body, total),
        "after": ([edit for edit in order if edit.tokens.start >= early.stop], reading.body, total),
        "before": ([edit for edit in order if edit.tokens.stop <= early.stop], early, boundary),
    }
    for part, (own, tokens, kept) in parts.items():
        counts = {round(level * len(own)): level for level in sorted(levels)}
        for count, level in counts.items():
            if count:
                chosen = tuple(sorted(own[:count], key=lambda edit: edit.tokens.start))
                yield Arm(family, part, level, reading.with_body(edited(reading, tokens, chosen)), kept, chosen)


def another_answer(answer: str, options: Sequence[str], donor: Donor | None, generator: random.Random) -> str | None:
    """A plausible answer that the trace did not give: another option of the question, or another item's answer."""
    rest = [option for option in options if not agree(option, answer)] or ([donor.answer] if donor else [])
    return generator.choice(rest) if rest else None


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
        yield Arm("preempt", place, 1, ids, total, added=tuple(said[place]), planted=named, open_ids=open_ids)
