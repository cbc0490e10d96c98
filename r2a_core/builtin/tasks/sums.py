"""Chains of small sums, and how a trace and an answer tell them.

Input: Sums, whose operands are numbers or results of earlier sums. Output: a Solution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from r2a_core.builtin.tasks.writing import READ, WORDING, Line, Piece, Solution, capital, fill, result, say, write

WORDS = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}

CLAUSES = (": ", ", so ", ". So ", ". ", ", and ", " that ")  # before a sum that may be a clause, "4 plus 5 is 9"

LINES = (
    "{Event}, so {sum}.",
    "{Event}: {sum}.",
    "{Event}. That is {sum}.",
    "{Event}, which makes {sum}.",
    "{Event}. So now I have {sum}.",
    "Since {event}, I get {sum}.",
    "{Event}, and {sum}.",
    "{Event}. I compute {sum}.",
    "Given that {event}, it follows that {sum}.",
    "{Event}. This means {sum}.",
)

FIRST = (
    "First, {event}: {sum}.",
    "To start, {event}, so {sum}.",
    "I start with the fact that {event}. So {sum}.",
    "Step one: {event}. {sum}.",
    "Let me go in order. First {event}, so {sum}.",
)

NEXT = (
    "Then {event}, so {sum}.",
    "Next, {event}: {sum}.",
    "After that, {event}. So {sum}.",
    "Now {event}, which gives {sum}.",
    "The next thing is that {event}, so {sum}.",
)

LAST = (
    "Finally, {event}, so {sum}.",
    "In the last step, {event}: {sum}.",
    "What is left is that {event}. {sum}.",
    "At the end, {event}, and {sum}.",
)

CHECKS = {
    "+": (
        "Wait, let me check that: {c} - {b} = {a}, so it is right.",
        "Let me double-check: {b} + {a} = {c}. Yes.",
        "Wait, is {a} + {b} really {c}? {c} - {b} = {a}, so yes.",
        "Hmm, to double check the sum, {c} minus {b} is {a}. Fine.",
    ),
    "-": (
        "Wait, let me check: {c} + {b} = {a}. Good.",
        "To double-check, {c} + {b} gives {a} again, as it should.",
        "Wait, did I subtract correctly? {c} plus {b} is {a}, so yes.",
        "Alternatively, I count from {c} up to {a}: that is {b}. It fits.",
    ),
    "*": (
        "Alternatively, I can add {b} again and again, {a} times: {chain} = {c}. Same result.",
        "Wait, let me verify the product by adding: {chain} = {c}. Right.",
        "Let me double-check with repeated addition: {chain} = {c}. That matches.",
        "Alternatively, {b} * {a} = {c}, which is the same.",
    ),
    "/": (
        "Wait, let me check: {c} * {b} = {a}. Yes, that works.",
        "To double-check, {b} times {c} is {a}. Good.",
        "Alternatively, I ask which number times {b} makes {a}: it is {c}.",
    ),
}

SLIPS = (
    "{a} {op} {b} = {bad}. Wait, that is not right. {a} {op} {b} = {c}.",
    "I get {a} {op} {b} = {bad}. Hmm, no. Let me redo it: {a} {op} {b} = {c}.",
    "That is {bad}. Wait, I made a mistake there: {a} {op} {b} = {c}.",
    "So it is {bad}. Actually, wait: {a} {op} {b} is {c}, not {bad}.",
)

MISREADINGS = {
    "+": (
        "My first idea is to subtract {b}. Wait, {event}, so the number must grow.",
        "Should I take {b} away here? No, wait, {event}, so I have to add.",
    ),
    "-": (
        "My first idea is to add {b}. Wait, {event}, so the number must get smaller.",
        "Should I add {b} here? No, wait, {event}, so I have to subtract.",
    ),
    "*": (
        "I could just add {a} and {b}. Wait, that would be wrong: {event}, so I must multiply.",
        "Is it {a} + {b}? Wait, no: {event}, so it is a product.",
    ),
    "/": (
        "Should I subtract {b}? Wait, no: {event}, so I need to divide.",
        "Hmm, do I multiply by {b}? Wait, {event}, so it has to be a division.",
    ),
}

TOLD = {
    "+": (
        "adding {b} to {a} makes {c}",
        "{b} on top of {a} comes to {c}",
        "together, {a} and {b} amount to {c}",
        "an increase of {b} takes {a} up to {c}",
    ),
    "-": (
        "taking {b} from {a} leaves {c}",
        "without {b} of the {a}, there remain {c}",
        "a loss of {b} turns {a} into {c}",
        "{a} reduced by {b} is {c}",
    ),
    "*": (
        "{a} times over, {b} amounts to {c}",
        "multiplying {a} and {b} yields {c}",
        "{a} lots of {b} are {c}",
    ),
    "/": (
        "{a} in {b} equal parts is {c} each",
        "splitting {a} evenly by {b} yields {c}",
        "every one of {b} equal shares of {a} holds {c}",
    ),
}

TELLING = (
    ("To begin with, ", "From there, ", "In the end, "),
    ("First of all, ", "Following that, ", "Lastly, "),
    ("", "", ""),
    ("We see that ", "We also see that ", "This shows that "),
    ("Initially, ", "Afterwards, ", "To finish, "),
)


@dataclass(frozen=True)
class Of:
    """The result of an earlier sum, as an operand."""

    number: int


@dataclass(frozen=True)
class Sum:
    """One sum of a chain: a clause that tells why it is made, and a noun for what comes out."""

    left: int | Of
    operator: str  # + - * /
    right: int | Of
    event: str  # a clause without a full stop
    unit: str = ""


def calculate(left: int, operator: str, right: int) -> int:
    """Returns the result of one sum; divisions leave no rest."""
    return {"+": left + right, "-": left - right, "*": left * right, "/": left // max(right, 1)}[operator]


def outcomes(sums: Sequence[Sum], wrong: tuple[int, int] | None = None) -> list[int]:
    """Returns the result of every sum; wrong: the number of a sum and a value put in place of its result."""
    found: list[int] = []
    for number, each in enumerate(sums):
        right = calculate(*operands(each, found))
        found.append(wrong[1] if wrong is not None and wrong[0] == number else right)
    return found


def operands(each: Sum, found: Sequence[int]) -> tuple[int, str, int]:
    """Returns a sum with its operands as numbers."""
    left, right = (found[side.number] if isinstance(side, Of) else side for side in (each.left, each.right))
    return left, each.operator, right


def possible(sums: Sequence[Sum], found: Sequence[int], largest: int) -> bool:
    """Checks that all results are from 1 to the largest, and that divisions leave no rest."""
    whole = all(
        left % right == 0 for left, operator, right in (operands(each, found) for each in sums) if operator == "/"
    )
    return whole and all(1 <= value <= largest for value in found)


def misstep(rng: Random, sums: Sequence[Sum], largest: int) -> tuple[int, int] | None:
    """Chooses a sum and a near-by wrong result from which the rest can still be calculated; None if there is none."""
    right = outcomes(sums)
    choices = []
    for number, value in enumerate(right):
        for bad in {value + change for change in (-10, -3, -2, -1, 1, 2, 3, 10)}:
            if bad > 0 and possible(sums, outcomes(sums, (number, bad)), largest):
                choices.append((number, bad))
    return rng.choice(choices) if choices else None


def solve_sums(rng: Random, sums: Sequence[Sum], wrong: bool, reflecting: float, largest: int = 150) -> Solution:
    """Writes the solution of a chain of sums. reflecting: about the share of sums with a second thought."""
    slip = misstep(rng, sums, largest) if wrong else None
    found = outcomes(sums, slip)
    solution = Solution(str(found[-1]))
    lead = rng.random() < 0.6  # whether lines start with "First", "Then", ...
    telling = rng.choice(TELLING)
    for number, each in enumerate(sums):
        left, operator, right = operands(each, found)
        is_right = slip is None or slip[0] != number
        thought = rng.random() if is_right else 1.0
        if thought < 0.25 * reflecting:
            solution.detour(write(rng, MISREADINGS[operator], a=left, b=right, event=each.event))
        elif thought < 0.4 * reflecting:
            bad = result(max(1, found[number] + rng.choice((-10, -2, -1, 1, 2, 10))), right=False)
            made = fill("{Event}. ", event=each.event)
            fields = {"a": left, "op": operator, "b": right, "bad": bad, "c": result(found[number])}
            solution.detour([*made, *corrected(write(rng, SLIPS, **fields))])
            solution.quoted.append(f"{capital(each.event)}, so {left} {operator} {right} = {found[number]}.")
            told(rng, solution, telling, number, len(sums), left, operator, right, found[number])
            continue
        solution.step(
            line(rng, each, (left, operator, right), result(found[number], is_right), number, len(sums), lead)
        )
        if 0.4 * reflecting <= thought < reflecting and right > 0:
            check = rng.choice(CHECKS[operator])
            if "{chain}" not in check or left <= 5:
                chain = " + ".join([str(right)] * left)
                solution.detour(fill(check, a=left, b=right, c=found[number], chain=chain))
        told(rng, solution, telling, number, len(sums), left, operator, right, found[number])
    return solution


def corrected(line: Line) -> Line:
    """Gives a repeated wrong value ("not 12") the weight of what is read, after its first place."""
    seen = False
    pieces: Line = []
    for piece in line:
        pieces.append(Piece(piece.text, READ) if seen and piece.weight == 0 else piece)
        seen = seen or piece.weight == 0
    return pieces


def line(
    rng: Random, each: Sum, numbers: tuple[int, str, int], value: Piece, number: int, count: int, lead: bool
) -> Line:
    """Writes one sum as a sentence of a trace."""
    place = FIRST if number == 0 else LAST if number == count - 1 else NEXT
    template = rng.choice(place if lead else LINES)
    left, operator, right = numbers
    before, _, after = template.partition("{sum}")
    pieces = fill(before, event=each.event)
    if before.endswith(CLAUSES) and rng.random() < 0.3:
        pieces += [Piece(f"{left} {WORDS[operator]} {right} is ", READ), value]
    else:
        pieces += [Piece(f"{left} {operator} {right} = ", READ), value]
    if each.unit and rng.random() < 0.5:
        pieces.append(Piece(f" {each.unit}", WORDING))
    return pieces + fill(after)


def told(
    rng: Random,
    solution: Solution,
    telling: tuple[str, str, str],
    number: int,
    count: int,
    left: int,
    operator: str,
    right: int,
    value: int,
) -> None:
    """Adds one sum to the answer in other words."""
    lead = telling[0 if number == 0 else 2 if number == count - 1 else 1]
    solution.told.append(capital(lead + say(rng, TOLD[operator], a=left, b=right, c=value)) + ".")
