"""The look every figure shares, and how a figure becomes files: PNG and PDF, byte-identical when drawn again.

Importing this module sets matplotlib's defaults for the whole process, whatever a user's own matplotlibrc says.
"""

from functools import partial
from pathlib import Path

import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r2a_core.appearance import INK, PALETTE, YELLOW
from r2a_core.infra.files import write_whole

GRID = "#DDDDDD"

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=(*PALETTE, YELLOW, INK)),
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that every machine draws the same letters
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "pdf.fonttype": 42,  # real letters: searchable, and editable in a drawing program
    "savefig.dpi": 200,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

matplotlib.style.use(["default", STYLE])


def say_empty(axes: Axes, text: str, size: float = 8) -> None:
    """Write into the middle of a panel why nothing is drawn there. size: points."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=size, parse_math=False)


def save_figure(fig: Figure, path_without_suffix: Path) -> list[Path]:
    """Write <path>.png (200 dots per inch) and <path>.pdf without date or version; return both paths, PNG first.

    Each file is whole or not there at all.
    """
    no_marks: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    }
    lay_out(fig)
    paths = []
    for suffix, metadata in no_marks.items():
        path = path_without_suffix.with_name(f"{path_without_suffix.name}.{suffix}")
        write_whole(path, partial(fig.savefig, format=suffix, metadata=metadata))
        paths.append(path)
    return paths


def lay_out(fig: Figure) -> None:
    """Place the axes once, for both files; with a layout engine left in place, each file would be drawn twice."""
    if (engine := fig.get_layout_engine()) is not None:
        shown = fig.dpi
        fig.set_dpi(STYLE["savefig.dpi"])
        engine.execute(fig)
        fig.set_layout_engine()
        fig.set_dpi(shown)
