r"""LaTeX or plain text of an answer -> tokens: numbers, letters, words, commands and signs, each of one meaning.

"\frac{1}{2} \text{ kg}" -> frac { 1 } { 2 } kg(word). Synonyms end here (\leq, \le and <= are one sign); letters keep
whether they are upright or bold, for that tells a unit or a vector from a variable.
"""

import re
from dataclasses import dataclass
from typing import Literal

from r2a_core.evaluation.algebra.units import LONG_UNITS, words

Kind = Literal["number", "letter", "word", "name", "sign"]


class Unreadable(Exception):  # noqa: N818  it is no fault
    """The text has no meaning that the grammar knows."""


@dataclass(frozen=True)
class Token:
    """One token; style is "", "upright" or "bold" for letters, and `spaced` says that white space came before it."""

    kind: Kind
    text: str
    style: str = ""
    spaced: bool = False


SIGNS = {
    "<=": "<= le leq leqslant leqq",
    ">=": ">= ge geq geqslant geqq",
    "!=": "!= ne neq",
    "<": "lt",
    ">": "gt",
    "~": "approx approxeq simeq sim doteq",
    "==": "equiv",
    "in": "in",
    "cup": "cup bigcup",
    "cap": "cap bigcap",
    "minus": "setminus backslash smallsetminus",
    "*": "cdot times ast",
    "/": "div",
    "pm": "pm",
    "mp": "mp",
    "|": "mid vert lvert rvert",
    ":": "colon",
    "'": "prime",
    "{{": "lbrace",
    "}}": "rbrace",
    "(": "lparen",
    ")": "rparen",
    "[": "lbrack",
    "]": "rbrack",
    "<(": "langle",
    ">)": "rangle",
    "deg": "circ degree degrees",
    "floor(": "lfloor",
    ")floor": "rfloor",
    "ceil(": "lceil",
    ")ceil": "rceil",
    "or": "lor vee",
    "and": "land wedge",
    "%": "%",
    "$": "$ dollar",
    "row": "\\ cr tabularnewline",
}

SIGN_OF = {name: sign for sign, names in SIGNS.items() for name in names.split()} | {"{": "{{", "}": "}}"}

FUNCTIONS = set(
    words(
        "sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh ln log lg exp sqrt cbrt "
        "abs min max gcd lcm"
    )
)

NAMES = FUNCTIONS | {"frac", "binom", "overline", "infty", "emptyset", "begin", "end", "mathbb", "pmod", "overset"}

PLAIN_NAMES = {"infinity": "infty", "inf": "infty", "oo": "infty"}

GREEK = set(
    words(
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi rho sigma "
        "tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar "
        "partial imath jmath"
    )
)

RENAMED = {
    "Pi": "pi", "varepsilon": "epsilon", "varphi": "phi", "vartheta": "theta", "imath": "i", "jmath": "j",
    "arcctg": "arccot", "tg": "tan", "ctg": "cot", "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom",
    "tbinom": "binom", "choose": "choose", "varnothing": "emptyset", "bar": "overline", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "mod": "pmod", "bmod": "pmod",
}  # fmt: skip

STYLES = {
    "upright": "text textrm textsf texttt textnormal mbox mathrm operatorname textup mathsf",
    "italic": "textit mathit emph underline mathcal",
    "bold": "textbf mathbf boldsymbol bm vec hat overrightarrow",
}

STYLE_OF = {name: style for style, names in STYLES.items() for name in names.split()}

JOINING = {"and": "and", "or": "or", "to": ":"}

FIELDS = {"R", "Z", "N", "Q", "C"}

MARKS = re.compile(
    r"(?P<environment>\\(?:begin|end)\s*\{\w+\*?\}(?:\[\w\])?(?:\{[lcr|]+\})?)"
    r"|(?P<style>\\(?:"
    + "|".join(sorted(STYLE_OF, key=len, reverse=True))
    + r")(?![a-zA-Z])\*?\s*\{(?P<inner>(?:[^{}]|\{[^{}]*\})*)\})"
    r"|(?P<styled>\\(?:"
    + "|".join(sorted(STYLE_OF, key=len, reverse=True))
    + r")(?![a-zA-Z])\s*(?P<single>[A-Za-z]|\\[ij]math))"
    r"|(?P<skip>\\(?:[,;:! ]|(?:quad|qquad|limits|nolimits|hline|displaystyle|textstyle)(?![a-zA-Z]))|~|\s+)"
    r"|\\(?P<command>[a-zA-Z]+|\\(?:\*|\s*\[[^\]]*\])?|[{}%$|])"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)(?:[eE](?P<power>[-+]?\d+)(?![\d.]))?"
    r"|(?P<letters>[A-Za-z]+)"
    r"|(?P<sign><=|>=|!=|\*\*|&|[-+*/^_=<>(){}\[\]|,;:!'%$])"
    r"|(?P<other>.)",
    re.DOTALL,
)

