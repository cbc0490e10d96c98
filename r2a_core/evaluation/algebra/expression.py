"""Tokens of an answer -> one node (nodes), by recursive descent. Nothing is evaluated here.

A text may have several readings (`Reading`): an upright m is a metre or a variable.
"""

from fractions import Fraction

from r2a_core.evaluation.algebra.atoms import CLOSERS, Atoms
from r2a_core.evaluation.algebra.cursor import QUALIFIERS, Reading
from r2a_core.evaluation.algebra.nodes import Node, digits_in_base, with_unit
from r2a_core.evaluation.algebra.tokens import Unreadable, tokens_of
from r2a_core.evaluation.algebra.units import read_unit

RELATIONS = ("=", "<", ">", "<=", ">=", "!=", "~", "in", "==")


class Parser(Atoms):
    """The grammar; `node` reads all tokens or raises Unreadable."""

    def node(self) -> Node:
        """Reads everything."""
        found = self.listed((",", ";", "and", "or"))
        if self.next.kind == "word" and self.next.text.lower() in QUALIFIERS:
            self.qualifier, self.place = self.tokens[self.place :], len(self.tokens)
            if any(token.text in (",", ";", "or") for token in self.qualifier):
                raise Unreadable("values for several cases")
        if self.place < len(self.tokens):
            raise Unreadable(f"{self.next.text!r} at this place")
        return found

    def listed(self, joints: tuple[str, ...]) -> Node:
        """Reads items with joints between them; one alone stays itself."""
        items, used = [self.relation()], []
        while joint := self.take(*joints):
            while more := self.take(*joints):
                joint = more
            if not self.next.text or self.next.text in CLOSERS:
                break
            if self.next.kind == "word" and self.next.text.lower() in QUALIFIERS:
                break
            used.append(joint)
            items.append(self.relation())
        return listed(items, used)

    def relation(self) -> Node:
        """Reads a chain of relations: 2 < x <= 5."""
        sides, signs = [self.sets()], []
        while sign := self.take(*RELATIONS):
            signs.append(sign)
            sides.append(self.sets())
        found = ("rel", tuple(signs), tuple(sides)) if signs else sides[0]
        opened = self.next.text == "(" and self.ahead().text == "pmod"
        if opened or self.next.text == "pmod":
            self.place += 1 + opened
            found = ("mod", found, self.argument())
            if opened:
                self.need(")")
        return found

    def sets(self) -> Node:
        """Reads unions, intersections and differences, from the left."""
        found = self.ratio()
        while sign := self.take("cup", "cap", "minus"):
            found = (sign, found, self.ratio())
        return found

    def ratio(self) -> Node:
        """Reads a ratio, a : b, or a time of day."""
        parts = [self.sum()]
        while self.next.text == ":" and self.take(":"):
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else ("ratio", tuple(parts))

    def sum(self) -> Node:
        """Reads terms with signs."""
        found: Node | None = None
        while True:
            sign = self.take("+", "-", "pm", "mp")
            if sign is None and found is not None:
                return found
            while sign in ("+", "-") and (again := self.take("+", "-")):
                sign = "+" if again == sign else "-"
            term = self.product()
            if sign in ("pm", "mp"):
                found = (sign, found or ("num", Fraction(0), None), term)
            elif sign == "-" and found is not None and found[0] == "field":
                found = ("minus", found, term)
            elif sign == "-":
                found = ("neg", term) if found is None else ("+", found, ("neg", term))
            else:
                found = term if found is None else ("+", found, term)

    def product(self) -> Node:
        """Reads factors, also side by side, and the unit behind them."""
        found, mixed = self.factor(), self.mixed_part()
        if mixed is not None:
            found = ("+", found, mixed)
        while True:
            if (unit := self.unit()) is not None:
                found = with_unit(found, unit)
            elif sign := self.take("*", "/"):
                close = sign == "/" and self.next.kind == "number"
                other = self.signed()
                if close and self.next.kind in ("letter", "name") and not self.next.spaced and self.starts():
                    self.open_slash = True
                    while self.reading.tight_slash and self.starts():
                        other = ("*", other, self.factor())
                found = (sign, found, other)
            elif self.starts():
                before = self.tokens[self.place - 1]
                if self.next.kind == "number" and before.kind in ("number", "word"):
                    raise Unreadable("numbers side by side")
                found = ("*", found, self.factor())
            else:
                return found

    def signed(self) -> Node:
        """Reads a factor that may have a minus of its own: 2 * -3."""
        sign = self.take("+", "-")
        return ("neg", self.factor()) if sign == "-" else self.factor()

    def starts(self) -> bool:
        """Tells whether a factor begins here."""
        token = self.next
        if token.kind == "sign":
            if token.text == "|":
                return self.bars == 0
            if token.text == "(" and self.ahead().text == "pmod":
                return False
            return token.text in ("(", "{", "floor(", "ceil(")
        if token.kind == "name":
            return not token.text.startswith("end ") and token.text not in ("pmod", "choose")
        return token.kind in ("letter", "number")

    def mixed_part(self) -> Node | None:
        """Reads the fraction of a mixed number: the 1/2 of 3 1/2."""
        before, token = self.tokens[self.place - 1], self.next
        if token.text != "frac" or before.kind != "number" or not before.text.isdigit():
            return None
        start = self.place
        found = self.factor()
        whole = found[0] == "/" and all(part[0] == "num" and part[1].denominator == 1 for part in found[1:])
        if whole and 0 < found[1][1] < found[2][1]:
            return found
        self.place = start
        return None

    def factor(self) -> Node:
        """Reads an atom with what is written behind it: powers, factorials, degrees, primes."""
        token = self.next
        base = self.atom()
        while True:
            if self.take("^"):
                if self.take("deg") or (
                    self.next.text == "{" and self.ahead().text == "deg" and self.ahead(2).text == "}"
                ):
                    self.place += 3 if self.next.text == "{" else 0
                    base = self.degrees(base)
                elif self.next.text in ("'",):
                    raise Unreadable("a prime as a power")
                else:
                    base = power_of(base, self.argument(signed=True))
            elif self.next.text == "deg" and self.take("deg"):
                base = self.degrees(base)
            elif self.take("!"):
                base = ("!", base)
            elif self.next.text == "_" and token.kind == "number" and self.take("_"):
                base = ("based", token.text, self.argument())
            elif self.next.text == "'" and base[0] == "sym" and self.take("'"):
                base = ("sym", base[1] + "'")
            else:
                return base

    def degrees(self, base: Node) -> Node:
        """An angle, or a temperature where C or F follows."""
        if self.is_word(self.next, temperature=True):
            unit = "celsius" if self.next.text.upper().startswith("C") else "fahrenheit"
            self.place += 1
            return ("unit", base, read_unit([unit]))
        return ("deg", base)


