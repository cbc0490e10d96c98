"""The attention stage: what answer and reasoning tokens attend to, for every trace, layer and head (paper section 4).

activations of one model, dataset and setting (or traces and a model that reads them), tokenizer -> two tables, a shard
at a time, and the medians of Figure 2:
    attention   ATTENTION_SCHEMA, one row per item, layer, head and source (answer, then reasoning)
    sentences   SENTENCE_SCHEMA, one row per item, sentence of the reasoning, layer and head
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.job import AttentionJob, AttentionShard, plan_attention
from r2a_core.attention.masses import (
    LayerMasses,
    TokenGroups,
    layer_masses,
    layer_statistics,
    masses_in_forward,
    uniform_share,
)
from r2a_core.attention.walk import walk_correlation, weighted_walk
from r2a_core.infra.checks import check_columns
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore
from r2a_core.models.load import choose_device
from r2a_core.results import segment_medians
from r2a_core.tokenizer import reflection_ranges, sentence_ranges, token_pieces
from r2a_core.trace import SEGMENTS, TokenTrace, TraceSegments, opens_box

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
    "copied": pl.Float32,  # share of the answer's tokens in runs that the reasoning holds too; see `copied_share`
    "walk_correlation": pl.Float32,  # Pearson r of answer row and centroid; null where it does not move
    "walk_correlation_weighted": pl.Float32,  # the same with each row counted by row_mass; see walk.WeightedWalk
    "effective_rows": pl.Float32,  # answer rows that look at the reasoning
    "walk_null_mean": pl.Float32,  # of walk_correlation_weighted over all circular shifts of the rows
    "walk_null_sd": pl.Float32,
    "walk_p": pl.Float32,  # share of the shifts that reach walk_correlation_weighted
    "uniformity": pl.Float32,  # exp(entropy) / tokens over the reasoning, mean over answer rows that see some; 1 = even
    "uniform_share": pl.Float32,  # mass on the reasoning of even reading: spread over all that a row sees, sinks too
    "focus": pl.Float32,  # mass on the reasoning over even reading, without sinks, log-odds; masses.sink_free_focus
    "row_mass": pl.List(pl.Float32),  # by answer row, attention mass on the reasoning
    "centroid": pl.List(pl.Float32),  # by answer row, fraction 0..1 of the reasoning; NaN: window holds none of it
    "spread": pl.List(pl.Float32),  # by answer row, fraction of the reasoning
}

COPIED_RUN = 8  # tokens: longer than stock phrases ("Therefore, the value of x is"), shorter than a copied step

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
    """Tables of one or more traces: ATTENTION_SCHEMA and SENTENCE_SCHEMA."""

    attention: pl.DataFrame
    sentences: pl.DataFrame


def concat_tables(parts: Iterable[AttentionTables]) -> AttentionTables:
    """Returns the tables of all traces, in order; empty ones without any."""
    parts = [AttentionTables(pl.DataFrame(schema=ATTENTION_SCHEMA), pl.DataFrame(schema=SENTENCE_SCHEMA)), *parts]
    return AttentionTables(
        pl.concat([part.attention for part in parts], rechunk=True),
        pl.concat([part.sentences for part in parts], rechunk=True),
    )


def tables_from_activations(
    item_id: str, trace: RecordedTrace, pieces: Sequence[str], phrases: Sequence[str], device: str = "cpu"
) -> AttentionTables:
    """Returns the tables of one trace from its queries and keys.

    pieces: text of each token; phrases: that mark reflection.
    """
    groups = token_groups(trace.segments, pieces, phrases)
    found = {
        layer: layer_masses(
            layer_statistics(trace, layer, device), groups, attention.window, f"{item_id!r}, layer {layer}"
        )
        for layer, attention in trace.layers.items()
    }
    return trace_tables(item_id, groups, trace.layers, found, pieces)


def tables_in_forward(model: Any, trace: TokenTrace, pieces: Sequence[str], phrases: Sequence[str]) -> AttentionTables:
    """Makes the same tables from one forward pass of the model over the trace, nothing stored."""
    groups = token_groups(trace.segments, pieces, phrases)
    found = masses_in_forward(model, trace.item_id, trace.token_ids, groups)
    return trace_tables(trace.item_id, groups, found.layers, found.masses, pieces)


def token_groups(segments: TraceSegments, pieces: Sequence[str], phrases: Sequence[str]) -> TokenGroups:
    """Returns the tokens of one trace whose mass is measured."""
    reflection = reflection_ranges(pieces, segments.reasoning, phrases)
    return TokenGroups(segments, reflection, sentence_ranges(pieces, segments.reasoning))


def copied_share(segments: TraceSegments, pieces: Sequence[str]) -> float | None:
    """Returns the share of the answer's tokens in runs of at least COPIED_RUN tokens that the reasoning holds as well.

    Sentences with a box are left out: every answer repeats its result. None where nothing else is left.
    """

    def runs(tokens: range) -> Iterator[tuple[int, tuple[str, ...]]]:
        for start in range(tokens.start, tokens.stop - COPIED_RUN + 1):
            yield start, tuple(pieces[start : start + COPIED_RUN])

    held = {run for _, run in runs(segments.reasoning)}
    copied = {start + offset for start, run in runs(segments.answer) if run in held for offset in range(COPIED_RUN)}
    sentences = sentence_ranges(pieces, segments.answer)
    own = [each for each in sentences if not opens_box("".join(pieces[each.start : each.stop]))]
    counted = [token for sentence in own for token in sentence]
    return sum(token in copied for token in counted) / len(counted) if counted else None


def trace_tables(
    item_id: str,
    groups: TokenGroups,
    layers: Mapping[int, LayerAttention],
    found: Mapping[int, LayerMasses],
    pieces: Sequence[str],
) -> AttentionTables:
    """Returns the tables of one trace from the masses of its layers, rows by layer and head."""
    attention, copied = [], copied_share(groups.segments, pieces)
    for layer in sorted(layers):
        sources = {"answer": (found[layer].answer, groups.segments.answer)}
        if (reasoning := found[layer].reasoning) is not None:
            sources["reasoning"] = (reasoning, groups.segments.reasoning)
        for source, (mass, rows) in sources.items():
            own = {
                "item_id": item_id,
                "layer": layer,
                "source": source,
                "n_source_tokens": len(rows),
                "n_reasoning_tokens": len(groups.segments.reasoning),
                "copied": copied,
                "uniform_share": uniform_share(groups.segments, rows, layers[layer].window),
            }
            answer = found[layer] if source == "answer" else None
            attention.append(source_frame(own, mass, answer))
    heads = pl.concat(attention).sort("layer", "head", "source", maintain_order=True)
    return AttentionTables(heads, sentence_frame(item_id, groups, found, pieces))


def source_frame(own: Mapping[str, Any], mass: Tensor, answer: LayerMasses | None) -> pl.DataFrame:
    """Returns the rows of one layer and source, one per head. own: columns that all of them share.

    answer: where its rows are the source, for what only they have.
    """
    n_heads = mass.shape[0]
    columns = {name: [value] * n_heads for name, value in own.items()} | {"head": list(range(n_heads))}
    columns |= dict(zip((*SEGMENTS, "reflection"), mass.T.tolist(), strict=True))
    if answer is not None and (walk := answer.walk) is not None:
        columns["focus"] = with_nulls(answer.focus)
        columns["walk_correlation"] = with_nulls(walk_correlation(walk.centroid))
        weighted = weighted_walk(walk.centroid, walk.mass)
        columns["walk_correlation_weighted"] = with_nulls(weighted.correlation)
        columns["effective_rows"] = with_nulls(weighted.effective_rows)
        columns |= {f"walk_{name}": with_nulls(getattr(weighted, name)) for name in ("null_mean", "null_sd", "p")}
        columns["uniformity"] = with_nulls(walk.evenness.nanmean(dim=1))
        columns |= {"row_mass": walk.mass.tolist(), "centroid": walk.centroid.tolist(), "spread": walk.spread.tolist()}
    columns |= {name: [None] * n_heads for name in ATTENTION_SCHEMA if name not in columns}
    return pl.DataFrame(columns, schema=ATTENTION_SCHEMA, strict=False)


def with_nulls(values: Tensor) -> list[Any]:
    """Returns the values as a list, None for NaN."""
    return [None if math.isnan(value) else value for value in values.float().tolist()]


def sentence_frame(
    item_id: str, groups: TokenGroups, found: Mapping[int, LayerMasses], pieces: Sequence[str]
) -> pl.DataFrame:
    """Makes one row per sentence, layer and head."""
    marked = {token for phrase in groups.reflection for token in phrase}
    heads = [(layer, head) for layer in sorted(found) for head in range(found[layer].sentences.shape[0])]
    columns: dict[str, list[Any]] = {name: [] for name in SENTENCE_SCHEMA}
    for number, tokens in enumerate(groups.sentences):
        columns["layer"] += [layer for layer, _ in heads]
        columns["head"] += [head for _, head in heads]
        columns["mass"] += [mass for layer in sorted(found) for mass in found[layer].sentences[:, number].tolist()]
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


def medians(attention: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Reduces Figure 2 to its metrics (see `segment_medians`). Raises R2AError at a mass that is not finite."""
    check_columns(attention, SEGMENTS, ("item_id", "layer", "head", "source"), "attention", REBUILD)
    return segment_medians(attention)


