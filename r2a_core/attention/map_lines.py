"""Which line of a trace reads which: attention of the tokens of a line on those of another (paper section 4).

QueryBlocks, the lines of a trace -> LINE_SCHEMA: per map the mean weight of a token on a token, lines by lines, and
what that would be if every token attended evenly to all that it sees.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.map_views import VIEW_SCHEMA, HeadGroup, QueryBlock
from r2a_core.attention.masses import even_reading
from r2a_core.results import group_starts
from r2a_core.tokenizer import line_ranges
from r2a_core.trace import TEXT_PARTS, TraceSegments

LINE_SCHEMA = {
    **VIEW_SCHEMA,  # kind: head | rfh_mean | head_mean; layer and head are null for means
    "start": pl.List(pl.Int32),  # first token of each line of question, reasoning and answer
    "end": pl.List(pl.Int32),  # token after its last
    "joined": pl.Int32,  # lines of the text that a line stands for, at most
    "weights": pl.List(pl.Float32),  # attention weight, mean over tokens of the row's line and of the column's line;
    # lines x lines, row by row; null in the rows of a line that was not captured as a whole
    "even": pl.List(pl.Float32),  # the same of tokens that attend evenly to all that they see
}

ROUNDING = 1e-12  # sum of weights below which even reading sees nothing

LINES = 96  # most lines of a trace; of a longer text neighbours count as one


class LineWeights:
    """Sums the weights of blocks over the tokens of lines."""

    def __init__(self, trace: RecordedTrace, views: Sequence[HeadGroup], pieces: Sequence[str]) -> None:
        self.trace, self.views = trace, views
        self.lines, self.joined = text_lines(pieces, trace.segments)
        self.lengths = np.array([len(line) for line in self.lines])
        self.bounds = np.array([bound for line in self.lines for bound in (line.start, line.stop)], int)
        self.number = np.full(trace.segments.n_tokens, -1)  # of a token's line
        for number, line in enumerate(self.lines):
            self.number[line.start : line.stop] = number
        self.sums = np.zeros((len(views), len(self.lines), len(self.lines)))

    def add(self, block: QueryBlock) -> None:
        """Add consecutive rows."""
        number = self.number[block.rows.start : block.rows.stop]
        inside = number >= 0
        for target, weights in zip(self.sums, block.weights, strict=True):
            np.add.at(target, number[inside], self.by_line(weights[inside]))

    def by_line(self, weights: np.ndarray) -> np.ndarray:
        """Sum (..., token) over the tokens of each line."""
        return np.add.reduceat(weights, self.bounds, axis=-1, dtype=np.float64)[..., ::2]

    def rows(self, item_id: str) -> Iterator[dict[str, object]]:
        """Make one row of LINE_SCHEMA per view."""
        lines = {"start": [line.start for line in self.lines], "end": [line.stop for line in self.lines]}
        unknown = [line.start < self.trace.first_row for line in self.lines]
        for view, sums in zip(self.views, self.sums, strict=True):
            means = sums / self.lengths[:, None] / self.lengths
            means[unknown] = np.nan
            weights = {"weights": pl.Series(means.ravel()).fill_nan(None).to_list(), "even": self.even(view).tolist()}
            yield {**view.key(item_id), **lines, "joined": self.joined, **weights}

    def even(self, view: HeadGroup) -> np.ndarray:
        """Average over the heads of a view what even reading gives, row by row."""
        windows = Counter(self.trace.layers[layer].window for layer, _ in view.heads)
        total = sum(count * self.even_in(window) for window, count in windows.items())
        return (total / len(view.heads) / self.lengths).ravel()

    def even_in(self, window: int | None) -> np.ndarray:
        """Sum even reading by the tokens of a line over the tokens of each line: (line, line); 0 of lines not seen."""
        segments = self.trace.segments
        sums = [self.by_line(even_reading(segments, line, window).numpy()) for line in self.lines]
        return np.where(np.array(sums) > ROUNDING, sums, 0.0).reshape(self.sums.shape[1:])


def text_lines(pieces: Sequence[str], segments: TraceSegments) -> tuple[list[range], int]:
    """List the tokens of each line of question, reasoning and answer, in order, and how many of the text each joins.

    pieces: text of each token. At most LINES: of more, as many neighbours as need be are joined, within a part.
    """
    lines, parts = [], []
    for part in TEXT_PARTS:
        own = line_ranges(pieces, segments.ranges()[part])
        parts.append(range(len(lines), len(lines) + len(own)))
        lines += own
    starts = group_starts(parts, LINES)
    groups = list(pairwise([*starts, len(lines)]))
    joined = [range(lines[first].start, lines[stop - 1].stop) for first, stop in groups]
    return joined, max((stop - first for first, stop in groups), default=1)
