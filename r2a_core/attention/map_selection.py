"""Chooses which heads, traces and spans the attention maps show (paper section 4, Figures 4, 5, 11 and 12).

params `maps`, attention and head tables, token texts -> ShownMaps. Where params choose nothing: heads that walk
and the first by rank, representative traces, and the final result of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from r2a_core.config import ChosenSpan, MapParams, WalkThresholds
from r2a_core.infra.errors import R2AError
from r2a_core.results import Head, first_heads, head_sets, walking_heads
from r2a_core.tokenizer import sentence_ranges
from r2a_core.trace import TraceSegments, last_boxed_answer


@dataclass(frozen=True)
class Span:
    """Tokens start..end (half-open) of a trace."""

    item_id: str
    start: int
    end: int


@dataclass(frozen=True)
class ShownMaps:
    """What is shown of one model on one dataset."""

    heads: tuple[Head, ...]  # shown by themselves
    rfh: tuple[Head, ...]  # Reasoning-Focus Heads, of which the mean is shown
    items: tuple[str, ...]  # traces
    spans: tuple[Span, ...]  # in place of an item's default span, its final result; their items are shown as well


def choose_maps(
    params: MapParams,
    model: str,
    dataset: str,
    pieces: Mapping[str, Sequence[str]],
    attention: pl.DataFrame,
    heads: pl.DataFrame,
    walk: WalkThresholds,
) -> ShownMaps:
    """Choose what is shown of one model on one dataset.

    pieces: texts of the captured traces; attention: ATTENTION_SCHEMA, heads: rows of HEAD_SCHEMA, both of the dataset.
    Raises R2AError for a span of a trace that was not captured.
    """
    wanted = [span for span in params.spans if (span.model, span.dataset) == (model, dataset)]
    absent = [span.item_id for span in wanted if span.item_id not in pieces]
    if absent:
        raise R2AError(
            f"maps.spans names the item {absent[0]!r}, of which {model} has no captured trace on {dataset}",
            "choose another item of data/activations, or raise capture.limit",
        )
    rfh = head_sets(heads).rfh
    items = params.items.get(dataset)
    if items is None:
        items = choose_traces(attention, rfh or first_heads(heads, 1), params.traces)
    return ShownMaps(
        heads=tuple(params.heads.get(model, default_heads(heads, params.top_heads, walk))),
        rfh=rfh,
        items=tuple(dict.fromkeys([*items, *(span.item_id for span in wanted)])),
        spans=tuple(span_of(span, pieces[span.item_id]) for span in wanted),
    )


def default_heads(heads: pl.DataFrame, count: int, walk: WalkThresholds) -> tuple[Head, ...]:
    """Choose `count` heads: those that walk, the best first, then the first by rank.

    The first by rank can be early heads that look at all of the text alike.
    """
    return tuple(dict.fromkeys([*walking_heads(heads, walk), *first_heads(heads, count)]))[:count]


def choose_traces(attention: pl.DataFrame, heads: Sequence[Head], count: int) -> list[str]:
    """Choose items whose mass on the reasoning, mean over `heads`, is nearest to the median of all items.

    Items whose reasoning holds a reflection phrase come first; ties in the order of the frame.
    """
    chosen = pl.DataFrame(list(heads), schema={"layer": pl.Int16, "head": pl.Int16}, orient="row")
    rows = attention.filter(pl.col("source") == "answer").join(chosen, on=["layer", "head"], maintain_order="left")
    items = rows.group_by("item_id", maintain_order=True).agg(
        pl.col("reasoning").cast(pl.Float64).mean(), (pl.col("reflection").max() > 0).alias("reflects")
    )
    distance = (pl.col("reasoning") - pl.col("reasoning").median()).abs()
    ordered = items.with_columns(distance=distance).sort(
        "reflects", "distance", descending=[True, False], maintain_order=True
    )
    return ordered["item_id"].head(count).to_list()


def default_span(item_id: str, segments: TraceSegments, pieces: Sequence[str]) -> Span:
    r"""Find the tokens of the result: the content of the last box of the answer, or else the answer's last sentence."""
    answer = segments.answer
    text = "".join(pieces[answer.start : answer.stop])
    box = last_boxed_answer(text)
    if box is None:
        sentences = sentence_ranges(pieces, answer)
        last = sentences[-1] if sentences else answer
        return Span(item_id, last.start, last.stop)
    inside = tokens_of(pieces, answer, box.inside)
    return Span(item_id, inside.start, inside.stop)


def span_of_text(item_id: str, pieces: Sequence[str], text: str) -> Span:
    """Find the tokens that hold the last occurrence of a text in a trace. Raises R2AError when it is not there."""
    start = "".join(pieces).rfind(text)
    if start < 0 or not text:
        raise R2AError(f"the trace {item_id!r} does not hold the text {text!r}", "copy it from the trace as it stands")
    inside = tokens_of(pieces, range(len(pieces)), range(start, start + len(text)))
    return Span(item_id, inside.start, inside.stop)


def tokens_of(pieces: Sequence[str], tokens: range, characters: range) -> range:
    """Choose those of `tokens` that hold some of the characters, counted from the first of `tokens`."""
    position, inside = 0, []
    for token in tokens:
        if position < characters.stop and position + len(pieces[token]) > characters.start:
            inside.append(token)
        position += len(pieces[token])
    return range(inside[0], inside[-1] + 1)


def span_of(chosen: ChosenSpan, pieces: Sequence[str]) -> Span:
    """Convert a chosen span to tokens. Raises R2AError when its text is not in the trace."""
    if chosen.text is not None:
        return span_of_text(chosen.item_id, pieces, chosen.text)
    assert chosen.start is not None
    assert chosen.end is not None
    return Span(chosen.item_id, chosen.start, chosen.end)
