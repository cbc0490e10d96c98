"""A pair of bars, with and without reasoning: means, intervals, the mark of their test, chance, the paper's value.

Used for accuracies in percent (Figure 1a) and for a judge's scores (Figure 1b).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from r2a_core.appearance import INK, SETTING_COLOURS
from r2a_core.evaluation.paired import deciding_test, stars
from r2a_core.paper import PublishedAccuracy, PublishedScore

BAR = 0.36  # of the distance between two pairs

SIDES = {"with_reasoning": "with", "without_reasoning": "without"}

ON_BAR = {"with_reasoning": "white", "without_reasoning": INK}

CHANCE: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (1, 1.5))}

DIAMOND: dict[str, Any] = {
    "marker": "D",
    "markersize": 5,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 1.0,
}


@dataclass(frozen=True)
class AxisRange:
    """The values a pair may take."""

    low: float
    high: float

    def share(self, percent: float) -> float:
        """Convert percent of the scale's length to its unit."""
        return percent * (self.high - self.low) / 100


@dataclass(frozen=True)
class BarPair:
    """What a pair shows, by side ("with", "without") that was run, on its scale."""

    mean: Mapping[str, float]
    low: Mapping[str, float | None]  # None: no interval
    high: Mapping[str, float | None]
    p: float | None  # of the test that decides; None: there is none
    published: Mapping[str, float] | None  # the paper's means


def bar_pair(
    record: Mapping[str, Any], name: str, p: float | None, published: Mapping[str, float] | None, scale: float = 1.0
) -> BarPair:
    """Take a pair from a comparison in which `name`_with is a mean, low_with and high_with the ends of its interval."""
    sides = [side for side in SIDES.values() if record[f"{name}_{side}"] is not None]
    mean = {side: scale * record[f"{name}_{side}"] for side in sides}
    ends = [{side: record[f"{end}_{side}"] for side in sides} for end in ("low", "high")]
    low, high = ({side: None if end is None else scale * end for side, end in each.items()} for each in ends)
    return BarPair(mean, low, high, p, published)


def by_side(published: PublishedAccuracy | PublishedScore | None) -> dict[str, float] | None:
    """Return the published means by side; None where there are none."""
    return None if published is None else {side: getattr(published, setting) for setting, side in SIDES.items()}


def draw_pair(axes: Axes, place: float, pair: BarPair, scale: AxisRange) -> None:
    """Draw both bars around `place`, their values, and the bracket over them; one bar alone has no bracket."""
    for setting, side in ((setting, side) for setting, side in SIDES.items() if side in pair.mean):
        centre = place + (BAR / 2 + 0.01) * (-1 if side == "with" else 1)
        mean, low, high = pair.mean[side], pair.low[side], pair.high[side]
        colour = SETTING_COLOURS[setting]
        axes.bar(centre, mean - scale.low, BAR, scale.low, color=colour, gid=f"bar-{side}")
        if low is not None and high is not None:
            spread = [[max(0.0, mean - low)], [max(0.0, high - mean)]]
            axes.errorbar(centre, mean, spread, color=INK, capsize=3, linewidth=1.0, capthick=1.0)
        inside = mean >= scale.low + scale.share(12)
        axes.annotate(
            f"{mean:.1f}",
            (centre, scale.low if inside else mean if high is None else high),
            (0, 4),
            textcoords="offset points",
            ha="center",
            color=ON_BAR[setting] if inside else INK,
            fontsize=8.5,
            bbox={
                "facecolor": colour if inside else "none",
                "edgecolor": "none",
                "pad": 0.8,
            },  # over the line of chance
            zorder=4,
        )
        if pair.published is not None:
            axes.plot(centre + 0.11, pair.published[side], linestyle="none", gid="published", **DIAMOND)
    if len(pair.mean) == len(SIDES):
        _bracket(axes, place, pair, scale)


def _bracket(axes: Axes, place: float, pair: BarPair, scale: AxisRange) -> None:
    """A bracket over a pair of bars with the stars of their test, or that there is no test."""
    top = max(pair.mean[side] if high is None else high for side, high in pair.high.items())
    if pair.published is not None:
        top = max(top, *(value + scale.share(2) for value in pair.published.values()))
    label = stars(pair.p) or "no test"
    left, right, height = place - BAR / 2, place + BAR / 2, top + scale.share(3)
    foot = height - scale.share(1.2)
    axes.plot([left, left, right, right], [foot, height, height, foot], color=INK, linewidth=0.8)
    lift = -0.5 if "*" in label else 1.5  # points; stars sit high in their line
    axes.annotate(label, (place, height), (0, lift), textcoords="offset points", ha="center", va="bottom", fontsize=9)


def bars_note(records: Iterable[Mapping[str, Any]], width: float, *more: str) -> str:
    """Say what whiskers and stars of these comparisons mean, in lines where a page of `width` inches is narrow."""
    tests = " or ".join(dict.fromkeys(deciding_test(record) for record in records))
    parts = ("whiskers: 95% interval over items", f"{tests}: *** p < 0.001, ** p < 0.01, * p < 0.05", *more)
    return ("   ·   " if width > 5 * (1 + len(more)) else "\n").join(parts)


def legend_handles(published: bool, settings: Collection[str], chance: bool = False) -> list[Patch | Line2D]:
    """Make the key of the bars, which says which setting was not run, and of chance and the paper's value if drawn."""
    handles: list[Patch | Line2D] = [
        Patch(color=colour, label=setting.replace("_", " ") + ("" if setting in settings else " (not run)"))
        for setting, colour in SETTING_COLOURS.items()
    ]
    if chance:
        handles.append(Line2D([], [], label="guessing", **CHANCE))
    if published:
        handles.append(Line2D([], [], linestyle="none", label="published value", **DIAMOND))
    return handles


def wrapped(name: str, width: int = 13) -> str:
    """Break a long name into two lines, at the underscore, hyphen or space nearest its middle."""
    breaks = [at for at, letter in enumerate(name) if letter in "_- "]
    if len(name) <= width or not breaks:
        return name
    at = min(breaks, key=lambda place: abs(place - len(name) / 2)) + 1
    return f"{name[:at].rstrip()}\n{name[at:]}"
