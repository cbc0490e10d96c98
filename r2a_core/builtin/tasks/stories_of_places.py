"""Word problems about places where things come and go, about shops, and about packs of equal size."""

from random import Random

from r2a_core.builtin.tasks.story import StoryProblem
from r2a_core.builtin.tasks.sums import Of, Sum
from r2a_core.builtin.tasks.writing import NAMES, capital, say

PLACES = (  # opening, who, those who come, those who go, question
    (
        "A bus leaves the station with {n} passengers.",
        "passengers",
        ("{k} more get on at the {stop}", "at the {stop} {k} people board the bus"),
        ("{k} get off at the {stop}", "at the {stop} {k} people leave the bus"),
        "on the bus",
    ),
    (
        "There are {n} ducks on a pond.",
        "ducks",
        ("{k} more land on the water", "{k} ducks swim over from the river"),
        ("{k} of them fly away", "{k} ducks waddle into the grass"),
        "on the pond",
    ),
    (
        "A parking lot holds {n} cars in the morning.",
        "cars",
        ("{k} more cars drive in before noon", "{k} cars arrive after lunch"),
        ("{k} cars leave", "{k} cars drive away early"),
        "in the parking lot",
    ),
    (
        "A library shelf has {n} books.",
        "books",
        ("the librarian adds {k} new books", "{k} books are returned"),
        ("visitors borrow {k} of the books", "{k} old books are thrown out"),
        "on the shelf",
    ),
    (
        "A baker puts {n} rolls on the counter.",
        "rolls",
        ("{k} fresh rolls come out of the oven", "the baker adds {k} more rolls"),
        ("a customer buys {k} rolls", "{k} rolls are sold before noon"),
        "on the counter",
    ),
    (
        "A hotel has {n} guests on Monday.",
        "guests",
        ("{k} new guests check in", "a group of {k} guests arrives"),
        ("{k} guests check out", "a family of {k} goes home"),
        "in the hotel",
    ),
    (
        "A tank contains {n} liters of water.",
        "liters",
        ("rain adds {k} liters", "a pump fills in {k} liters more"),
        ("the garden takes {k} liters", "{k} liters leak out"),
        "in the tank",
    ),
)

STOPS = ["market", "school", "church", "park", "bridge", "museum", "harbor", "hospital"]


def place(rng: Random) -> StoryProblem:
    """Draws a story about a place where things come and go."""
    opening, unit, comes, goes, where = rng.choice(PLACES)
    start, sums = rng.randint(5, 30), []
    parts = [opening.format(n=start)]
    for number, stop in enumerate(rng.sample(STOPS, rng.choice((2, 2, 3)))):
        operator = rng.choice("+-")
        k = rng.randint(2, 9)
        event = say(rng, comes if operator == "+" else goes, k=k, stop=stop)
        sums.append(Sum(Of(number - 1) if number else start, operator, k, event, unit))
        opening = rng.choice(("", "Then ", "After that ", "A little later ")) if number else ""
        parts.append((opening + event if opening else capital(event)) + ".")
    ask = f"How many {unit} are {where} {rng.choice(('now', 'at the end', 'after all this'))}?"
    return StoryProblem(" ".join(parts), ask, f"number of {unit} {where} at the end", tuple(sums), "place")


GOODS = ["pens", "apples", "books", "cups", "plates", "roses", "tickets", "candles", "bottles", "cakes"]


PRICES = (
    "{n} {goods} at {each} dollars each are bought",
    "the {goods} cost {each} dollars each, and it takes {n}",
    "one of the {goods} is {each} dollars, so {n} are {n} times that",
    "there are {n} {goods} for {each} dollars apiece",
)


BILLS = ("the {a} and the {b} are paid together", "both amounts belong to one bill", "I add the {a} and the {b}")


PURCHASES = (
    "{name} buys {p} {first} for {a} dollars each and {q} {second} for {b} dollars each.",
    "At a shop, {name} takes {p} {first} at {a} dollars apiece and {q} {second} at {b} dollars apiece.",
    "{name} needs {p} {first} and {q} {second}. The {first} cost {a} dollars each, the {second} {b}.",
)

