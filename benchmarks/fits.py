"""Powers that fit cost curves, and their plots."""

import math
from collections.abc import Sequence
from pathlib import Path


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size by least squares; NaN with fewer than two positive costs."""
    points = [(math.log(size), math.log(cost)) for size, cost in zip(sizes, costs, strict=True) if cost > 0]
    if len(points) < 2:
        return math.nan
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread


Costs = dict[float, tuple[float, ...]]  # size -> one cost a unit


def plot_curves(path: Path, label: str, units: Sequence[str], curves: dict[str, Costs]) -> None:
    """A panel for each unit: costs over sizes (label), both axes logarithmic, the fitted power in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(units), figsize=(3.8 * len(units), 2.9), dpi=100)
    for index, (axes, unit) in enumerate(zip(panels, units, strict=True)):
        for name, costs in curves.items():
            sizes, values = list(costs), [cost[index] for cost in costs.values()]
            axes.plot(sizes, values, marker="o", markersize=3, label=f"{name}: {exponent(sizes, values):.2f}")
        axes.set_xscale("log", base=2)
        axes.set(yscale="log", xlabel=label, ylabel=unit, xticks=sizes, xticklabels=[f"{size:g}" for size in sizes])
        axes.legend(fontsize=7, title="exponent", title_fontsize=7)
        axes.grid(alpha=0.3, which="both", linewidth=0.4)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
