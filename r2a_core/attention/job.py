"""Work over the traces of one model, dataset and setting whose activations are stored, shard by shard.

folder of activations (or traces that the model reads), rows of one trace -> a table of all. The attention stage, walks
and receiver heads share this.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.activations.store import ActivationReader, RecordedTrace
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.job import ModelJob
from r2a_core.models.load import choose_device
from r2a_core.trace import TokenTrace

log = logging.getLogger(__name__)

TRACES_IN_FORWARD = 10  # traces per shard that is computed by the model: what a killed run may lose


@dataclass(frozen=True)
class AttentionJob(ModelJob):
    """What all shards of one model, dataset and setting share."""

    activations: Path | None  # folder; None: the model reads traces that are given
    phrases: tuple[str, ...]  # that mark reflection

    @cached_property
    def folder(self) -> ActivationReader | None:
        """The traces of the folder."""
        return None if self.activations is None else ActivationReader(self.activations)

    @property
    def stored(self) -> ActivationReader | None:
        """The same where their activations are stored, None where the model has to read them."""
        return self.folder if self.folder is not None and self.folder.is_stored else None


@dataclass(frozen=True)
class AttentionShard:
    """The traces of one shard, and the fingerprint of all that their tables depend on."""

    traces: tuple[TokenTrace, ...]
    fingerprint: str


def plan_attention(
    job: AttentionJob, base: Mapping[str, Any], traces: Sequence[TokenTrace] = ()
) -> list[AttentionShard]:
    """Returns one shard per shard of activations, in order; where none are stored, per TRACES_IN_FORWARD traces.

    base: digests of code and model.
    """
    traces = traces if job.folder is None else job.folder.token_traces()
    digests = [None] * len(traces) if job.stored is None else job.stored.index["sha256"].to_list()
    parts: dict[tuple[str | None, int], list[TokenTrace]] = {}
    for number, (trace, digest) in enumerate(zip(traces, digests, strict=True)):
        parts.setdefault((digest, number // TRACES_IN_FORWARD if digest is None else 0), []).append(trace)
    shards = []
    for (digest, _), part in parts.items():
        content = [[trace.item_id, trace.token_ids, asdict(trace.segments)] for trace in part]
        made_from = {"phrases": job.phrases, "activations": digest, "traces": content}
        shards.append(AttentionShard(tuple(part), fingerprint(**base, **made_from)))
    return shards


Rows = Callable[[Any, TokenTrace, RecordedTrace, str], pl.DataFrame]  # job, trace, its activations, device -> rows


def stored_table(
    job: AttentionJob, work: Work, rows_of: Rows, schema: Mapping[str, Any], **made_from: Any
) -> pl.DataFrame:
    """Measures every trace whose activations are stored; no rows, with a warning, where none is.

    rows_of: a function of a module, makes rows of `schema`; made_from: params that they depend on.
    """
    empty = pl.DataFrame(schema=schema)
    if job.stored is None or not job.stored.item_ids:
        log.warning("%s: no activations of traces are stored, so they are not measured", work.name)
        return empty
    shards = plan_attention(job, {**work.base, **made_from})
    finished = work.finish(partial(finish_stored, rows_of), job, shards)
    return pl.concat([empty, *(pl.read_parquet(path) for path in finished)])


def finish_stored(rows_of: Rows, job: AttentionJob, store: WorkStore, shard: AttentionShard) -> Path:
    """File of one shard of such a table, from the work store or computed now."""
    device, stored = str(choose_device(job.device)), job.stored
    assert stored is not None

    def write(path: Path) -> None:
        frames = (rows_of(job, trace, stored.trace(trace.item_id), device) for trace in shard.traces)
        save_frame(path, pl.concat(frames))

    return store.shard(fingerprint(rows=rows_of.__name__, shard=shard.fingerprint), ".parquet", write)