@dataclass(frozen=True)
class TableFiles:
    """The tables of one shard, on disk."""

    attention: Path
    sentences: Path

    def read(self) -> AttentionTables:
        """Returns the tables."""
        return AttentionTables(pl.read_parquet(self.attention), pl.read_parquet(self.sentences))


def attention_tables(job: AttentionJob, work: Work, traces: Sequence[TokenTrace] = ()) -> AttentionTables:
    """Measures all traces of the job's folder, or those given, shard by shard."""
    shards = plan_attention(job, work.base, traces)
    return concat_tables(files.read() for files in work.finish(finish_attention, job, shards))


def finish_attention(job: AttentionJob, store: WorkStore, shard: AttentionShard) -> TableFiles:
    """Files of one shard, from the work store or computed now."""

    @cache
    def tables() -> AttentionTables:
        return concat_tables(tables_of(job, trace) for trace in shard.traces)

    return TableFiles(
        store.shard(shard.fingerprint, ".attention.parquet", lambda path: save_frame(path, tables().attention)),
        store.shard(shard.fingerprint, ".sentences.parquet", lambda path: save_frame(path, tables().sentences)),
    )


def tables_of(job: AttentionJob, trace: TokenTrace) -> AttentionTables:
    """Returns the tables of one trace, from its stored activations or from a forward pass."""
    pieces = token_pieces(job.tokenizer.hf, trace.token_ids)
    if job.stored is None:
        return tables_in_forward(job.loaded.model, trace, pieces, job.phrases)
    stored, device = job.stored.trace(trace.item_id), str(choose_device(job.device))
    return tables_from_activations(trace.item_id, stored, pieces, job.phrases, device)
