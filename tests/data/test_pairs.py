"""The committed table of comparison pairs: form, balance, no repeats; what arithmetic decides is computed again."""

import calendar
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from r2a_core.data.items import Item, items_frame
from r2a_core.data.pairs import load_pairs, pair_items, read_pairs
from r2a_core.infra.errors import R2AError

TABLE = Path(__file__).resolve().parents[2] / "r2a_core" / "data" / "object_comparison_pairs.csv"
FORM = re.compile(r"Considering ([^:?,]+), which is ([a-z]+): ([A-Za-z]+|\d{1,2}) or ([A-Za-z]+|\d{1,2})\?")
COMPUTED_DOMAINS = {"arithmetic", "number theory", "algebra", "combinatorics", "statistics", "numerals", "order"}


class Question(NamedTuple):
    """One side of a pair, taken apart."""

    context: str
    comparator: str
    options: tuple[str, str]
    answer: str


class Pair(NamedTuple):
    case_id: str
    a: Question
    b: Question
    domain: str

    @property
    def kind(self) -> str:
        answers = {self.a.answer, self.b.answer}
        if answers == {"yes", "no"}:
            return "yes/no"
        return "numeric" if all(answer.isdigit() for answer in answers) else "word"


def question(text: str, answer: str) -> Question:
    match = FORM.fullmatch(text)
    assert match is not None, text
    context, comparator, first, second = match.groups()
    return Question(context, comparator, (first, second), answer)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    loaded = load_pairs(TABLE)
    assert loaded.rejected == []
    return [
        Pair(
            one.pair_id,
            question(one.clean_question, one.clean_answer),
            question(one.corrupted_question, one.corrupted_answer),
            one.domain,
        )
        for one in loaded.items
    ]


