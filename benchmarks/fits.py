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


def plot_curves(path: Path, label: str, unit: str, curves: dict[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """One small picture: each curve's costs (unit) over sizes (label), logarithmic, its power in the legend."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.2, 3), dpi=110)
    for name, (sizes, costs) in curves.items():
        axes.plot(sizes, costs, marker="o", markersize=3, label=f"{name}: {exponent(sizes, costs):.2f}")
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
    axes.legend(fontsize=7, title="exponent", title_fontsize=7)
    axes.grid(alpha=0.3, which="both", linewidth=0.4)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)
