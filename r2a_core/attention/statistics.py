"""Stored activations -> what answer and reasoning tokens attend to, for every trace, layer and head (paper section 4).

activations of a model, dataset and setting, token texts -> two frames:
    attention   ATTENTION_SCHEMA, one row an item, layer, head and source (answer, then reasoning)
    sentences   SENTENCE_SCHEMA, one row an item, sentence of the reasoning, layer and head
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from torch import Tensor

from r2a_core.activations.reading import RecordedTrace, StoredTrace
from r2a_core.attention.masses import LayerStatistics, layer_statistics, masses, uniform_share, walk_correlation
from r2a_core.attention.pieces import reflection_in, sentence_ranges
from r2a_core.errors import R2AError
from r2a_core.finite import check_columns, check_finite
from r2a_core.traces.segments import SEGMENTS

REBUILD = "rebuild it with: dvc repro attention"
ATTENTION_SCHEMA = {
    "item_id": pl.String,
    "layer": pl.Int16,
    "head": pl.Int16,
    "source": pl.String,  # answer | reasoning: the rows
    **dict.fromkeys(SEGMENTS, pl.Float32),  # attention mass, mean over rows
    "n_source_tokens": pl.Int32,
    "n_reasoning_tokens": pl.Int32,
    "reflection": pl.Float32,  # mass on reflection phrases of the reasoning
    "walk_correlation": pl.Float32,  # Pearson r of answer row and centroid; null where it does not move
    "uniformity": pl.Float32,  # exp(entropy) / tokens over the reasoning, mean over answer rows that see some; 1 = even
    "uniform_share": pl.Float32,  # mass on the reasoning if attention were uniform over all that a row sees
    "centroid": pl.List(pl.Float32),  # by answer row, fraction 0..1 of the reasoning; NaN: window holds none of it
    "spread": pl.List(pl.Float32),  # by answer row, fraction of the reasoning
}
SENTENCE_SCHEMA = {
    "item_id": pl.String,
    "sentence": pl.Int32,
    "start": pl.Int32,
    "end": pl.Int32,
    "text": pl.String,
    "layer": pl.Int16,
    "head": pl.Int16,
    "mass": pl.Float32,  # from answer rows, mean over them
    "reflection": pl.Boolean,
}


@dataclass(frozen=True)
class StatisticsConfig:
    """What is measured on stored activations."""

    reflection_phrases: tuple[str, ...]  # in any case, whole words


@dataclass(frozen=True)
class TraceFrames:
    """Frames of one or more traces: ATTENTION_SCHEMA and SENTENCE_SCHEMA."""

    attention: pl.DataFrame
    sentences: pl.DataFrame


def attention_statistics(
    traces: Iterable[StoredTrace],
    pieces: Mapping[str, Sequence[str]],
    config: StatisticsConfig,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> TraceFrames:
    """Frames of all traces (an ActivationReader, say) in their order. `pieces`: text of each token, by item id.

    Raises R2AError when the texts of a trace are missing or of another length.
    """
    frames = []
    for trace in traces:
        frames.append(trace_statistics(trace.item_id, trace, texts_of(trace, pieces), config, device))
        if progress is not None:
            progress(trace.item_id)
    empty = TraceFrames(pl.DataFrame(schema=ATTENTION_SCHEMA), pl.DataFrame(schema=SENTENCE_SCHEMA))
    return TraceFrames(
        pl.concat([empty.attention, *(each.attention for each in frames)]),
        pl.concat([empty.sentences, *(each.sentences for each in frames)]),
    )


def texts_of(trace: StoredTrace, pieces: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Token texts of a trace. Raises R2AError when they are missing or of another length."""
    texts = pieces.get(trace.item_id, ())
    if len(texts) != trace.segments.n_tokens:
        message = f"{len(texts)} token texts for {trace.item_id!r}, which has {trace.segments.n_tokens} tokens"
        raise R2AError(message, "generation and activations differ: dvc repro capture")
    return texts


def trace_statistics(
    item_id: str, trace: RecordedTrace, pieces: Sequence[str], config: StatisticsConfig, device: str = "cpu"
) -> TraceFrames:
    """Frames of one trace, by layer and head."""
    phrases = reflection_in(pieces, trace.segments.reasoning, config.reflection_phrases)
    sentences = sentence_ranges(pieces, trace.segments.reasoning)
    attention, by_sentence = [], []
    for layer in sorted(trace.layers):
        statistics = layer_statistics(trace, layer, device)
        check_statistics(statistics, f"{item_id!r}, layer {layer}")
        attention += source_frames(item_id, trace, layer, statistics, phrases)
        by_sentence.append(masses(statistics.answer, {str(i): tokens for i, tokens in enumerate(sentences)}))
    heads = pl.concat(attention).sort("layer", "head", "source", maintain_order=True)
    return TraceFrames(heads, sentence_frame(item_id, trace, by_sentence, sentences, pieces, phrases))


