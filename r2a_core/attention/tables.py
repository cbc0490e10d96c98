"""Stored activations -> what answer and reasoning tokens attend to, for every trace, layer and head (paper section 4).

activations of a model, dataset and setting, token texts -> two frames:
    attention   ATTENTION_SCHEMA, one row an item, layer, head and source (answer, then reasoning)
    sentences   SENTENCE_SCHEMA, one row an item, sentence of the reasoning, layer and head

The attention stage's work: the statistics of each shard of activations, independent of the other shards.

activations of one model, dataset and setting, their generations, tokenizer -> shards of statistics; medians as metrics.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from r2a_core.activations.store import ActivationReader, RecordedTrace, StoredTrace
from r2a_core.attention.masses import LayerStatistics, layer_statistics, masses, uniform_share, walk_correlation
from r2a_core.config import AttentionParams
from r2a_core.infra.checks import check_columns, check_finite
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.load import choose_device, load_tokenizer
from r2a_core.results import segment_medians
from r2a_core.tokenizer import reflection_ranges, sentence_ranges, token_pieces
from r2a_core.trace import SEGMENTS, TokenTrace, select_traces

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
class AttentionTables:
    """Frames of one or more traces: ATTENTION_SCHEMA and SENTENCE_SCHEMA."""

    attention: pl.DataFrame
    sentences: pl.DataFrame


def attention_statistics(
    traces: Iterable[StoredTrace],
    pieces: Mapping[str, Sequence[str]],
    reflection_phrases: Sequence[str],
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> AttentionTables:
    """Frames of all traces (an ActivationReader, say) in their order. `pieces`: text of each token, by item id.

    Raises R2AError when the texts of a trace are missing or of another length.
    """
    frames = []
    for trace in traces:
        frames.append(trace_statistics(trace.item_id, trace, texts_of(trace, pieces), reflection_phrases, device))
        if progress is not None:
            progress(trace.item_id)
    empty = AttentionTables(pl.DataFrame(schema=ATTENTION_SCHEMA), pl.DataFrame(schema=SENTENCE_SCHEMA))
    return AttentionTables(
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
    item_id: str, trace: RecordedTrace, pieces: Sequence[str], reflection_phrases: Sequence[str], device: str = "cpu"
) -> AttentionTables:
    """Frames of one trace, by layer and head."""
    phrases = reflection_ranges(pieces, trace.segments.reasoning, reflection_phrases)
    sentences = sentence_ranges(pieces, trace.segments.reasoning)
    attention, by_sentence = [], []
    for layer in sorted(trace.layers):
        statistics = layer_statistics(trace, layer, device)
        check_statistics(statistics, f"{item_id!r}, layer {layer}")
        attention += source_frames(item_id, trace, layer, statistics, phrases)
        by_sentence.append(masses(statistics.answer, {str(i): tokens for i, tokens in enumerate(sentences)}))
    heads = pl.concat(attention).sort("layer", "head", "source", maintain_order=True)
    return AttentionTables(heads, sentence_frame(item_id, trace, by_sentence, sentences, pieces, phrases))


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


@dataclass(frozen=True)
class StatisticsJob:
    """What all shards of one model, dataset and setting share."""

    activations: Path  # folder
    model_folder: Path  # of which the tokenizer is used
    params: AttentionParams
    device: str

    @cached_property
    def reader(self) -> ActivationReader:
        return ActivationReader(self.activations)

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.model_folder).hf


@dataclass(frozen=True)
class StatisticsFiles:
    """The tables of one shard."""

    attention: Path
    sentences: Path


@dataclass(frozen=True)
class StatisticsShard:
    """The traces of one shard of activations, and the digest of all that their statistics depend on."""

    traces: tuple[TokenTrace, ...]
    fingerprint: str


def attention_tables(job: StatisticsJob, generations: pl.DataFrame, work: Work) -> AttentionTables:
    """Measures all captured traces of a table of responses, shard by shard."""
    shards = plan_statistics(job, stored_traces(job.reader, generations), work.base)
    return concat_statistics(work.finish(finish_statistics, job, shards))


def stored_traces(reader: ActivationReader, generations: pl.DataFrame) -> dict[str, TokenTrace]:
    """Token ids of the captured traces, by item id in the order of the index.

    Raises R2AError when activations and generations are not of the same traces.
    """
    known = {trace.item_id: trace for trace in select_traces(generations)}
    for item_id, n_tokens in reader.index.select("item_id", "n_tokens").iter_rows():
        if item_id not in known or len(known[item_id].token_ids) != n_tokens:
            raise R2AError(
                f"{reader.folder} holds another trace of {item_id!r} than the generations",
                "rebuild it: dvc repro capture",
            )
    return {item_id: known[item_id] for item_id in reader.item_ids}


def token_texts(tokenizer: Any, traces: Mapping[str, TokenTrace]) -> dict[str, list[str]]:
    """Text of each token, by item id."""
    return {item_id: token_pieces(tokenizer, trace.token_ids) for item_id, trace in traces.items()}


def plan_statistics(
    job: StatisticsJob, traces: Mapping[str, TokenTrace], base: Mapping[str, Any]
) -> list[StatisticsShard]:
    """One shard of statistics for each shard of activations, in order. base: digests of code and tokenizer."""
    shards = []
    for (digest,), rows in job.reader.index.group_by("sha256", maintain_order=True):
        part = tuple(traces[item_id] for item_id in rows["item_id"])
        ids = [trace.token_ids for trace in part]
        print_ = fingerprint(**base, params=job.params.model_dump(mode="json"), activations=digest, ids=ids)
        shards.append(StatisticsShard(part, print_))
    return shards


def finish_statistics(job: StatisticsJob, store: WorkStore, shard: StatisticsShard) -> StatisticsFiles:
    """Files of one shard, from the work store or computed now."""

    @cache
    def frames() -> AttentionTables:
        by_item = {trace.item_id: trace for trace in shard.traces}
        stored = (job.reader.trace(item_id) for item_id in by_item)
        device = str(choose_device(job.device))
        return attention_statistics(stored, token_texts(job.tokenizer, by_item), job.params.reflection_phrases, device)

    return StatisticsFiles(
        store.shard(shard.fingerprint, ".attention.parquet", lambda path: save_frame(path, frames().attention)),
        store.shard(shard.fingerprint, ".sentences.parquet", lambda path: save_frame(path, frames().sentences)),
    )


def concat_statistics(shards: Iterable[StatisticsFiles]) -> AttentionTables:
    """The frames of all shards, in order; empty frames of the same schemas without any."""
    shards = list(shards)
    empty = attention_statistics([], {}, ())
    return AttentionTables(
        pl.concat([empty.attention, *(pl.read_parquet(shard.attention) for shard in shards)], rechunk=True),
        pl.concat([empty.sentences, *(pl.read_parquet(shard.sentences) for shard in shards)], rechunk=True),
    )


def medians(attention: pl.DataFrame) -> dict[str, dict[str, float]]:
    """What Figure 2 shows, for the metrics: source -> number of traces and median of each segment."""
    check_columns(attention, SEGMENTS, ("item_id", "layer", "head", "source"), "attention", REBUILD)
    return segment_medians(attention)
