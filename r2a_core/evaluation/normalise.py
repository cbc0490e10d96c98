r"""How an answer is written, apart from its value: signs, spacing, thousands, words.

Text of a boxed or a reference answer -> tidied LaTeX or a word key. Only string work happens
here; nothing is parsed as an expression and nothing is evaluated.
"""

import re
import unicodedata

MAX_LENGTH = 1000  # characters; the longest reference answer of MATH-500 has 159

MAX_NESTING = 30  # brackets of any kind inside one another

MAX_TOWER = 2  # powers inside one another: 2^{2^3} is 2 of them

TEXT = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|mathbf|mathit|operatorname|emph|underline)\s*\{([^{}]*)\}"

ELLIPSIS = re.compile(r"\\[lcdv]?dots\b|\\dots[a-z]\b|\.\.\.|…")

SIGNS = {  # LaTeX: the signs that stand for it
    "-": "−–‐﹣",
    "+": "＋",
    r"\times ": "×",
    r"\cdot ": "·⋅∙•",
    r"\div ": "÷",
    r"\pm ": "±",
    r"\mp ": "∓",
    r"\sqrt ": "√",
    r"\cbrt ": "∛",
    r"\infty ": "∞",
    r"^\circ ": "°º˚",
    r"^\circ C": "℃",
    r"^\circ F": "℉",
    r"\le ": "≤⩽",
    r"\ge ": "≥⩾",
    r"\ne ": "≠",
    r"\approx ": "≈",
    r"\equiv ": "≡",
    r"\in ": "∈",
    r"\cup ": "∪",
    r"\cap ": "∩",
    r"\setminus ": "∖",
    r"\emptyset ": "∅øØ",
    r"\mathbb{R}": "ℝ",
    r"\mathbb{Z}": "ℤ",
    r"\mathbb{N}": "ℕ",
    r"\mathbb{Q}": "ℚ",
    r"\mathbb{C}": "ℂ",
    r"\langle ": "⟨〈",
    r"\rangle ": "⟩〉",
    r"\lfloor ": "⌊",
    r"\rfloor ": "⌋",
    r"\lceil ": "⌈",
    r"\rceil ": "⌉",
    "|": "∣",
    "'": "′’",
    r"\land ": "∧",
    r"\lor ": "∨",
    "": "∠△\u200b\ufeff\u2060",
    "/": "⁄∕",
    "%": "％",
    ",": "，",
    ";": "；",
    ":": "：",
    "(": "（",
    ")": "）",
    "[": "［",
    "]": "］",
    "{": "｛",
    "}": "｝",
    "=": "＝",
    ".": "。",
    r"\text{ euro }": "€",
    r"\text{ pounds }": "£",
    r"\text{ yen }": "¥",
    r"\text{ rupee }": "₹",
    "u": "µμ",
    "i": "ⅈ",
    "e": "ⅇ",
}

UNICODE = {sign: latex for latex, signs in SIGNS.items() for sign in signs}

RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))

LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))

FONTS = r"\\(?:(?:display|text|script)style|bf|rm|it|(?:no)?limits|(?:measured)?angle|triangle)(?![a-zA-Z])"

PHRASES = {
    r"\mathbb{R}": "all real numbers, all reals, real numbers, the set of all real numbers, any real number",
    r"\emptyset": "no solution, no solutions, no real solution, no real solutions, empty set, no roots, no real roots",
    r"\infty": "infinity, positive infinity",
    r"-\infty": "negative infinity, minus infinity",
    "does not exist": "dne, does not exist, doesn't exist",
}  # fmt: skip

MEANING = {words.strip(): meaning for meaning, listed in PHRASES.items() for words in listed.split(",")}

APPLIED = re.compile(r"\b(?:sin|cos|tan|cot|sec|csc|arc\w+|ln|log|exp|sqrt|cbrt|abs|min|max|gcd|lcm)\s*[(\d]")

FRACTION_OF_UNITS = re.compile(rf"(?<=[\d}}) ,])\\frac\s*\{{\s*({TEXT})\s*\}}\s*\{{\s*({TEXT}(?:\^\d)?)\s*\}}")

