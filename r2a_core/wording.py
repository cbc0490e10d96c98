"""How the words of metrics and page write numbers, and from when on they say that there is a difference.

number -> text; the ends of a 95% interval -> verdict. Needs no other module of the project.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

SIGNIFICANT = 0.05  # p below which a sentence says that there is an effect

Side = Literal[-1, 0, 1]

MINUS, NONE = "\u2212", "\u2013"


def signed(value: float | None, decimals: int = 2, plus: bool = False) -> str:
    """Write a number with so many decimals and a real minus; what rounds to 0 has none, and None is a dash.

    plus: write the sign of positive numbers too. Halves are rounded away from 0, as the page's script does.
    """
    if value is None:
        return NONE
    shown = math.floor(float(f"{abs(value) * 10**decimals:.14g}") + 0.5) / 10**decimals  # 0.575 is 57.49999 in floats
    return f"{math.copysign(shown, value):{'+' if plus else ''}z.{decimals}f}".replace("-", MINUS)


def percent(share: float | None, decimals: int = 0) -> str:
    """Write a share, 0 to 1, as percent; None is a dash."""
    return NONE if share is None else f"{signed(100 * share, decimals)}%"


def estimate(record: Mapping[str, Any], decimals: int = 2, write: Callable[..., str] = signed) -> str:
    """Write a mean, with its 95% interval where it has one. record: mean, low, high; write: signed or percent."""
    mean, low, high = (write(record[key], decimals) for key in ("mean", "low", "high"))
    return mean if record["low"] is None else f"{mean} (95% {low} to {high})"


def side(low: float | None, high: float | None, at: float = 0.0) -> Side:
    """Tell on which side of `at` a 95% interval lies: 1 above, -1 below, 0 where it holds it or there is none."""
    if low is None or high is None:
        return 0
    return 1 if low > at else -1 if high < at else 0


def holds(low: float | None, high: float | None, at: float = 0.0) -> bool:
    """Tell whether there is a 95% interval, and it holds `at`."""
    return low is not None and high is not None and low <= at <= high


def listed(texts: Sequence[str]) -> str:
    """Join texts by commas, the last by "and"."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))


def compared(low: float | None, high: float | None, what: str) -> str:
    """Put the interval of a difference from `what` into words that follow "is": more, less, or not to be told."""
    return {1: "more than", -1: "less than", 0: "not to be told from"}[side(low, high)] + f" {what}"


def plural(count: int, noun: str) -> str:
    """Write a number and its noun, in the plural unless it is 1."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
