"""Paths that a head's attention draws along the reasoning: ridges of its map, linked from answer row to answer row.

shares of each answer row's reasoning attention on cells of the reasoning (row, cell) -> Path: rows and cells of each
ridge that moves forward for long enough.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LONG = 8  # rows of a path

REACH = 3  # cells that a path may move from one of its rows to the next

GAP = 2  # rows after which a path that was not met again has ended


@dataclass
class Path:
    """A ridge: the answer rows in which it stands out, and its cell in each."""

    rows: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)

    @property
    def walks(self) -> bool:
        """Tells whether it is long and moves forward."""
        if len(self.rows) < LONG or self.cells[-1] <= self.cells[0]:
            return False
        return float(np.polyfit(self.rows, self.cells, 1)[0]) > 0


def peaks(shares: NDArray[np.floating], even: NDArray[np.floating], least: float) -> NDArray[np.bool_]:
    """Mark the cells with at least `least` times even reading and more than their neighbours in a row (ties: left)."""
    side = np.zeros((len(shares), 1), shares.dtype)
    left, right = np.hstack([side, shares[:, :-1]]), np.hstack([shares[:, 1:], side])
    return (shares > left) & (shares >= right) & (shares >= least * even)


def walking_paths(
    shares: NDArray[np.floating], looks: NDArray[np.bool_], even: NDArray[np.floating], least: float
) -> list[Path]:
    """Link the peaks of the rows that look at the reasoning, the nearest first, and keep the paths that walk.

    shares: (row, cell); even: what even reading gives each cell.
    """
    paths: list[Path] = []
    live: list[Path] = []
    marked = peaks(shares, even, least)
    for row in np.flatnonzero(looks).tolist():
        found = np.flatnonzero(marked[row]).tolist()
        live = [path for path in live if path.rows[-1] >= row - GAP]
        for path, cell in nearest(live, found):
            path.rows.append(row)
            path.cells.append(cell)
            found.remove(cell)
        opened = [Path([row], [cell]) for cell in found]
        paths += opened
        live += opened
    return [path for path in paths if path.walks]


def nearest(live: Sequence[Path], found: Sequence[int]) -> Iterator[tuple[Path, int]]:
    """Pair paths and peaks within reach, the nearest first, each once."""
    steps = ((abs(path.cells[-1] - cell), at, cell) for at, path in enumerate(live) for cell in found)
    pairs = sorted(step for step in steps if step[0] <= REACH)
    taken: set[int] = set()
    used: set[int] = set()
    for _, at, cell in pairs:
        if at not in taken and cell not in used:
            taken.add(at)
            used.add(cell)
            yield live[at], cell


def most_parallel(paths: Sequence[Path]) -> int:
    """Count the paths that run side by side at most."""
    opened = [path.rows[0] for path in paths]  # where the most run, one has just begun
    return max((sum(path.rows[0] <= row <= path.rows[-1] for path in paths) for row in opened), default=0)
