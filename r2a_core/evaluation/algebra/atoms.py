"""The smallest parts of an expression: numbers, letters, brackets, commands and what they take, matrices."""

from abc import ABC, abstractmethod
from fractions import Fraction

from r2a_core.evaluation.algebra.cursor import Cursor
from r2a_core.evaluation.algebra.nodes import Node, number, written
from r2a_core.evaluation.algebra.tokens import FIELDS, FUNCTIONS, Token, Unreadable
from r2a_core.evaluation.algebra.units import LONG_UNITS, Unit

CLOSERS = (")", "]", ">)", "}}", "}")

CURRENCY = {"$": "dollar", "euro": "euro", "pounds": "noun pound sterling", "yen": "noun yen", "rupee": "noun rupee"}


class Atoms(Cursor, ABC):
    """Reads single factors; what is inside a bracket is read by the grammar built upon it."""

    @abstractmethod
    def listed(self, joints: tuple[str, ...]) -> Node:
        """Reads items with joints between them."""

    @abstractmethod
    def relation(self) -> Node:
        """Reads one item, a chain of relations."""

    @abstractmethod
    def sum(self) -> Node:
        """Reads terms with signs."""

    @abstractmethod
    def factor(self) -> Node:
        """Reads an atom with its powers."""

    @abstractmethod
    def signed(self) -> Node:
        """Reads a factor that may have a minus."""

    @abstractmethod
    def starts(self) -> bool:
        """Tells whether a factor begins here."""

    def argument(self, signed: bool = False, digits: bool = True) -> Node:
        """Reads what a command takes: a group or one token; of a number without braces all digits, or the first."""
        if signed and (sign := self.take("-", "+")):
            inner = self.argument()
            return ("neg", inner) if sign == "-" else inner
        token = self.next
        if token.kind == "number" and not digits and len(token.text) > 1:
            self.tokens[self.place] = Token("number", token.text[1:])
            return ("num", Fraction(token.text[0]), None)
        return self.atom()

    def atom(self) -> Node:
        """Reads a number, a letter, a bracket, a command or a matrix."""
        token = self.next
        self.place += 1
        if token.kind == "number":
            return number(token.text)
        if token.kind == "letter":
            return self.letter(token)
        if token.kind == "name":
            return self.named(token.text)
        if token.kind == "word":
            return self.word(token)
        return self.bracket(token.text)

    def word(self, token: Token) -> Node:
        """Reads a word before a value: a currency; a short one in the other reading is a product of letters."""
        if token.text in CURRENCY:
            return ("unit", self.factor(), Unit({CURRENCY[token.text]: 1}))
        if not self.reading.upright_units and token.text in LONG_UNITS and len(token.text) < 4:
            found: Node = ("sym", token.text[0])
            for letter in token.text[1:]:
                found = ("*", found, ("sym", letter))
            return found
        raise Unreadable(f"the word {token.text}")

    def letter(self, token: Token) -> Node:
        """Reads a variable or a constant, with its index; f(x) is a function's value."""
        name = token.text
        self.vectors |= token.style == "bold" and name in ("i", "j", "k")
        if self.next.text == "_" and self.take("_"):
            return ("sym", f"{name}_{written(self.argument())}")
        if name in ("f", "g", "h") and self.next.text == "(":
            self.place += 1
            inside = self.listed((",",))
            self.need(")")
            return ("call", name, inside)
        return ("sym", name)

    def bracket(self, sign: str) -> Node:
        """Reads what a bracket opens; (a, b] and ]a, b[ are intervals or tuples, { } only groups."""
        if sign in ("(", "[", "<(", "]"):
            inside = self.listed((",", ";")) if self.next.text not in CLOSERS else ("list", (), ())
            close = self.need(")", "]", ">)", *("[" for _ in (1,) if sign in "[]("))
            if inside[0] != "list":
                return inside
            opened, closed = {"]": "(", "<(": "("}.get(sign, sign), {"[": ")", ">)": ")"}.get(close, close)
            return ("tuple", opened, closed, inside[2])
        if sign == "{":
            inside = self.listed((",", ";")) if self.next.text != "}" else ("list", (), ())
            if self.next.text == "choose":
                self.place += 1
                inside = ("binom", inside, self.sum())
            self.need("}")
            return inside
        if sign == "{{":
            return self.set_of()
        if sign == "|":
            self.bars += 1
            inside = self.sum()
            self.bars -= 1
            self.need("|")
            return ("abs", inside)
        if sign in ("floor(", "ceil("):
            inside = self.sum()
            self.need(")" + sign[:-1])
            return (sign[:-1], inside)
        if sign == "$":
            return ("unit", self.factor(), Unit({"dollar": 1}))
        raise Unreadable(f"{sign!r} at this place")

    def set_of(self) -> Node:
        r"""Reads the rest of \{a, b\} or of \{x \in R : x > 2\}."""
        if self.take("}}"):
            return ("empty",)
        start = self.place
        if self.next.kind == "letter":
            variable = self.letter_token()
            field: Node = ("field", "R")
            if self.take("in"):
                field = self.atom()
            if self.take("|", ":"):
                condition = self.listed((",", "and", "or"))
                self.need("}}")
                return ("builder", variable, field, condition)
        self.place = start
        inside = self.listed((",", ";"))
        self.need("}}")
        return ("set", inside[2] if inside[0] == "list" else (inside,))

    def letter_token(self) -> str:
        """Moves over a letter."""
        self.place += 1
        return self.tokens[self.place - 1].text

    def named(self, name: str) -> Node:
        """Reads a command and what it takes."""
        if name == "frac":
            above = self.argument(digits=False)
            return ("/", above, self.argument(digits=False))
        if name == "binom" and self.next.text == "(":
            inside = self.atom()
            if inside[0] == "tuple" and len(inside[3]) == 2:
                return ("binom", *inside[3])
            raise Unreadable("a binomial of other than two numbers")
        if name == "binom":
            return ("binom", self.argument(), self.argument())
        if name in ("sqrt", "cbrt"):
            degree: Node = ("num", Fraction(2 if name == "sqrt" else 3), None)
            if self.take("["):
                degree = self.sum()
                self.need("]")
            return ("root", degree, self.argument())
        if name in ("infty", "emptyset"):
            return ("inf",) if name == "infty" else ("empty",)
        if name == "mathbb":
            inside = self.argument()
            if inside[0] == "sym" and inside[1] in FIELDS:
                return ("field", inside[1])
            raise Unreadable("a set of numbers")
        if name.startswith("begin "):
            return self.matrix(name.removeprefix("begin "))
        if name in FUNCTIONS:
            return self.function(name)
        raise Unreadable(f"{name} at this place")

    def function(self, name: str) -> Node:
        """Reads a function's power or base and its argument: a bracket, or factors up to the next sign or function."""
        base = self.argument() if name == "log" and self.take("_") else None
        power = self.argument(signed=True) if self.take("^") else None
        if power == ("neg", ("num", Fraction(1), None)) and name in ("sin", "cos", "tan"):
            name, power = f"arc{name}", None
        if self.next.text in ("(", "["):
            self.place += 1
            inside = self.listed((",",))
            self.need(")", "]")
        elif self.next.kind == "name" or self.next.text in ("{", "|"):
            inside = self.factor()
        else:
            inside = self.signed()
            while (self.starts() and self.next.kind in ("letter", "number")) or self.next.text in ("sqrt", "frac"):
                inside = ("*", inside, self.factor())
        if name == "lg":
            name, base = "log", ("num", Fraction(10), None)
        found = ("log", base, inside) if name == "log" else ("abs", inside) if name == "abs" else ("fn", name, inside)
        return found if power is None else ("^", found, power)

    def matrix(self, name: str) -> Node:
        """Reads the rows of a matrix up to its end."""
        rows: list[list[Node]] = [[]]
        while not self.next.text.startswith("end "):
            if self.take("row"):
                rows.append([])
            elif not self.take("&"):
                rows[-1].append(self.relation())
            if not self.next.text:
                raise Unreadable("a matrix without an end")
        self.place += 1
        kind = "det" if name.startswith("vmatrix") else "matrix"
        full = tuple(tuple(row) for row in rows if row)
        if not full or ("matrix" not in name and not name.startswith("array")) or len({len(row) for row in full}) != 1:
            raise Unreadable("rows of unequal length")
        return (kind, full)