def check_statistics(statistics: LayerStatistics, place: str) -> None:
    """Raises R2AError at a NaN or an infinity, save in the walk of answer rows that see no reasoning token."""
    for rows, means in (("answer", statistics.answer), ("reasoning", statistics.reasoning)):
        if means is not None:
            check_finite(means, f"{place}: mean attention of the {rows} rows", ("head", "token"))
    walk = statistics.walk
    if walk is not None:
        seeing = (~walk.centroid.isnan().all(dim=0)).nonzero()[:, 0]  # a row sees reasoning in all heads or in none
        for name, values in vars(walk).items():
            check_finite(values[:, seeing], f"{place}: {name} on the reasoning", ("head", "answer row"))


def source_frames(
    item_id: str, trace: RecordedTrace, layer: int, statistics: LayerStatistics, phrases: Sequence[range]
) -> list[pl.DataFrame]:
    """Rows of one layer: answer rows and, where there are any, reasoning rows."""
    sources = {"answer": (statistics.answer, trace.segments.answer)}
    if statistics.reasoning is not None:
        sources["reasoning"] = (statistics.reasoning, trace.segments.reasoning)
    frames = []
    for source, (means, rows) in sources.items():
        n_heads = means.shape[0]
        reflection = means[:, [token for phrase in phrases for token in phrase]].sum(dim=1)
        columns = {
            "item_id": [item_id] * n_heads,
            "layer": [layer] * n_heads,
            "head": list(range(n_heads)),
            "source": [source] * n_heads,
            **{name: mass.tolist() for name, mass in masses(means, trace.segments.ranges()).items()},
            "n_source_tokens": [len(rows)] * n_heads,
            "n_reasoning_tokens": [len(trace.segments.reasoning)] * n_heads,
            "reflection": reflection.tolist(),
            "uniform_share": [uniform_share(trace.segments, rows, trace.layers[layer].window)] * n_heads,
            **(walk_columns(statistics) if source == "answer" else {}),
        }
        columns |= {name: [None] * n_heads for name in ATTENTION_SCHEMA if name not in columns}
        frames.append(pl.DataFrame(columns, schema=ATTENTION_SCHEMA, strict=False))
    return frames


def walk_columns(statistics: LayerStatistics) -> dict[str, list[object]]:
    """Trajectory columns of answer rows."""
    walk = statistics.walk
    if walk is None:
        return {}
    return {
        "walk_correlation": with_nulls(walk_correlation(walk.centroid)),
        "uniformity": with_nulls(walk.evenness.nanmean(dim=1)),
        "centroid": walk.centroid.tolist(),
        "spread": walk.spread.tolist(),
    }


def with_nulls(values: Tensor) -> list[object]:
    """Values as a list, None for NaN."""
    return pl.Series(values.numpy().astype(np.float32)).fill_nan(None).to_list()


def sentence_frame(
    item_id: str,
    trace: RecordedTrace,
    by_layer: Sequence[Mapping[str, Tensor]],
    sentences: Sequence[range],
    pieces: Sequence[str],
    phrases: Sequence[range],
) -> pl.DataFrame:
    """One row a sentence, layer and head. by_layer: mass (head,) of each sentence number, by layer in order."""
    marked = {token for phrase in phrases for token in phrase}
    heads = [(layer, head) for layer in sorted(trace.layers) for head in range(trace.layers[layer].n_heads)]
    columns: dict[str, list[object]] = {name: [] for name in SENTENCE_SCHEMA}
    for number, tokens in enumerate(sentences):
        columns["layer"] += [layer for layer, _ in heads]
        columns["head"] += [head for _, head in heads]
        columns["mass"] += [mass for by_sentence in by_layer for mass in by_sentence[str(number)].tolist()]
        of_sentence = {
            "item_id": item_id,
            "sentence": number,
            "start": tokens.start,
            "end": tokens.stop,
            "text": "".join(pieces[tokens.start : tokens.stop]),
            "reflection": any(token in marked for token in tokens),
        }
        for name, value in of_sentence.items():
            columns[name] += [value] * len(heads)
    return pl.DataFrame(columns, schema=SENTENCE_SCHEMA)


def segment_medians(attention: pl.DataFrame) -> pl.DataFrame:
    """What Figure 2 shows: mean over layers and heads of each trace, then the median over traces.

    One row a source in the order of the frame: source, n_traces and one column a segment. Raises R2AError at a mass
    that is not finite.
    """
    check_columns(attention, SEGMENTS, ("item_id", "layer", "head", "source"), "attention", REBUILD)
    segments = [pl.col(name).cast(pl.Float64) for name in SEGMENTS]
    traces = attention.group_by("source", "item_id", maintain_order=True).agg(each.mean() for each in segments)
    columns = [pl.len().alias("n_traces"), *(pl.col(name).median() for name in SEGMENTS)]
    return traces.group_by("source", maintain_order=True).agg(columns)