def listed(items: list[Node], joints: list[str]) -> Node:
    """A list, one item as itself; 1, 2; 3, 4 is a list of two lists."""
    if len(items) == 1:
        return items[0]
    if ";" in joints and "," in joints:
        cut = joints.index(";") + 1
        parts = listed(items[:cut], joints[: cut - 1]), listed(items[cut:], joints[cut:])
        more = parts[1][2] if ";" in joints[cut:] else parts[1:]
        return ("list", (";",) * len(more), (parts[0], *more))
    return ("list", tuple(joints), tuple(items))


def power_of(base: Node, power: Node) -> Node:
    """A power; of a vector or a matrix with T, the transposed one."""
    if power == ("sym", "T") and base[0] == "tuple":
        return ("matrix", tuple((item,) for item in base[3]))
    if power == ("sym", "T") and base[0] == "matrix":
        return ("matrix", tuple(zip(*base[1], strict=True)))
    return ("^", base, power)


def read(text: str, reading: Reading) -> tuple[Node, Parser]:
    """Reads a tidied answer. Raises Unreadable; the parser says which qualifier and which vectors it met."""
    parser = Parser(tokens_of(text) if (based := digits_in_base(text)) is None else [], reading)
    if based is not None:
        return based, parser
    try:
        return parser.node(), parser
    except (IndexError, ValueError, RecursionError) as error:
        raise Unreadable(type(error).__name__) from error
