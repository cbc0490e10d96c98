"""Where tokens look: box plots of segment masses over traces (Figures 2 and 9 of the paper).

trace means of each model and setting -> one picture. A dotted line marks what even reading, spread over all that a
token sees, would put on the reasoning, and where a run is one of the paper's, a diamond the median of its published
data.
"""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from r2a_core import paper
from r2a_core.appearance import BLUE, INK, SETTING_COLOURS, VERMILION
from r2a_core.results import EVEN, SEGMENT_LABELS, Source, segment_boxes


def segment_mass_figure(means: pl.DataFrame, dataset: str, source: Source = "answer") -> Figure:
    """Draw Figure 2: one box per segment, over traces, of the mean over layers and heads; models in columns.

    means: model, setting and the columns of `results.trace_means`; models and settings are drawn in their order.
    """
    means = means.filter(pl.col("source") == source)
    models, settings = (means[name].unique(maintain_order=True).to_list() for name in ("model", "setting"))
    fig = Figure(figsize=(3.5 * len(models), 2.9 * len(settings)), layout="constrained")
    panels = fig.subplots(len(settings), len(models), squeeze=False)
    for setting, row in zip(settings, panels, strict=True):
        labelled = False
        for model, axes in zip(models, row, strict=True):
            own = means.filter((pl.col("model") == model) & (pl.col("setting") == setting))
            if own.is_empty():
                axes.set_axis_off()
                continue
            _boxes(axes, own, model, dataset, setting, source)
            if not labelled:
                axes.set_xlabel(f"attention mass from {source} tokens", fontsize=9)
                labelled = True
    return fig


def _boxes(axes: Axes, means: pl.DataFrame, model: str, dataset: str, setting: str, source: Source) -> None:
    """One panel: boxes with their medians in figures, even reading, and the paper's medians where it has them."""
    boxes = segment_boxes(means, source)
    places, colour = np.arange(len(boxes)), SETTING_COLOURS.get(setting, BLUE)
    axes.boxplot(
        [box.values for box in boxes.values()],
        positions=places,
        widths=0.62,
        vert=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": to_rgba(colour, 0.3), "edgecolor": INK, "linewidth": 0.8},
        medianprops={"color": colour, "linewidth": 1.6, "gid": "median"},
        whiskerprops={"color": INK, "linewidth": 0.8},
        capprops={"color": INK, "linewidth": 0.8},
        flierprops={"marker": ".", "markersize": 3, "markerfacecolor": INK, "markeredgecolor": "none", "alpha": 0.6},
    )
    for place, (name, box) in zip(places, boxes.items(), strict=True):
        at = (max(box.values), place)
        axes.annotate(f"{box.median:.2f}", at, (4, 0), textcoords="offset points", va="center", fontsize=7)
        if name == "reasoning" and EVEN in means:
            even, ends = [float(means[EVEN].to_numpy().mean())] * 2, [place - 0.45, place + 0.45]
            look = {"color": INK, "linewidth": 1.4, "linestyle": (0, (1, 1.5)), "gid": "even"}
            axes.plot(even, ends, label="even reading, sinks too", **look)
    published = paper.segment_medians(model, dataset, setting) if source == "answer" else None
    if published is not None:
        style = {"color": VERMILION, "markersize": 3.5, "gid": "paper", "label": "paper's median"}
        axes.plot(list(published.values()), places + 0.41, "D", **style)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", frameon=False, fontsize=8, handlelength=1.2)
    axes.set(xlim=(-0.03, 1.08), ylim=(len(boxes) - 0.3, -0.6))
    axes.set_yticks(places, [SEGMENT_LABELS[name] for name in boxes])
    axes.tick_params(labelsize=8)
    noun = "trace" if means.height == 1 else "traces"
    title = f"{model}, {setting.replace('_', ' ')}\n{means.height} {noun} of {dataset}"
    axes.set_title(title, parse_math=False, fontsize=9)