BILL_ASKS = ("How many dollars does {name} pay?", "What does {name} pay in dollars?", "What is the bill?")


def bought_at(rng: Random, n: int, goods: str, each: int) -> str:
    """Says what is to be paid of one kind of goods."""
    return say(rng, PRICES, n=n, goods=goods, each=each)


def shopping(rng: Random) -> StoryProblem:
    """Draws a purchase of two kinds of goods, perhaps with change or a discount."""
    name = rng.choice(NAMES)
    first, second = rng.sample(GOODS, 2)
    p, a, q, b = rng.randint(2, 5), rng.randint(2, 9), rng.randint(2, 5), rng.randint(2, 9)
    sums = [
        Sum(p, "*", a, bought_at(rng, p, first, a), "dollars"),
        Sum(q, "*", b, bought_at(rng, q, second, b), "dollars"),
        Sum(Of(0), "+", Of(1), say(rng, BILLS, a=first, b=second), "dollars"),
    ]
    bought = say(rng, PURCHASES, name=name, p=p, first=first, a=a, q=q, second=second, b=b)
    total = p * a + q * b
    kind = rng.choice(("total", "change", "discount"))
    if kind == "change":
        paid = next(note for note in (20, 50, 100) if note > total)
        sums.append(Sum(paid, "-", Of(2), f"{name} pays with {paid} dollars", "dollars"))
        story = f"{bought} {name} pays with {paid} dollars."
        return StoryProblem(story, "How much change is due?", "change in dollars", tuple(sums), "shopping")
    if kind == "discount":
        off = rng.randint(2, 5)
        sums.append(Sum(Of(2), "-", off, f"a coupon takes off {off} dollars", "dollars"))
        bought += f" A coupon takes {off} dollars off."
    return StoryProblem(bought, say(rng, BILL_ASKS, name=name), "price in dollars", tuple(sums), "shopping")


PACKS = (
    ("boxes", "pencils"),
    ("bags", "oranges"),
    ("rows", "chairs"),
    ("trays", "eggs"),
    ("shelves", "jars"),
    ("tables", "guests"),
    ("pages", "photos"),
    ("baskets", "apples"),
)


GROUPS = (
    "There are {p} {holders} of {a} {things} each.",
    "A worker brings {p} {holders}, each with {a} {things}.",
    "Somebody counts {p} {holders}, and every one has {a} {things}.",
)

GROUPS_ON = (
    "There are {p} {holders} with {a} {things} on each.",
    "In a hall stand {p} {holders}, each with {a} {things}.",
    "Somebody counts {p} {holders}, and every one has {a} {things}.",
)


def packs(rng: Random) -> StoryProblem:
    """Draws equal groups from which some are taken, then perhaps shared."""
    holders, things = rng.choice(PACKS)
    p, a = rng.randint(2, 5), rng.randint(2, 9)
    k = rng.randint(2, 9)
    grows = rng.random() < 0.35
    changed = f"{k} more {things} are added" if grows else f"{k} {things} are taken away"
    sums = [
        Sum(p, "*", a, f"there are {p} {holders} with {a} {things} each", things),
        Sum(Of(0), "+" if grows else "-", k, changed, things),
    ]
    templates = GROUPS_ON if holders in ("tables", "shelves", "pages") else GROUPS
    story = say(rng, templates, p=p, holders=holders, a=a, things=things)
    story += f" {k} more {things} are added." if grows else f" Then {k} {things} are taken away."
    left = p * a + (k if grows else -k)
    divisors = [d for d in (2, 3, 4, 5) if left > 0 and left % d == 0]
    if divisors and rng.random() < 0.5:
        d = rng.choice(divisors)
        sums.append(Sum(Of(1), "/", d, f"the {things} form {d} equal groups", things))
        story += f" All {things} that are there now form {d} equal groups."
        return StoryProblem(story, "How many are in each group?", "size of a group", tuple(sums), "packs")
    return StoryProblem(story, f"How many {things} are there now?", f"number of {things}", tuple(sums), "packs")
