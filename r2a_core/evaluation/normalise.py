"""How an answer is written, apart from its value: words, units, percent signs, number bases, spacing.

LaTeX text of a boxed or a reference answer -> `Quantity` (LaTeX of the bare value, what was taken off) or a word key.
Only string work happens here; nothing is parsed as an expression and nothing is evaluated.
"""

import re
from dataclasses import dataclass, replace

MAX_LENGTH = 1000  # characters; the longest reference answer of MATH-500 has 159

MAX_NESTING = 30  # brackets of any kind inside one another

MAX_TOWER = 2  # powers inside one another: 2^{2^3} is 2 of them

TEXT = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|mathbf|mathit|operatorname|emph|underline)\s*\{([^{}]*)\}"

POWER = r"(?:\s*\^\s*\{?\s*\d\s*\}?)?"

NAMES_OF_UNITS = {
    "mm": "mm millimeter millimetre",
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "inch": "in inch inches",
    "foot": "ft foot feet",
    "yard": "yd yard",
    "mile": "mi mile",
    "second": "s sec second",
    "minute": "min minute",
    "hour": "h hr hour",
    "day": "day",
    "week": "week",
    "month": "month",
    "year": "yr year",
    "gram": "g gram",
    "kg": "kg kilogram",
    "pound": "lb pound",
    "ounce": "oz ounce",
    "ml": "ml milliliter millilitre",
    "liter": "l liter litre",
    "gallon": "gal gallon",
    "mph": "mph",
    "km/h": "kmh kph",
    "dollar": "dollar usd",
    "cent": "cent",
    "euro": "euro eur",
    "degree": "degree deg",
    "radian": "radian rad",
    "unit": "unit",
}

UNIT_OF = {name: unit for unit, names in NAMES_OF_UNITS.items() for name in names.split()}

UNIT_OF |= {f"{name}s": unit for name, unit in UNIT_OF.items() if len(name) > 1}

BARE_UNITS = "|".join(sorted((name for name in UNIT_OF if len(name) > 1), key=len, reverse=True))

SIZED = r"(?:square|cubic|sq\.?|cu\.?)\s+"

UNIT_TAILS = (
    re.compile(rf"(?<=\S)\s*(?P<unit>(?:\s*(?:/|\\cdot)?\s*{TEXT}{POWER})+)$"),
    re.compile(rf"(?<=[\d)}}\s])\s*(?P<unit>(?:{SIZED})?(?:{BARE_UNITS}){POWER})$", re.IGNORECASE),
    re.compile(r"(?<=\S)\s*(?P<unit>(?:\^\s*\{?\s*\\circ\s*\}?|°|\\degrees?)\s*[CF]?)$"),
)

CURRENCY = {"$": "dollar", "€": "euro", "£": "pound sterling"}

OF_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])[^=]*(?:\\circ|°)")

ELLIPSIS = re.compile(r"\\[lcdv]?dots\b|\\dots[a-z]\b|\.\.\.|…")


@dataclass(frozen=True)
class Quantity:
    """A value as LaTeX, and the notation around it; unit and base are None where not written."""

    latex: str
    percent: bool = False
    unit: str | None = None  # canonical name where known, for example "cm" for "centimeters"
    power: int | None = None  # 2 for square units, 3 for cubic ones
    base: int | None = None


def refusal(text: str) -> str | None:
    """Says why an answer is not handed to the computer algebra system at all; None when it may be."""
    if len(text) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    braces = re.sub(r"\\.|[^{}]", "", text)
    while "{}" in braces:
        braces = braces.replace("{}", "")
    if braces:
        return "its braces do not balance"
    highest = deepest = 0
    opened: list[bool] = []  # for each open bracket, whether it opened an exponent
    for mark in re.finditer(r"(\^\s*)?([{(\[])|[})\]]|\^", text):
        if mark[2]:
            opened.append(bool(mark[1]))
        elif mark[0] != "^" and opened:
            opened.pop()
        deepest, highest = max(deepest, len(opened)), max(highest, sum(opened) + (mark[0] == "^"))
    if deepest > MAX_NESTING:
        return f"more than {MAX_NESTING} brackets inside one another"
    if highest > MAX_TOWER or re.search(r"\^\s*(?:\d+|\w)\s*\^|!\s*!", text):
        return "a tower of powers or factorials"
    return None


def tidy(text: str) -> str:
    """Drops what means nothing: maths marks, spacing commands, sizes of brackets, a final full stop."""
    if not re.match(r"\s*\$\s*[\d.]", text):
        text = re.sub(r"(?<!\\)\$|(?<!\\)\\[()\[\]]", "", text)
    text = re.sub(r"\\(?:left|right|big|Big|bigg|Bigg)[lr]?(?![a-zA-Z])\.?|\\displaystyle(?![a-zA-Z])", "", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text).replace("{,}", ",").replace("−", "-")
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text).replace(r"\varnothing", r"\emptyset")
    text = re.sub(r"\\[lr]angle(?![a-zA-Z])", lambda mark: "(" if mark[0][1] == "l" else ")", text)
    text = re.sub(rf"^\s*{TEXT}", lambda label: "" if label[1].rstrip().endswith((":", "=")) else label[0], text)
    text = re.sub(r"(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))", "", re.sub(r"(?<!\\)\\!", "", text))
    text = re.sub(r"(?<![\d/.])(\d+)\s+(\d+)/(\d+)(?![\d/.])", r"\1\\frac{\2}{\3}", text)
    text = re.sub(r"(?<!\\)\\[,;: \n]|\\q?quad(?![a-zA-Z])|~|\s+", " ", text)
    return re.sub(r"(?<!\.)[.,;]\s*$", "", text.strip()).strip()


