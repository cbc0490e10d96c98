"""The stage sentences: every sentence of each trace hidden in turn, and the heads that gather attention on few of them.

traces of one model and dataset, params `sentences` -> SUPPRESSION_SCHEMA (sentences/summary.py), one row per trace and
sentence; stored activations of the same -> RECEIVER_SCHEMA, one row per trace, proximity, layer and head.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from r2a_core.activations.store import RecordedTrace
from r2a_core.attention.job import AttentionJob, stored_table
from r2a_core.attention.map_selection import default_span
from r2a_core.attention.masses import even_reading
from r2a_core.config import SentencesParams
from r2a_core.infra.checks import error_context
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.job import ModelJob
from r2a_core.sentences.receivers import receivers, sentence_matrix
from r2a_core.sentences.summary import MEASURES, RECEIVER_SCHEMA, SUPPRESSION_SCHEMA, suppression_frame
from r2a_core.sentences.suppress import RowEffects, hide, run_base
from r2a_core.tokenizer import sentence_ranges, token_pieces
from r2a_core.trace import TokenTrace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuppressionJob(ModelJob):
    """What all shards of one model and dataset share."""

    params: SentencesParams
    traces: Sequence[TokenTrace]


def hide_sentences(job: SuppressionJob, work: Work) -> pl.DataFrame:
    """Hide every sentence of every trace, shard by shard; SUPPRESSION_SCHEMA with null masses."""
    sentences = [
        sentence_ranges(token_pieces(job.tokenizer.hf, trace.token_ids), trace.segments.reasoning)
        for trace in job.traces
    ]
    tokens = sum(
        trace.segments.n_tokens - 2 - each.stop
        for own, trace in zip(sentences, job.traces, strict=True)
        for each in (*own, *own[:1])
    )
    log.info(
        "%s: %d sentences of %d traces: %d tokens through all layers, %.1f times the traces themselves; logits of a "
        "block of tokens take up to %d MiB beside the model",
        *(work.name, sum(map(len, sentences)), len(job.traces), tokens),
        *(tokens / max(1, sum(trace.segments.n_tokens for trace in job.traces)), job.params.memory_mib),
    )
    step = job.params.shard_traces
    digest = fingerprint(**work.base, memory_mib=job.params.memory_mib)
    shards = [range(start, min(start + step, len(job.traces))) for start in range(0, len(job.traces), step)]
    finished = work.finish(finish_hiding, job, [(digest, shard) for shard in shards])
    return pl.concat([pl.DataFrame(schema=SUPPRESSION_SCHEMA), *(pl.read_parquet(path) for path in finished)])


def finish_hiding(job: SuppressionJob, store: WorkStore, shard: tuple[str, range]) -> Path:
    """Return the table of some traces, from the store or computed now."""
    digest, numbers = shard
    traces = [job.traces[number] for number in numbers]
    content = [[trace.item_id, trace.token_ids] for trace in traces]

    def write(path: Path) -> None:
        save_frame(path, suppression_frame([row for trace in traces for row in hidden_rows(job, trace)]))

    return store.shard(fingerprint(hidden=digest, traces=content), ".parquet", write)


def hidden_rows(job: SuppressionJob, trace: TokenTrace) -> Iterator[dict[str, Any]]:
    """Yield the rows of one trace: no sentence hidden, then each; none without sentences."""
    segments, pieces = trace.segments, token_pieces(job.tokenizer.hf, trace.token_ids)
    sentences, answer = sentence_ranges(pieces, segments.reasoning), segments.answer
    if not sentences:
        return
    result = default_span(trace.item_id, segments, pieces)
    even = even_reading(segments, answer, None)
    cases: list[tuple[int | None, range]] = [(None, range(0)), *enumerate(sentences)]
    with error_context(f"trace {trace.item_id!r}"):
        base = run_base(job.loaded.model, trace)
        effects = [
            hide(job.loaded.model, base, hidden, hidden.stop or sentences[0].stop, job.params.memory_mib)
            for _, hidden in cases
        ]
    for (number, hidden), found in zip(cases, effects, strict=True):
        writers = found.rows(range(result.start - 1, result.end - 1))
        yield {
            "item_id": trace.item_id,
            "sentence": number,
            "start": None if number is None else hidden.start,
            "end": None if number is None else hidden.stop,
            "text": None if number is None else "".join(pieces[hidden.start : hidden.stop]),
            "n_sentences": len(sentences),
            "n_tokens": segments.n_tokens,
            "n_answer_tokens": len(answer),
            "n_result_tokens": result.end - result.start,
            "later_kl": [mean_kl(found, later) for later in sentences[(number or 0) + 1 :]],
            "answer_kl": mean_kl(found, range(answer.start - 1, answer.stop - 1)),
            "result_log_prob": found.log_prob[writers].double().sum().item(),
            "result_log_prob_base": found.log_prob_base[writers].double().sum().item(),
            "even": None if number is None else float(even[hidden.start : hidden.stop].sum()),
        }


def mean_kl(found: RowEffects, tokens: range) -> float:
    """Average the divergence over rows."""
    return found.kl[found.rows(tokens)].double().mean().item()


def with_masses(frame: pl.DataFrame, sentences: pl.DataFrame) -> pl.DataFrame:
    """Add the answer's mass on each sentence, mean over all heads; null where it was not measured.

    sentences: SENTENCE_SCHEMA (attention/tables.py).
    """
    masses = sentences.group_by("item_id", "sentence", maintain_order=True).agg(pl.col("mass").cast(pl.Float64).mean())
    joined = frame.drop("mass").join(masses, on=["item_id", "sentence"], how="left", maintain_order="left")
    return joined.select(list(SUPPRESSION_SCHEMA))


@dataclass(frozen=True)
class ReceiverJob(AttentionJob):
    """What all shards of one model and dataset share."""

    params: SentencesParams


def receiver_table(job: ReceiverJob, work: Work) -> pl.DataFrame:
    """Measure every stored trace; no rows, with a warning, where none is."""
    kept = job.params.model_dump(mode="json", include={"proximity", "least", "shuffles", "seed"})
    return stored_table(job, work, trace_receivers, RECEIVER_SCHEMA, params=kept)


def trace_receivers(job: ReceiverJob, trace: TokenTrace, stored: RecordedTrace, device: str) -> pl.DataFrame:
    """Make the rows of one trace; null where it has too few sentences, or its reasoning rows were not captured."""
    params, layers = job.params, sorted(stored.layers.items())
    sentences = sentence_ranges(token_pieces(job.tokenizer.hf, trace.token_ids), trace.segments.reasoning)
    heads = [(number, head) for number, layer in layers for head in range(layer.n_heads)]
    matrix = np.zeros((len(heads), 0, 0))
    if sentences and stored.first_row <= sentences[0].start:
        parts = (
            (stored.queries(number).to(device), stored.keys(number).to(device), stored.first_row, layer, sentences)
            for number, layer in layers
        )
        matrix = np.concatenate([sentence_matrix(*part) for part in parts])
    frames = []
    for proximity in params.proximity:
        generator = np.random.default_rng([params.seed, zlib.crc32(trace.item_id.encode())])
        found = receivers(matrix, proximity, params.least, params.shuffles, generator)
        columns = {"layer": [layer for layer, _ in heads], "head": [head for _, head in heads], **vars(found)}
        same = {"item_id": trace.item_id, "proximity": proximity, "n_sentences": len(sentences)}
        frames.append(pl.DataFrame(columns).with_columns(**{name: pl.lit(value) for name, value in same.items()}))
    table = pl.concat(frames).select(list(RECEIVER_SCHEMA)).cast(RECEIVER_SCHEMA)  # type: ignore[arg-type]
    return table.with_columns(pl.col(list(MEASURES)).fill_nan(None))