LABEL = re.compile(
    r"(?:(?:the )?(?:final )?answer(?: is)?:?|solutions?:|result:|total:|therefore,?|so,?)\s*(?=\S|$)", re.IGNORECASE
)


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
    """Writes one thing in one way: plain spaces, LaTeX signs, no maths marks, sizes of brackets or final full stop."""
    text = _without_marks(_latex_signs(text))
    text = re.sub(r"\\(?:left|right|middle|big|Big|bigg|Bigg)[lrm]?(?![a-zA-Z])\s*\.?", "", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text))
    text = (
        text.replace(r"\varnothing", r"\emptyset").replace(r"\mathbb R", r"\mathbb{R}").replace(r"\R ", r"\mathbb{R}")
    )
    text = re.sub(rf"^\s*{TEXT}", lambda label: "" if _is_label(label[1].strip()) else label[0], text)
    text = FRACTION_OF_UNITS.sub(r" \1/\3", text)
    text = LABEL.sub("", text, count=1) if LABEL.match(text.strip()) else text
    text = re.sub(r"\s*\\text\s*\{\s*out of\s*\}\s*|(?<=\d) out of (?=\d)", "/", text)
    text = re.sub(r"\(\s*([a-zA-Z]\s*\\in\s*[^()]*)\)$", r", \1", re.sub(r"^\s*(?:\\approx|\\sim|=)\s*", "", text))
    text = _numbers(text)
    text = re.sub(r"(?<!\\)\\[,;: \n]|\\q?quad(?![a-zA-Z])|~|\s+", " ", text)
    return re.sub(r"(?<![.])[.,;]\s*$|(?<!\\)\\$", "", text.strip()).strip()


def _is_label(text: str) -> bool:
    """Tells whether words only introduce the answer."""
    return text.endswith((":", "=")) or LABEL.fullmatch(text) is not None


def _latex_signs(text: str) -> str:
    """Replaces unicode signs by LaTeX: superscripts, fractions, Greek letters, spaces of any width."""
    text = re.sub(f"[{''.join(RAISED)}]+", lambda run: "^{" + "".join(RAISED[sign] for sign in run[0]) + "}", text)
    text = re.sub(f"[{''.join(LOWERED)}]+", lambda run: "_{" + "".join(LOWERED[sign] for sign in run[0]) + "}", text)
    return "".join(sign if sign.isascii() else _latex_sign(sign) for sign in text)


def _latex_sign(sign: str) -> str:
    if sign in UNICODE:
        return UNICODE[sign]
    if unicodedata.category(sign) == "Zs":
        return " "
    name = unicodedata.name(sign, "")
    if name.startswith("VULGAR FRACTION"):
        return r"\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign).split("⁄"))
    if name.startswith("GREEK") and "LETTER" in name and "WITH" not in name:
        letter = name.split()[-1].lower()
        return "\\" + (letter if "SMALL" in name else letter.capitalize()) + " "
    plain = unicodedata.normalize("NFKC", sign)  # full-width digits, mathematical letters
    return plain if plain.isascii() else sign


def _without_marks(text: str) -> str:
    """Drops what marks mathematics, emphasis or a box around the answer; a dollar sign stays where it is money."""
    text = text.strip()
    while marked := re.fullmatch(
        r"(\*{1,3}|__|`+|_|\$\$?)(?=[^\s*_`$])(.*[^\s*_`$\\])\1|\\(?:boxed|fbox)\s*\{(.*)\}", text, re.DOTALL
    ):
        inner = marked[2] or marked[3] or ""
        if refusal(inner) or (marked[1] in ("*", "_", "**", "***") and marked[1] in inner):
            break
        text = inner.strip()
    if not re.match(r"\s*\$\s*[\d.]", text):
        text = re.sub(r"(?<!\\)\$(?!\s*\d[\d,.]*\s*$)(?<!\d\$)|(?<!\\)\\[()\[\]](?!\d*pt)", "", text)
    text = re.sub(r"^\\\$\s*(.*)\\\$$", r"\1", text)
    return re.sub(FONTS, "", text)