def is_words(text: str) -> bool:
    r"""Tells whether a tidied answer is words: all of it in \text or the like, or letters alone, three in a row."""
    bare = _unwrapped(text)
    if re.match(r"\s*[-+]?[\d$]", bare) or re.search(r"[=^\\<>_]", bare):
        return False
    outside = re.sub(TEXT, "", text)
    if outside != text and not re.search(r"\w", outside):
        return re.search(r"[^\W\d_]", bare) is not None
    return re.fullmatch(r"[\w\s,.;'()-]+", bare) is not None and re.search(r"[^\W\d_]{3}", bare) is not None


def word_key(text: str) -> str:
    r"""Reduces an answer in words to what equal answers share: "\text{The Otter}" -> "otter".

    Items of a list are put in order, unless one of them is repeated: then the list is a sequence.
    """
    parts = [re.sub(r"\W+", " ", part).strip().casefold() for part in re.split(r"[,;]|\band\b", _unwrapped(text))]
    parts = [re.sub(r"^(?:the|an?) (?=\w)", "", part) for part in parts if part]
    return ", ".join(parts if len(set(parts)) < len(parts) else sorted(parts))


def _unwrapped(text: str) -> str:
    """Replaces text commands by the plain letters in them."""
    return re.sub(TEXT, r" \1 ", text)


def quantity(text: str) -> Quantity:
    """Splits a tidied maths answer into its value and the unit, percent sign and number base written with it."""
    taken = _take_unit(re.sub(TEXT, r"\1", text) if re.fullmatch(TEXT, text) else text)
    if percent := re.fullmatch(r"(.*?\S)\s*(?:\\?%|percent)", taken.latex):
        taken = replace(taken, latex=percent[1], percent=True)
    if based := re.fullmatch(r"\(?(\d[0-9A-Za-z]*)\)?_\{?(\d+)\}?", taken.latex):
        taken = replace(taken, latex=based[1], base=int(based[2]))
    return replace(taken, latex=_radians(_fraction_of_repeating(taken.latex)))


def units_disagree(ours: Quantity, theirs: Quantity) -> bool:
    """Tells whether both name a known unit and not the same one; a missing square or cubic passes."""
    if ours.unit is None or theirs.unit is None:
        return False
    return ours.unit != theirs.unit or (ours.power or theirs.power) != (theirs.power or ours.power)


def _take_unit(text: str) -> Quantity:
    """Takes off the money sign before a value or the unit behind it. A sine's angle keeps its degrees."""
    if money := re.match(r"\s*(?:\\?(\$)|(€|£))\s*(?=[\d.])", text):
        return Quantity(text[money.end() :].strip(), unit=CURRENCY[money[1] or money[2]])
    for tail in UNIT_TAILS:
        found = tail.search(text)
        if found is not None and not re.search(r"\b(?:and|or)\b", found["unit"]) and not OF_ANGLE.search(text):
            return _with_unit(text[: found.start()].strip(), found["unit"])
    return Quantity(text)


def _with_unit(value: str, tail: str) -> Quantity:
    """Reads the unit that `tail` names: "square cm" and "cm^2" are both cm to the power of 2."""
    raised = re.search(r"\^\s*\{?\s*(\d)\s*\}?$", tail)
    name = _unwrapped(tail[: raised.start()] if raised else tail).strip().rstrip(".").casefold()
    if name in ("percent", "%", r"\%"):
        return Quantity(f"{value}%")
    if "circ" in name or name.startswith(("°", r"\degree")):
        return Quantity(value, unit="degree")
    sized = re.match(r"(square|sq|cubic|cu)\b\.?\s*(.*)", name)
    power = (2 if sized[1].startswith("s") else 3) if sized else int(raised[1]) if raised else None
    return Quantity(value, unit=UNIT_OF.get(sized[2] if sized else name), power=power)


def _fraction_of_repeating(text: str) -> str:
    r"""Writes 0.1\overline{6} as the fraction it is."""

    def fraction(found: re.Match[str]) -> str:
        whole, fixed, cycle = found[1] or "0", found[2], found[3]
        below = 10 ** len(fixed) * (10 ** len(cycle) - 1)
        return rf"\frac{{{int(whole + fixed + cycle) - int(whole + fixed)}}}{{{below}}}"

    return re.sub(r"(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?", fraction, text)


def _radians(text: str) -> str:
    """Converts degrees inside an expression (a sine of 30 degrees) to radians, which the functions take."""
    return re.sub(r"(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°)", r"(\\frac{\1\\pi}{180})", text)