PLAIN_SIGNS = {"**": "^"}


def tokens_of(text: str) -> list[Token]:
    """Splits a tidied answer into tokens. Raises Unreadable at a sign or command that it does not know."""
    tokens: list[Token] = []
    spaced = False
    for mark in MARKS.finditer(text):
        if mark["skip"]:
            spaced = True
            continue
        found = _tokens(mark, tokens)
        if found and spaced:
            found[0] = Token(found[0].kind, found[0].text, found[0].style, spaced=True)
        tokens += found
        spaced = False
    return tokens


def _tokens(mark: re.Match[str], before: list[Token]) -> list[Token]:
    if mark["environment"]:
        return [Token("name", re.sub(r"[^\w]+", " ", mark[0]).strip())]
    if mark["style"]:
        return styled(mark["inner"], STYLE_OF[re.match(r"\\([a-zA-Z]+)", mark[0])[1]])  # type: ignore[index]
    if mark["styled"]:
        letter = mark["single"].removeprefix("\\")[:1]
        return [Token("letter", letter, STYLE_OF[re.match(r"\\([a-zA-Z]+)", mark[0])[1]])]  # type: ignore[index]
    if mark["number"]:
        return [Token("number", mark[0])]
    if mark["letters"]:
        return bare(mark["letters"], before)
    if mark["sign"]:
        return [Token("sign", PLAIN_SIGNS.get(mark[0], mark[0]))]
    if mark["command"]:
        return [command(mark["command"])]
    raise Unreadable(f"the sign {mark['other']!r}")


def command(name: str) -> Token:
    """The token of a LaTeX command, without its backslash."""
    if name.startswith("\\"):
        return Token("sign", "row")
    if name == "|":
        return Token("sign", "|")
    name = RENAMED.get(name, name)
    if name in SIGN_OF:
        return Token("sign", SIGN_OF[name])
    if name in NAMES or name == "choose":
        return Token("name", name)
    if name in GREEK:
        return Token("letter", name)
    raise Unreadable(f"the command \\{name}")


CLOCK = re.compile(r"(?<![a-zA-Z])([aApP])\.?\s?[mM]\b\.?")

IN_TEXT = re.compile(
    r"(?P<number>\d[\d,]*(?:\.\d+)?)|(?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)|(?P<sign>[-+*/^=<>():,;%${}])|.", re.DOTALL
)


def styled(inner: str, style: str) -> list[Token]:
    r"""The tokens within \text{...} or \mathbf{...}: words, or letters that know their style."""
    found: list[Token] = []
    for mark in IN_TEXT.finditer(CLOCK.sub(lambda half: half[1].lower() + "m ", re.sub(r"\\[,;:! ]|~", " ", inner))):
        if mark["number"]:
            found.append(Token("number", mark[0].replace(",", "")))
        elif word := mark["word"]:
            found.append(_word(word, style))
        elif mark["sign"]:
            found.append(Token("sign", mark[0]))
    return found


def _word(word: str, style: str) -> Token:
    name = RENAMED.get(word, word)
    if word.lower() in JOINING:
        return Token("sign", JOINING[word.lower()])
    if name in FUNCTIONS and name != "min":
        return Token("name", name)
    if len(name) == 1 or name in GREEK:
        return Token("letter", name, style)
    return Token("word", word)


def bare(letters: str, before: list[Token]) -> list[Token]:
    """The tokens of letters outside text commands: a name, a word after a number, or a product of variables."""
    last = before[-1] if before else Token("sign", "")
    name = PLAIN_NAMES.get(letters, RENAMED.get(letters, letters))
    if name in NAMES and letters != "lg" and not (letters == "min" and last.kind == "number"):
        return [Token("name", name)]
    if letters.lower() in JOINING and len(letters) > 1:
        return [Token("sign", JOINING[letters.lower()])]
    if letters in GREEK:
        return [Token("letter", letters)]
    follows = last.kind in ("number", "word") or last.text in (")", "}", "deg", "/", "%")
    noun = len(letters) > 3 and len(set(letters)) > 3
    if follows and (noun or letters.lower() in LONG_UNITS or letters.lower() in ("am", "pm")):
        return [Token("word", letters)]
    for function in sorted(FUNCTIONS, key=len, reverse=True):
        if letters.startswith(function) and len(letters) - len(function) == 1 and len(function) > 2:
            return [Token("name", function), Token("letter", letters[-1])]  # sinx
    if len(letters) > 6:
        raise Unreadable(f"the word {letters}")
    return [Token("letter", letter) for letter in letters]
