"""The small invented world that the built-in questions are about: names, places, and ranks of things by context.

Ranks run from 1 (least) to 9 (most). They are plausible, not measured; the built-in models memorise them.
"""

from dataclasses import dataclass

NAMES = ("Ana", "Eva", "Mia", "Zoe", "Ida", "Lea", "Nora", "Rosa")

OBJECTS = ("coins", "shells", "beads", "cards", "stones", "nuts")

PLACES = ("park", "mill", "inn", "lake", "fair", "port", "barn", "school", "bridge", "church", "tower", "market")


@dataclass(frozen=True)
class Context:
    """One context of a domain: how questions name it, and the rank of each thing in it."""

    phrase: str
    ranks: dict[str, int]  # by thing, 1..9


@dataclass(frozen=True)
class Domain:
    """Things, the contexts they are compared in, and two comparators: (asks for the lower rank, for the higher)."""

    name: str
    things: tuple[str, ...]
    contexts: dict[str, Context]
    comparators: tuple[str, str]

    def rank(self, context: str, thing: str) -> int:
        return self.contexts[context].ranks[thing]

    def lower(self, comparator: str) -> bool:
        """Checks whether the comparator asks for the lower rank."""
        return comparator == self.comparators[0]


def table(name: str, comparators: tuple[str, str], phrases: dict[str, str], rows: dict[str, str]) -> Domain:
    """Parses a domain from rows `thing: one digit per context`."""
    contexts = {
        context: Context(phrase, {thing: int(digits[column]) for thing, digits in rows.items()})
        for column, (context, phrase) in enumerate(phrases.items())
    }
    return Domain(name, tuple(rows), contexts, comparators)


ANIMALS = table(
    "animals",
    ("slower", "faster"),
    {"water": "speed in water", "land": "speed on land", "snow": "speed in snow"},
    {
        "otter": "746",
        "swan": "532",
        "horse": "497",
        "goat": "258",
        "seal": "923",
        "wolf": "389",
        "crab": "621",
        "hare": "187",
        "duck": "652",
        "toad": "435",
        "moose": "578",
        "fox": "274",
        "newt": "811",
        "bear": "466",
        "lynx": "369",
        "mule": "164",
    },
)

FRUITS = table(
    "fruits",
    ("cheaper", "dearer"),
    {"spring": "price in spring", "summer": "price in summer", "winter": "price in winter"},
    {
        "apple": "723",
        "fig": "869",
        "plum": "938",
        "pear": "642",
        "grape": "457",
        "lemon": "281",
        "melon": "915",
        "peach": "576",
        "mango": "364",
        "olive": "192",
        "cherry": "318",
        "date": "547",
        "lime": "479",
        "guava": "186",
        "kiwi": "653",
        "orange": "295",
    },
)

DOMAINS = (ANIMALS, FRUITS)
