"""What the section `maps` of params.yaml chooses, by model and dataset, and what it comes to for one of them.

MapParams, token texts -> MapConfig. A span is given by token numbers, or by its text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import polars as pl
from pydantic import Field

from r2a_core.attention.choices import Span, shown_heads, span_of_text
from r2a_core.attention.heads import WalkThresholds
from r2a_core.attention.maps import MapConfig
from r2a_core.errors import R2AError

Token = Annotated[int, Field(ge=0)]
Place = Annotated[int, Field(ge=0)]  # number of a layer, or of a head in it


@dataclass(frozen=True)
class ChosenSpan:
    """A stretch of one trace whose attention is shown: `text`, or the tokens start..end (half-open).

    Raises R2AError when it is not one choice of the two.
    """

    model: str
    dataset: str
    item_id: str
    text: str | None = None  # as it stands in the trace; of several places the last counts
    start: Token | None = None
    end: Token | None = None

    def __post_init__(self) -> None:
        by_text = self.text and self.start is None and self.end is None
        by_tokens = self.text is None and self.start is not None and self.end is not None
        if not by_text and not (by_tokens and (self.start or 0) < (self.end or 0)):
            raise R2AError(
                f"params.yaml: the span of {self.item_id!r} in maps.spans is neither a text nor a range of tokens",
                "give text, or start and end; start must be below end",
            )

    def span(self, pieces: Sequence[str]) -> Span:
        """The span in tokens. Raises R2AError when the text is not in the trace."""
        if self.text is not None:
            return span_of_text(self.item_id, pieces, self.text)
        assert self.start is not None
        assert self.end is not None
        return Span(self.item_id, self.start, self.end)


@dataclass(frozen=True)
class HeadMarkParams:
    """The keys of the section `heads` that maps and figures need: which heads count as what."""

    top: Annotated[int, Field(gt=0)]  # heads that count as Reasoning-Focus Heads
    walk: WalkThresholds


@dataclass(frozen=True)
class MapParams:
    """The section `maps` of params.yaml."""

    heads: dict[str, tuple[tuple[Place, Place], ...]]  # model -> [layer, head], ...; others: see shown_heads
    top_heads: Annotated[int, Field(ge=0)]  # Reasoning-Focus Heads
    items: dict[str, tuple[str, ...]]  # dataset -> item ids; others: `traces` representative ones
    traces: Annotated[int, Field(gt=0)]
    spans: tuple[ChosenSpan, ...]  # in place of an item's default span: its final result
    cells: Annotated[int, Field(ge=8)]  # most rows and columns of a map
    links: Annotated[int, Field(gt=0)]  # reasoning tokens kept for each answer token, the strongest

    def of(
        self,
        model: str,
        dataset: str,
        pieces: Mapping[str, Sequence[str]],
        heads: pl.DataFrame,
        marks: HeadMarkParams,
        phrases: Sequence[str],
    ) -> MapConfig:
        """What is shown of one model on one dataset. pieces: texts of the captured traces; heads: of the dataset.

        Raises R2AError for a span of a trace that was not captured.
        """
        spans = [span for span in self.spans if (span.model, span.dataset) == (model, dataset)]
        absent = [span.item_id for span in spans if span.item_id not in pieces]
        if absent:
            raise R2AError(
                f"maps.spans names the item {absent[0]!r}, of which {model} has no captured trace on {dataset}",
                "choose another item of data/activations, or raise capture.limit",
            )
        default = shown_heads(heads, self.top_heads, marks.walk)
        return MapConfig(
            heads=self.heads.get(model, default),
            top_heads=self.top_heads,
            items=self.items.get(dataset),
            traces=self.traces,
            spans=tuple(span.span(pieces[span.item_id]) for span in spans),
            cells=self.cells,
            top=marks.top,
            reflection_phrases=tuple(phrases),
        )
