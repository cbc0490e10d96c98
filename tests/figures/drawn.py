"""What stands on a drawn figure, for tests of several figures."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text


def lines_at(axes: Any, gid: str) -> list[Any]:
    return [line for line in axes.lines if line.get_gid() == gid]


def bars(axes: Any) -> list[Any]:
    return [bar for bar in axes.patches if (bar.get_gid() or "").startswith("bar-")]


def whiskers(axes: Any) -> list[list[float]]:
    """(low, high) of each error bar."""
    return [list(path.vertices[:, 1].round(9)) for lines in axes.collections for path in lines.get_paths()]


def notes(axes: Axes) -> list[str]:
    return [child.get_text() for child in axes.get_children() if isinstance(child, Annotation)]


def inside(fig: Figure) -> bool:
    fig.draw_without_rendering()
    page = fig.bbox.padded(1)
    texts = [artist for artist in fig.findobj(Text) if isinstance(artist, Text) and artist.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    return all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for box in boxes)
