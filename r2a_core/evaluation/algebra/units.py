"""Units, nouns and words of scale behind a value: words -> `Unit`, and what one unit is worth in another.

5 km/h is 5 with {metre: 1, second: -1} and the factor 1000/3600; 5 apples is 5 with {apple: 1}. Units of one dimension
are converted; a unit that is not written agrees with any.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction


def words(text: str) -> list[str]:
    """The words of a line of a table."""
    return text.split()


SCALES: dict[str, int | Fraction] = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "gross": 144,
    "tenth": Fraction(1, 10),
    "hundredth": Fraction(1, 100),
    "thousandth": Fraction(1, 1000),
}

BASES = {  # unit: symbols with prefixes, names with prefixes
    "metre": ("m", "meter metre"),
    "gram": ("g", "gram gramme"),
    "second": ("s", "second"),
    "litre": ("l L", "liter litre"),
    "newton": ("N", "newton"),
    "joule": ("J", "joule"),
    "watt": ("W", "watt"),
    "volt": ("V", "volt"),
    "ampere": ("A", "ampere amp"),
    "kelvin": ("K", "kelvin"),
    "pascal": ("Pa", "pascal"),
    "hertz": ("Hz", "hertz"),
    "byte": ("B", "byte"),
    "bit": ("", "bit"),
    "mole": ("mol", "mole"),
    "calorie": ("cal", "calorie"),
    "electronvolt": ("eV", "electronvolt"),
    "coulomb": ("C", "coulomb"),
    "ohm": ("Omega", "ohm"),
    "tesla": ("T", "tesla"),
    "farad": ("F", "farad"),
}

PREFIXES = {
    "k kilo": Fraction(10**3),
    "M mega": Fraction(10**6),
    "G giga": Fraction(10**9),
    "T tera": Fraction(10**12),
    "c centi": Fraction(1, 10**2),
    "d deci": Fraction(1, 10),
    "m milli": Fraction(1, 10**3),
    "u micro": Fraction(1, 10**6),
    "n nano": Fraction(1, 10**9),
    "p pico": Fraction(1, 10**12),
}

OTHERS = {  # names: of unit, worth
    "min minute": ("second", 60),
    "h hr hour": ("second", 3600),
    "day": ("second", 86400),
    "week wk": ("second", 604800),
    "sec": ("second", 1),
    "month mo": ("month", 1),
    "yr year": ("month", 12),
    "in inch": ("metre", Fraction(254, 10**4)),
    "ft foot": ("metre", Fraction(3048, 10**4)),
    "yd yard": ("metre", Fraction(9144, 10**4)),
    "mi mile": ("metre", Fraction(1609344, 10**3)),
    "lb pound lbs": ("gram", Fraction(45359237, 10**5)),
    "oz ounce": ("ounce", 1),
    "gal gallon": ("gallon", 1),
    "dollar usd buck": ("dollar", 1),
    "cent penny": ("dollar", Fraction(1, 100)),
    "euro eur": ("euro", 1),
    "degree deg": ("degree", 1),
    "celsius": ("celsius", 1),
    "fahrenheit": ("fahrenheit", 1),
    "am": ("am", 1),
    "pm": ("pm", 1),
}

SHAPED = {
    "mph": "mile per hour",
    "fps": "foot per second",
    "cc": "cubic cm",
    "ml": "mL",
    **dict.fromkeys(("kmh", "kph", "kmph"), "km per hour"),
}

IRREGULAR = {"feet": "foot", "inches": "inch", "men": "man", "women": "woman", "children": "child", "people": "person",
             "pennies": "penny", "hertz": "hertz", "gross": "gross", "mice": "mouse", "dice": "die"}  # fmt: skip

# Words that name no unit: a count of ways or solutions is a plain number.
EMPTY = frozenset(
    words(
        "a an the of total each only exactly about approximately unit way time solution value possibility "
        "arrangement outcome number integer point radian rad more different distinct possible whole item ordered "
        "and is are"
    )
)

RAISED = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}

PERCENT = frozenset(("percent", "pct", "percentage"))


def _worths() -> dict[str, tuple[str, Fraction]]:
    """Every written unit -> its unit of reference and what it is worth in that."""
    table: dict[str, tuple[str, Fraction]] = {}
    for unit, (symbols, names) in BASES.items():
        plain = [(symbol, "", Fraction(1)) for symbol in symbols.split()] + [
            ("", name, Fraction(1)) for name in names.split()
        ]
        for symbol, name, _ in plain:
            table[symbol or name] = (unit, Fraction(1))
            for prefix, worth in PREFIXES.items():
                short, long = prefix.split()
                table[short + symbol if symbol else long + name] = (unit, worth)
    for names, (unit, worth) in OTHERS.items():
        table |= {name: (unit, Fraction(worth)) for name in names.split()}
    return table


WORTH = _worths()

# What may be a unit without a text command around it: nothing that is also a product of common variables.
LONG_UNITS = frozenset(
    name + plural
    for name in (*WORTH, *SHAPED, *IRREGULAR, *SCALES, *PERCENT, "per", "square", "cubic", "sq", "cu", "base")
    for plural in ("", "s", "es")
    if len(name) > 2 and name.islower()
) | set(words("mm cm km in ft yd mi hr kg mg lb lbs oz ml kw hz mw gb mb kb"))

LETTER_UNITS = frozenset(name for name in WORTH if len(name) == 1)


@dataclass(frozen=True)
class Unit:
    """What the words behind a value say; `nothing` where they say nothing about its dimension."""

    dims: dict[str, int] = field(default_factory=dict)  # unit of reference or noun: power
    factor: Fraction = Fraction(1)  # worth in units of reference
    scale: Fraction = Fraction(1)  # of its words of scale: a million
    percent: bool = False
    base: int | None = None  # "base 8"

    @property
    def nothing(self) -> bool:
        """Whether it names no dimension."""
        return not self.dims


def agree(ours: Unit, theirs: Unit) -> bool:
    """Tells whether both can be of one quantity: 5 red apples and 5 apples can, 5 km and 5 kg cannot."""
    if ours.nothing or theirs.nothing or ours.dims == theirs.dims:
        return True
    known = [
        {name: power for name, power in unit.dims.items() if not name.startswith("noun ")} for unit in (ours, theirs)
    ]
    nouns = [unit.dims.keys() - own.keys() for unit, own in zip((ours, theirs), known, strict=True)]
    return (
        known[0] == known[1]
        and bool(nouns[0] <= nouns[1] or nouns[1] <= nouns[0])
        and bool(known[0] or nouns[0] & nouns[1])
    )


def singular(word: str) -> str:
    """The form of a noun that both numbers share."""
    low = IRREGULAR.get(word.lower(), word.lower())
    for ending, other in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("xes", "x"), ("sses", "ss")):
        if low.endswith(ending) and len(low) > 4:
            return low.removesuffix(ending) + other
    return low.removesuffix("s") if len(low) > 2 and not low.endswith(("ss", "us")) else low


def looked_up(word: str) -> tuple[str, Fraction] | None:
    """The unit of reference of a written unit; letter case counts in symbols (mW, MW), not in names."""
    for form in (word, word.lower() if len(word) > 2 else word, singular(word) if len(word) > 2 else word):
        if form in WORTH:
            return WORTH[form]
    return None


def read_unit(words: Sequence[str]) -> Unit:
    """Reads the words behind a value, as ["square", "km", "/", "h"]; "^2" raises the word before it."""
    dims: dict[str, int] = {}
    factor, scale = Fraction(1), Fraction(1)
    percent, base, sign, power = False, None, 1, 1
    last: tuple[str, Fraction, int] | None = None
    queue = (
        " ".join(SHAPED.get(word.lower(), word) for word in words)
        .replace("in total", "")
        .replace("per cent", "percent")
        .split()
    )
    for place, word in enumerate(queue):
        low = word.lower()
        if word.startswith("^") or low in ("squared", "cubed"):
            more = (int(word[1:]) if word.startswith("^") else RAISED[low]) - 1
            if last is not None:
                dims[last[0]] = dims.get(last[0], 0) + more * last[2]
                factor *= last[1] ** (more * last[2])
        elif low in RAISED:
            power = RAISED[low]
        elif low in ("per", "/"):
            sign = -1
        elif low in PERCENT:
            percent = True
        elif low == "base" and place + 1 < len(queue) and queue[place + 1].isdigit():
            base = int(queue[place + 1])
        elif singular(low) in SCALES and sign == 1:
            scale *= SCALES[singular(low)]
        elif low not in EMPTY and singular(low) not in EMPTY and not word.isdigit():
            unit, worth = looked_up(word) or (f"noun {singular(low)}", Fraction(1))
            last = (unit, worth, sign)
            dims[unit] = dims.get(unit, 0) + sign * power
            factor *= worth ** (sign * power)
            sign, power = (sign, 1) if sign == 1 else (1, 1)
    dims = {name: count for name, count in dims.items() if count}
    if dims.keys() & {"celsius", "fahrenheit"}:
        dims.pop("degree", None)
    return Unit(dims, factor, scale, percent, base)


def number_in_words(text: str) -> int | None:
    """Reads a number up to 99, or so many millions, in English words; None where the text is none."""
    parts = re.split(r"[\s-]+", text.strip().lower())
    if len(parts) > 1 and singular(parts[-1]) in SCALES:
        count = number_in_words(" ".join(parts[:-1]))
        return None if count is None else int(count * SCALES[singular(parts[-1])])
    if len(parts) == 1 and parts[0] in SMALL:
        return SMALL[parts[0]]
    if len(parts) == 2 and SMALL.get(parts[0], 0) >= 20 and 0 < SMALL.get(parts[1], 0) < 10:
        return SMALL[parts[0]] + SMALL[parts[1]]
    return None


SMALL = {
    word: value
    for value, word in enumerate(
        words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        )
    )
} | {
    word: 10 * value
    for value, word in enumerate(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=3)
}
