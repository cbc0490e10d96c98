"""Real things, what is known of them, and the contexts in which one of two is the better, larger or cheaper.

things.toml -> DOMAINS. Values are rounded and typical: a difference counts only where the larger value exceeds the
smaller by the factor MARGIN, so that no source would turn a comparison round.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARGIN = 2.0

SCALES = (  # unit, factor, the other unit: 1500 grams are 1.5 kg, and 0.02 kg are 20 grams
    ("thousand ", 1000, "million "),
    ("million ", 1000, "billion "),
    ("grams", 1000, "kg"),
    ("kg", 0.001, "grams"),
)


@dataclass(frozen=True)
class Quality:
    """Something that can be measured of every thing of a domain."""

    name: str  # "weight"
    unit: str  # follows the value
    facts: tuple[str, ...]  # clauses with {t}, the thing, or {a}, with its article, and {v}, its value with unit
    more: str  # "heavier"
    less: str  # "lighter"
    purposes: tuple[tuple[str, bool], ...] = ()  # what one may want of a thing, and whether much of the quality serves

    def worded(self, value: float) -> str:
        """Words a value with its unit."""
        for unit, factor, other in SCALES:
            if self.unit.startswith(unit) and (value >= factor if factor > 1 else 0 < value < 1):
                return f"{value / factor:g} {other}{self.unit[len(unit) :]}"
        return f"{value:g} {self.unit}"


@dataclass(frozen=True)
class Context:
    """What a question considers: the quality that counts, and whether the first comparator asks for much of it."""

    phrase: str  # after "Considering"
    quality: str
    much: bool


@dataclass(frozen=True)
class Frame:
    """Two opposite comparators and the contexts that go with them."""

    comparators: tuple[str, str]
    contexts: tuple[Context, ...]


@dataclass(frozen=True)
class Domain:
    """Things of one kind with their values by quality."""

    name: str
    counted: bool  # "a car"; false: "rice"
    qualities: dict[str, Quality]
    frames: tuple[Frame, ...]
    values: dict[str, dict[str, float]]  # thing -> quality -> value

    @property
    def things(self) -> tuple[str, ...]:
        return tuple(self.values)

    def differ(self, quality: str, first: str, second: str) -> bool:
        """Checks whether two things clearly differ in a quality."""
        low, high = sorted((self.values[first][quality], self.values[second][quality]))
        return high > low and high >= MARGIN * low


def read_domain(name: str, table: Mapping[str, Any]) -> Domain:
    """Makes a domain of its table in things.toml."""
    qualities = {
        each["name"]: Quality(
            each["name"],
            each["unit"],
            tuple(each["facts"]),
            each["more"],
            each["less"],
            tuple((purpose, much) for purpose, much in each.get("purposes", ())),
        )
        for each in table["qualities"]
    }
    frames = tuple(
        Frame(tuple(frame["comparators"]), tuple(Context(*context) for context in frame["contexts"]))
        for frame in table["frames"]
    )
    values = {thing: dict(zip(qualities, row, strict=True)) for thing, row in table["values"].items()}
    return Domain(name, table["counted"], qualities, frames, values)


TABLES = tomllib.loads(Path(__file__).with_name("things.toml").read_text(encoding="utf-8"))

DOMAINS = tuple(read_domain(name, table) for name, table in TABLES.items())
