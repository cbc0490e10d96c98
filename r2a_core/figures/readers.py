"""What training added to the heads: every head of a reader against the same head of the model whose traces it reads.

HeadChanges -> one picture per reader and dataset.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.appearance import GREEN, INK
from r2a_core.figures.walks import head_points
from r2a_core.results import COMPARED, HeadChanges, head_name

NAMES_A_LINE = 14  # of heads, below the picture


def reader_figure(changes: HeadChanges, reader: str, texts: str, dataset: str) -> Figure:
    """Draw a panel per score: a dot a head, the reader's value across and the writer's up, equal on the diagonal.

    The writer's Reasoning-Focus Heads are red and carry their rank, its walking heads have a green ring; both are named
    below, as are the heads that walk in the reader.
    """
    fig = Figure(figsize=(3.4 * len(COMPARED) + 0.4, 4.4), layout="constrained")
    for axes, (score, label) in zip(fig.subplots(1, len(COMPARED), squeeze=False)[0], COMPARED.items(), strict=True):
        _panel(axes, changes, score)
        spearman = changes.spearman(score)
        rho = "" if spearman is None else f", Spearman \u03c1 = {spearman:.2f}"
        axes.set_title(f"{label}\n{changes.both(score).height} heads{rho}", fontsize=9)
        axes.set_xlabel(f"before: {reader}", parse_math=False, fontsize=8)
        axes.set_ylabel(f"after: {texts}", parse_math=False, fontsize=8)
    title = f"{reader} reads the traces of {texts} on {dataset}, n = {changes.n_traces}"
    fig.suptitle(title, parse_math=False, fontsize=10)
    focused = changes.heads.filter("reasoning_focus").sort("rank").select("rank", "layer", "head")
    ranks = [f"{rank} {head_name(layer, head)}" for rank, layer, head in focused.iter_rows()]
    lines = _named("RFH by rank", ranks)
    lines += _named("walking after (green)", [head_name(*head) for head in changes.walking_after])
    lines += _named("walking before", [head_name(*head) for head in changes.walking_before])
    fig.supxlabel("\n".join(lines), fontsize=7.5)
    return fig


def _panel(axes: Axes, changes: HeadChanges, score: str) -> None:
    """One score: all heads, and the diagonal."""
    both = changes.both(score)
    least, edge = (0, 0.03) if score == "answer_to_reasoning" else (-1, 0.06)
    ends, ticks = (least - edge, 1 + edge), np.linspace(least, 1, 5)
    axes.set(xlim=ends, ylim=ends, xticks=ticks, yticks=ticks)
    axes.plot(ends, ends, color=INK, linewidth=0.7, linestyle="--", gid="diagonal")
    walking = both.filter([head in changes.walking_after for head in both.select("layer", "head").iter_rows()])
    axes.scatter(walking["before"], walking["after"], s=45, facecolors="none", edgecolors=GREEN, gid="walking")
    head_points(axes, both, "before", "after")


def _named(kind: str, names: list[str]) -> list[str]:
    """Lines that name heads of a kind."""
    parts = [names[start : start + NAMES_A_LINE] for start in range(0, len(names), NAMES_A_LINE)] or [["none"]]
    return [f"{kind}:   " + "   ".join(part) if not number else "   ".join(part) for number, part in enumerate(parts)]