def test_only_the_context_differs_the_answer_flips_and_no_question_is_asked_twice(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert (pair.a.comparator, pair.a.options) == (pair.b.comparator, pair.b.options), pair
        assert pair.a.context != pair.b.context, pair
        assert {pair.a.answer, pair.b.answer} == set(pair.a.options), pair
        assert pair.a.answer != pair.b.answer, pair
    sides = [side for pair in pairs for side in (pair.a, pair.b)]
    assert len({(side.context.lower(), side.comparator, frozenset(side.options)) for side in sides}) == len(sides)
    correct = [side.context for side in sides if side.comparator == "correct"]
    assert len(set(correct)) == len(correct)


def test_table_holds_enough_pairs_of_each_kind_in_many_domains_and_either_order(pairs: list[Pair]) -> None:
    kinds = Counter(pair.kind for pair in pairs)
    assert kinds["numeric"] >= 50
    assert kinds["yes/no"] >= 40
    assert kinds["word"] >= 120
    assert len({pair.domain for pair in pairs}) >= 20
    assert [pair.case_id for pair in pairs] == [str(number) for number in range(len(pairs))]
    early = Counter(pair.kind for pair in pairs[:60])  # any prefix is a mixture
    assert (len(early), min(early.values()) >= 5) == (3, True)
    for kind in kinds:  # the clean answer stands first about half of the time
        chosen = [pair for pair in pairs if pair.kind == kind]
        first = sum(pair.a.answer == pair.a.options[0] for pair in chosen)
        assert 0.45 <= first / len(chosen) <= 0.55, (kind, first, len(chosen))
    numeric = [pair for pair in pairs if pair.kind == "numeric"]
    assert 0.4 <= sum(int(pair.a.answer) > int(pair.b.answer) for pair in numeric) / len(numeric) <= 0.6


def bare(text: str) -> str:
    """Words of a question without articles and punctuation, for comparison across tables."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    filler = {"considering", "the", "a", "an", "of", "claim", "that", "number", "count", "which", "is"}
    return " ".join(sorted(word for word in words if word not in filler))


def test_no_question_is_the_published_table_s(reference: Path) -> None:
    theirs, ours = (
        {bare(text) for pair in load_pairs(path).items for text in (pair.clean_question, pair.corrupted_question)}
        for path in (reference / "object_comparison_pairs_103.csv", TABLE)
    )
    assert len(theirs) > 190
    assert bare("Considering the sides of a triangle, which is correct: 4 or 3?") in theirs
    assert not ours & theirs


def test_pairs_come_back_from_a_dataset_as_they_were(tmp_path: Path) -> None:
    loaded = load_pairs(TABLE)
    items_frame(pair_items(loaded.items)).write_parquet(tmp_path / "pairs.parquet")
    assert read_pairs(tmp_path / "pairs.parquet") == loaded.items


# Facts that arithmetic, spelling or the calendar decide, by the context's words; each returns the answer as text.
ROMAN = {"I": 1, "V": 5, "X": 10}
RADIX = {"octal": 8, "hexadecimal": 16}
MORSE = {"S": "...", "H": "....", "O": "---"}
SIDES = {"decagon": 10, "dodecagon": 12}
NUMBER_WORDS = {"two": 2, "three": 3, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
PLANETS = ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"]
ELEMENTS = ["hydrogen", "helium", "lithium", "beryllium", "boron", "carbon", "nitrogen", "oxygen", "fluorine", "neon"]
RANKS = [PLANETS, ELEMENTS, list(calendar.month_name), list(calendar.day_name), list(NUMBER_WORDS)]


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def primes_below(limit: int) -> list[int]:
    return [n for n in range(2, limit) if len(divisors(n)) == 2]


def roman(numeral: str) -> int:
    values = [ROMAN[letter] for letter in numeral] + [0]
    return sum(-v if v < after else v for v, after in pairwise(values))


def month_count(days: int) -> int:
    return sum(calendar.monthrange(2023, month)[1] == days for month in range(1, 13))


RULES: dict[str, Callable[..., object]] = {
    r"the product of (\d+) and (\d+)": lambda a, b: a * b,
    r"the remainder of (\d+) divided by (\d+)": lambda a, b: a % b,
    r"the square root of (\d+)": lambda a: math.isqrt(a),
    r"the cube root of (\d+)": lambda a: round(a ** (1 / 3)),
    r"the value of (\d+) to the power (\d+)": lambda a, b: a**b,
    r"the difference of (\d+) and (\d+)": lambda a, b: a - b,
    r"the quotient of (\d+) and (\d+)": lambda a, b: a // b,
    r"the last digit of (\d+) times (\d+)": lambda a, b: a * b % 10,
    r"the absolute value of minus (\d+)": lambda a: abs(-a),
    r"half of (\d+)": lambda a: a // 2,
    r"(\d+)\.(\d) rounded to a whole number": lambda a, b: round(a + b / 10),
    r"the sum of the digits of (\d+)": lambda a: sum(map(int, str(a))),
    r"the greatest common divisor of (\d+) and (\d+)": math.gcd,
    r"the least common multiple of (\d+) and (\d+)": math.lcm,
    r"the number of divisors of (\d+)": lambda a: len(divisors(a)),
    r"the largest prime number below (\d+)": lambda a: primes_below(a)[-1],
    r"the smallest prime factor of (\d+)": lambda a: divisors(a)[1],
    r"the number of prime numbers below (\d+)": lambda a: len(primes_below(a)),
    r"the solution of x plus (\d+) equals (\d+)": lambda a, b: b - a,
    r"the solution of (\d+) times x equals (\d+)": lambda a, b: b // a,
    r"the base (\d+) logarithm of (\d+)": lambda a, b: round(math.log(b, a)),
    r"the factorial of (\d+)": math.factorial,
    r"the number of ways to choose (\d+) items from (\d+)": lambda a, b: math.comb(b, a),
    r"the mean of (\d+) and (\d+)": lambda a, b: (a + b) // 2,
    r"the median of (\d+) and (\d+) and (\d+)": lambda *values: statistics.median(values),
    r"the decimal value of binary (\d+)": lambda a: int(str(a), 2),
    r"the decimal value of hexadecimal (\w)": lambda a: int(a, 16),
    r"the logical OR of (\d) and (\d)": lambda a, b: a | b,
    r"the logical AND of (\d) and (\d)": lambda a, b: a & b,
    r"the number of bytes in a (\d+) bit integer": lambda a: a // 8,
    r"the number of letters in the word (\w+)": len,
    r"the number of vowels in the word (\w+)": lambda word: sum(letter in "aeiou" for letter in word),
    r"the alphabet position of the letter (\w)": lambda letter: ord(letter) - ord("A") + 1,
    r"the Roman numeral (\w+)": roman,
    r"the number of zeros in one (million|thousand) .*": lambda w: {"million": 6, "thousand": 3}[w],
    r"the number of (?:dots|dashes) in the Morse code for (\w)": lambda letter: len(MORSE[letter]),
    r"the number of diagonals of a (square|regular pentagon)": lambda s: {"s": 2, "r": 5}[s[0]],
    r"the number of sides of a (\w+)": SIDES.__getitem__,
    r"the month number of (\w+)": lambda name: list(calendar.month_name).index(name),
    r"the number of months with exactly (\d+) days": month_count,
    r"the century of the year (\d+)": lambda year: (year - 1) // 100 + 1,
    r"the number of (\d+) cent coins that make one euro": lambda a: 100 // a,
    r"the number of sets needed to win a best of (three|five) .*": lambda w: {"three": 3, "five": 5}[w] // 2 + 1,
    r"the rank of (\w+) by distance from the Sun": lambda name: PLANETS.index(name) + 1,
    r"the atomic number of (\w+)": lambda name: ELEMENTS.index(name) + 1,
    r"the parity of (\d+)": lambda a: "odd" if a % 2 else "even",
    r"the kind of number that (\d+) is": lambda a: "prime" if len(divisors(a)) == 2 else "composite",
    r"the claim that (\d+) is a prime number": lambda a: "yes" if len(divisors(a)) == 2 else "no",
    r"the claim that (\d+) is divisible by (\d+)": lambda a, b: "no" if a % b else "yes",
    r"the claim that the year (\d+) was a leap year": lambda a: "yes" if calendar.isleap(a) else "no",
    r"the claim that pi is larger than (\d)": lambda a: "yes" if math.pi > a else "no",
    r"the result (\d+) from (\d+) and (\d+)": lambda r, a, b: {a * b: "product", a + b: "sum"}[r],
    r"the number of bits in one (octal|hexadecimal) digit": lambda base: RADIX[base].bit_length() - 1,
    r"the trigonometric function with value (\d) at angle 0": lambda v: "cosine" if math.cos(0) == v else "sine",
    r"an angle of (\d+) degrees": lambda angle: "acute" if angle < 90 else "obtuse",
    r"the sign of minus (\d+) times (minus |)(\d+)": lambda a, minus, b: "positive" if minus else "negative",
    r"an anagram of the word (\w+)": lambda word: {"eilnst": "silent", "aehrt": "heart"}["".join(sorted(word))],
}
# Comparisons of the two options by a measure: context -> measure of one option.
MEASURES: dict[tuple[str, str], Callable[[str], object]] = {
    ("larger", "the number of divisors"): lambda o: len(divisors(int(o))),
    ("larger", "the sum of the digits"): lambda o: sum(map(int, o)),
    ("larger", "the value"): int,
    ("larger", "the reciprocal"): lambda o: 1 / int(o),
    ("larger", "the square"): lambda o: int(o) ** 2,
    ("larger", "the number of letters"): len,
    ("larger", "the number of letters in the name"): len,
    ("longer", "the number of letters in the name"): len,
    ("larger", "the numeric value"): NUMBER_WORDS.__getitem__,
    ("first", "numeric order"): lambda o: int(o) if o.isdigit() else NUMBER_WORDS[o],
    ("first", "the order of text compared character by character"): str,
    ("first", "alphabetical order"): str.lower,
}
ORDERS = {"calendar order", "the order of the working week", "the order of atomic numbers"}
ORDERS |= {"the order of planets from the Sun"}


def computed(side: Question) -> str | None:
    """The answer by computation; None when the question is one of general knowledge."""
    measure = MEASURES.get((side.comparator, side.context))
    if side.context in ORDERS:
        ranking = next(names for names in RANKS if set(side.options) <= set(names))
        measure = ranking.index
    if measure is not None:
        assert measure(side.options[0]) != measure(side.options[1]), side
        choose = min if side.comparator == "first" else max
        return choose(side.options, key=measure)  # type: ignore[arg-type]
    for pattern, rule in RULES.items():
        match = re.fullmatch(pattern, side.context)
        if match is not None:
            return str(rule(*[int(group) if group.isdigit() else group for group in match.groups()]))
    return None


def test_answers_that_arithmetic_decides_are_right(pairs: list[Pair]) -> None:
    checked = 0
    for pair in pairs:
        results = [computed(pair.a), computed(pair.b)]
        for side, result in zip((pair.a, pair.b), results, strict=True):
            assert result in (None, side.answer), (side, result)
            checked += result is not None
        if pair.domain in COMPUTED_DOMAINS:
            assert None not in results, pair
    assert checked >= 140
    contexts = [side.context for pair in pairs for side in (pair.a, pair.b)]
    assert all(any(re.fullmatch(pattern, context) for context in contexts) for pattern in RULES), "a rule is not used"


def test_the_published_table_is_imported_whole(reference: Path) -> None:
    loaded = load_pairs(reference / "object_comparison_pairs_103.csv")
    assert loaded.rejected == []
    assert len(loaded.items) == 103
    first = loaded.items[0]
    expected = ("0", "Pacific", "Atlantic", "larger")
    assert (first.pair_id, first.clean_answer, first.corrupted_answer, first.comparator) == expected
    items = pair_items(loaded.items)
    assert [item.item_id for item in items[:2]] == ["0-clean", "0-corrupted"]
    by_id = {pair.pair_id: pair for pair in loaded.items}
    assert by_id["84"].corrupted_answer == "true", "a spreadsheet made TRUE of it"
    assert by_id["196"].comparator == "correct", "the question only asks: which is: cat or dog?"


def test_a_dataset_without_pairs_is_named(tmp_path: Path) -> None:
    items_frame([Item("a", "1+1?", "2", "math"), Item("b", "1+2?", "3", "math")]).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(R2AError, match="holds no pairs of questions") as caught:
        read_pairs(tmp_path / "d.parquet")
    assert "set run.pairs to a dataset of kind generated_pairs" in caught.value.hint