def _numbers(text: str) -> str:
    """Writes numbers in one way: no signs between thousands, a point before decimals, repeating ones as a fraction."""
    text = re.sub(
        r"(?<=\d)\s*(?:\\!|\{\\!\})*\s*(?:\{,\}|,\\!|\\,|\\ (?=\d)|\\;|\\:|~|,\{\})\s*(?:\\!)?(?=\d{3}(?!\d))",
        _thousands_mark,
        text,
    )
    text = re.sub(r"(?<!\\)\\!", "", text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)
    pattern = r"(?<![\d.,_^])(?<!\d )([1-9]\d{0,2})((?:@\d{3})+)(?![\d]|[ ,]\d{3}(?!\d))(?!\s*/\s*\d)"
    for mark in (",", " "):
        text = re.sub(pattern.replace("@", mark), _joined, text)
    text = re.sub(
        r"(?<![\d.,'])\d{1,3}(?:(?:\.\d{3}){2,}|(?:'\d{3})+)(?![\d.,'])", lambda n: re.sub(r"\D", "", n[0]), text
    )
    text = re.sub(r"(?<![\d/.])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/.])", r"\1\\frac{\2}{\3}", text)
    return _fraction_of_repeating(text)


def _thousands_mark(mark: re.Match[str]) -> str:
    return "," if "," in mark[0] else " "


def _joined(found: re.Match[str]) -> str:
    """A number without its thousands marks; a lone pair in brackets as (1,234) stays a pair."""
    before, after = found.string[: found.start()].rstrip()[-1:], found.string[found.end() :].lstrip()[:1]
    pair = (
        before in ("(", "[", "{")
        and after in (")", "]", "}", "\\")
        and "," in found[2]
        and not found[2].startswith(",0")
    )
    power = found.string[: found.start()].rstrip().endswith("^{")
    return found[0] if pair and not power and len(found[2]) == 4 else found[1] + re.sub(r"\D", "", found[2])


def _fraction_of_repeating(text: str) -> str:
    r"""Writes 0.1\overline{6}, 0.1(6), 0.\dot{3} and 0.333... as the fractions they are."""

    def fraction(found: re.Match[str]) -> str:
        whole, fixed, cycle = found[1] or "0", found[2], found[3]
        below = 10 ** len(fixed) * (10 ** len(cycle) - 1)
        return rf"\frac{{{int(whole + fixed + cycle) - int(whole + fixed)}}}{{{below}}}"

    text = re.sub(r"(?<!\d)(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{?(\d+)\}?)", fraction, text)
    text = re.sub(r"(?<!\d)(\d+)\.(\d*)\((\d+)\)", fraction, text)
    return re.sub(r"(?<!\d)(\d+)\.(\d*?)(\d+?)\3\3+(?:\s*(?:\\[lc]?dots|\.\.\.|…))", fraction, text)


def is_words(text: str) -> bool:
    r"""Tells whether a tidied answer is words: all of it in \text or the like, or letters alone, three in a row."""
    bare = _unwrapped(text)
    if re.match(r"\s*[-+]?[\d$]", bare) or re.search(r"[=^\\<>_]", bare) or APPLIED.search(bare):
        return False
    outside = re.sub(TEXT, "", text)
    if outside != text and not re.search(r"[\w+-]", outside):
        return re.search(r"[^\W\d_]", bare) is not None and re.fullmatch(r"[\s()]*[A-Za-z][\s()]*", bare) is None
    return (
        re.fullmatch(r"[\w\s,.;'()-]+", bare) is not None
        and re.search(r"[^\W\d_]{3}|^\s*no\W*$", bare, re.IGNORECASE) is not None
    )


def word_key(text: str) -> str:
    r"""Reduces an answer in words to what equal answers share: "\text{The Otter}" -> "otter".

    Items of a list are put in order, unless one of them is repeated: then the list is a sequence.
    """
    parts = [re.sub(r"\W+", " ", part).strip().casefold() for part in re.split(r"[,;]|\band\b", _unwrapped(text))]
    parts = [re.sub(r"^(?:the|an?) (?=\w)", "", part) for part in parts if part]
    parts = [MEANING.get(part, part) for part in parts]
    return ", ".join(parts if len(set(parts)) < len(parts) else sorted(parts))


def phrase(text: str) -> str:
    """The mathematics that words stand for (all real numbers), else the text itself."""
    plain = re.sub(r"\s+", " ", _unwrapped(text)).strip().casefold().rstrip(".")
    return MEANING.get(plain, text)


def _unwrapped(text: str) -> str:
    """Replaces text commands by the plain letters in them."""
    return re.sub(TEXT, r" \1 ", text)
