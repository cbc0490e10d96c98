"""The place in the tokens of an answer, and the units that stand there."""

import re
from dataclasses import dataclass

from r2a_core.evaluation.algebra.tokens import Token, Unreadable
from r2a_core.evaluation.algebra.units import LETTER_UNITS, Unit, read_unit, words

QUALIFIERS = frozenset(words("for where with if when such given as since because provided assuming"))


@dataclass(frozen=True)
class Reading:
    """How to read what is written ambiguously."""

    upright_units: bool = True  # 5\\text{m} is five metres, not five times m
    tight_slash: bool = False  # 1/2x is 1/(2x), not (1/2)x


class Cursor:
    """One pass over the tokens, and what it met on the way."""

    def __init__(self, tokens: list[Token], reading: Reading) -> None:
        self.tokens, self.place, self.reading = tokens, 0, reading
        self.bars = 0  # absolute values that are open
        self.vectors = False  # bold i, j, k occur: they are no imaginary unit
        self.qualifier: list[Token] = []  # "for any integer k"
        self.letter_units = False  # a letter or a short word was taken for a unit
        self.open_slash = False  # a slash that binds in two ways occurs

    @property
    def next(self) -> Token:
        """The token at hand; a sign that is none at the end."""
        return self.tokens[self.place] if self.place < len(self.tokens) else Token("sign", "")

    def ahead(self, steps: int = 1) -> Token:
        """The token so many steps on."""
        place = self.place + steps
        return self.tokens[place] if place < len(self.tokens) else Token("sign", "")

    def take(self, *signs: str) -> str | None:
        """Moves over one of these signs, if it is next."""
        if self.next.kind == "sign" and self.next.text in signs and signs:
            self.place += 1
            return self.tokens[self.place - 1].text
        return None

    def need(self, *signs: str) -> str:
        """Moves over one of these signs. Raises Unreadable where none is next."""
        if found := self.take(*signs):
            return found
        raise Unreadable(f"{self.next.text!r} where {' or '.join(signs)} should be")

    def unit(self) -> Unit | None:
        """Reads the unit behind a value: words, upright letters, their powers and slashes; a percent or money sign."""
        words: list[str] = []
        while True:
            token = self.next
            if token.kind == "word" and token.text.lower() not in QUALIFIERS:
                if not words and not self.reading.upright_units and len(token.text) < 4:
                    break
                self.letter_units |= len(token.text) < 4
                words.append(token.text)
            elif (
                token.kind == "letter"
                and (token.style == "upright" or token.text == "Omega")
                and self.is_unit_letter(token, words)
            ):
                self.letter_units = True
                words.append(token.text)
            elif (words and token.text == "/" and self.is_word(self.ahead())) or (
                not words and token.text == "/" and self.ahead().kind == "word"
            ):
                words.append("/")
            elif words and token.text == "*" and self.is_word(self.ahead()):
                pass
            elif words and token.text == "^" and (power := self.power_of_unit()):
                words.append(power)
                continue
            elif token.text == "%":
                words.append("percent")
            elif token.text == "$":
                words.append("dollar")
            elif token.kind == "number" and words and words[-1].lower() == "base":
                words.append(token.text)
            elif token.text == "deg" and self.is_word(self.ahead(), temperature=True):
                words.append("degree")
                self.place += 1
                words.append({"C": "celsius", "F": "fahrenheit"}.get(self.next.text, self.next.text))
            else:
                break
            self.place += 1
        return read_unit(words) if words else None

    def is_unit_letter(self, token: Token, words: list[str]) -> bool:
        """Tells whether a letter is a unit in this reading: an upright one, also after other words; or Ohm."""
        if token.text == "Omega":
            return self.reading.upright_units
        upright = token.style == "upright" and self.reading.upright_units
        return upright and (token.text in LETTER_UNITS or bool(words))

    def is_word(self, token: Token, temperature: bool = False) -> bool:
        """Tells whether the token can go on with a unit."""
        if temperature:
            return token.text in ("C", "F") or token.text.lower() in ("celsius", "fahrenheit")
        return token.kind == "word" or (token.kind == "letter" and token.style == "upright")

    def power_of_unit(self) -> str | None:
        """Reads the ^2 or ^{-1} of a unit."""
        shape = "".join(token.text for token in self.tokens[self.place : self.place + 5])
        found = re.match(r"\^(?:(\d)|\{(-?\d)\})", shape)
        if found is None:
            return None
        self.place += len(found[0])
        return f"^{found[1] or found[2]}"
