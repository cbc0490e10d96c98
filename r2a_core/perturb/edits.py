"""Values and phrases of a trace that others replace: numbers, and options of the question.

Reading, options of the question -> Edits, and the token ids with some of them made. A text is never tokenised as a
whole again: what stays keeps its ids, and what comes in is tokenised by itself. A value is replaced only where its
tokens are what the tokenizer makes of their text alone. Needs no torch.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import accumulate
from typing import Literal

from r2a_core.evaluation.values import WHOLE_NUMBER
from r2a_core.perturb.reading import Reading
from r2a_core.tokenizer import words_pattern
from r2a_core.wording import MINUS

DELTAS = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Edit:
    """Tokens of a trace and the ids that replace them."""

    tokens: range
    ids: tuple[int, ...]


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
    family: Literal["number", "option"],
    options: Sequence[str],
    generator: random.Random,
) -> list[Edit]:
    """Replace each number of the reasoning, or each of the question's options that it names, by another."""
    if family == "number":
        return replacements(encode, reading, WHOLE_NUMBER, other_number, generator)
    forms = option_forms(options)
    return replacements(encode, reading, words_pattern(forms), partial(other_option, forms), generator)


def other_number(text: str, generator: random.Random) -> str:
    """Add one of DELTAS; decimals keep their places, thousands their commas and a minus its sign."""
    number = Decimal(text.replace(",", "").replace(MINUS, "-")) + generator.choice(DELTAS)
    new = f"{number:,f}" if "," in text else f"{number:f}"
    return new.replace("-", MINUS) if MINUS in text else new


def option_forms(options: Sequence[str]) -> dict[str, str]:
    """Each option as a text may spell it: itself, and with a capital where a sentence starts; a letter only itself."""
    forms = {capital(option): option for option in options if len(option) > 1}
    return forms | {option: option for option in options}


def other_option(forms: Mapping[str, str], text: str, generator: random.Random) -> str | None:
    """Choose another of the options, with a capital where only the text gave one."""
    named = forms[text]
    rest = [option for option in dict.fromkeys(forms.values()) if option != named]
    new = generator.choice(rest) if rest else None
    return new if new is None or text == named else capital(new)


def capital(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]
