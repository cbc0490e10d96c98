"""The stage perturb: the answer of each trace after every change of its reasoning, shard by shard.

traces of one model and dataset, items, params `perturb` -> PERTURB_SCHEMA (perturb/summary.py), one row per trace and
arm. The cuts are run first: they give the commitment boundary, around which values are then changed.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from r2a_core.config import PerturbParams
from r2a_core.data.items import Item
from r2a_core.evaluation.answers import options_of
from r2a_core.evaluation.boxes import box_scores, gold_texts
from r2a_core.infra.checks import error_context
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.models.job import ModelJob
from r2a_core.perturb.arms import Arm, changed_arms, cut_arms
from r2a_core.perturb.edits import Edit
from r2a_core.perturb.mistakes import mistake_arms
from r2a_core.perturb.packed import Cache
from r2a_core.perturb.reading import Donor, Reading, donor_of, read_trace
from r2a_core.perturb.run import Forced, run_arms, trace_cache
from r2a_core.perturb.summary import PERTURB_SCHEMA, boundary_of, perturb_frame
from r2a_core.perturb.writing import Start, Written, continue_texts
from r2a_core.trace import TokenTrace, last_boxed_answer

log = logging.getLogger(__name__)

Caches = dict[int, Cache]  # of each trace of a shard, by its number, up to `</think>`


@dataclass(frozen=True)
class PerturbJob(ModelJob):
    """What all shards of one model and dataset share."""

    params: PerturbParams
    traces: Sequence[TokenTrace]  # all that are well-formed: those that are not run lend their reasoning
    items: Mapping[str, Item]
    tie_margin: float  # logits, of answers written freely: params generate.tie_margin

    @cached_property
    def readings(self) -> list[Reading]:
        """The traces that have a box and reasoning."""
        found = (read_trace(self.tokenizer, trace, self.params.stem) for trace in self.traces)
        return [each for each in found if each is not None]

    @property
    def chosen(self) -> list[Reading]:
        """The traces that are run."""
        return self.readings[: self.params.traces]

    def text(self, ids: Sequence[int]) -> str:
        """What token ids spell."""
        return self.tokenizer.hf.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)


def perturb_traces(job: PerturbJob, work: Work) -> pl.DataFrame:
    """Run every trace under every arm, shard by shard; PERTURB_SCHEMA with null scores."""
    log.info(
        "%s: %d of %d traces with a box; arms of a pass take up to %d MiB beside model and keys and values of a shard",
        *(work.name, len(job.chosen), len(job.readings), job.params.memory_mib),
    )
    kept = {"traces", "shard_traces", "bootstrap_draws"}
    digest = fingerprint(
        **work.base, params=job.params.model_dump(mode="json", exclude=kept), tie_margin=job.tie_margin
    )
    step = job.params.shard_traces
    shards = [range(start, min(start + step, len(job.chosen))) for start in range(0, len(job.chosen), step)]
    finished = work.finish(finish_perturb, job, [(digest, shard) for shard in shards])
    return pl.concat([pl.DataFrame(schema=PERTURB_SCHEMA), *(pl.read_parquet(path) for path in finished)])


def finish_perturb(job: PerturbJob, store: WorkStore, shard: tuple[str, range]) -> Path:
    """Return the table of some traces, from the store or computed now."""
    digest, numbers = shard
    content = []
    for number in numbers:
        reading, donor = job.chosen[number], donor_of(job.chosen[number], job.readings)
        item, free = job.items[reading.trace.item_id], is_free(job, number)
        content.append([item.item_id, reading.trace.token_ids, options_of(item), donor and donor.body, free])

    def write(path: Path) -> None:
        caches = {number: cache_of(job, number) for number in numbers}
        anew = with_mistakes(job, caches)
        rows = (forced_rows(job, number, cache, anew[number]) for number, cache in caches.items())
        save_frame(path, with_free_answers(job, caches, perturb_frame([row for own in rows for row in own])))

    return store.shard(fingerprint(base=digest, traces=content), ".parquet", write)


def is_free(job: PerturbJob, number: int) -> bool:
    """Tell whether answers to a trace are also written freely."""
    free = job.params.free
    return free is not None and (free.traces is None or number < free.traces)


def cache_of(job: PerturbJob, number: int) -> Cache:
    """Run an unchanged trace; its keys and values stay on the device as long as its shard."""
    with error_context(f"trace {job.chosen[number].trace.item_id!r}"):
        return trace_cache(job.loaded.model, job.chosen[number])


def with_mistakes(job: PerturbJob, caches: Caches) -> dict[int, list[Arm]]:
    """Let the model write the reasoning anew behind a mistake, and behind none: the arms of each trace of a shard.

    A rest that has no end is left as it is, and the answer forced behind it.
    """
    starts = []
    for number in caches:
        reading = job.chosen[number]
        options = options_of(job.items[reading.trace.item_id])
        starts += [(number, arm) for arm in mistake_arms(job.tokenizer, reading, options, job.params)]
    close, found = job.tokenizer.ids.think_close, {number: list[Arm]() for number in caches}
    written = continuations(job, caches, [(number, arm.ids) for number, arm in starts], (close,))
    for (number, arm), each in zip(starts, written, strict=True):
        last = each.ids[-1]
        rest = each.ids[:-1] if last in (close, *job.tokenizer.ids.ends) else each.ids
        space = () if last == close else job.chosen[number].close
        found[number].append(replace(arm, ids=(*arm.ids, *rest, *space), added=rest, n_written=each.n_run))
    return found


def continuations(
    job: PerturbJob, caches: Caches, starts: Sequence[tuple[int, Sequence[int]]], ends: tuple[int, ...] = ()
) -> list[Written]:
    """Write on from token ids behind traces, by number."""
    if job.params.free is None:
        return []
    found = [Start(job.chosen[number], caches[number], tuple(ids)) for number, ids in starts]
    return continue_texts(job.loaded, found, job.params.free, job.tie_margin, ends)


def forced_rows(job: PerturbJob, number: int, cache: Cache, anew: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """Yield the rows of one trace: cuts from no sentence to all, then the other arms, of which `anew` are the last."""
    reading = job.chosen[number]
    donor, free = donor_of(reading, job.readings), is_free(job, number)
    with error_context(f"trace {reading.trace.item_id!r}"):
        forced = force(job, reading, cache, donor, anew)
    bases = {arm.kept: each.log_prob for arm, each in forced.arms if arm.family == "cut"}
    boundary = forced.boundary
    for arm, each in forced.arms:
        yield {
            "item_id": reading.trace.item_id,
            "family": arm.family,
            "part": arm.part,
            "level": arm.level,
            "n_sentences": len(reading.sentences),
            "kept": arm.kept,
            "boundary": boundary,
            "edits": [{"token": edit.tokens.start, **texts_of(job, reading, edit)} for edit in arm.edits],
            "added": job.text(arm.added) if arm.added else None,
            "planted": arm.planted,
            "donor": donor.item_id if donor is not None and arm.family == "other" else None,
            "n_tokens": len(arm.ids) + len(reading.stem) + len(reading.result) - 1,
            "n_run": each.n_run,
            "n_written": arm.n_written,
            "n_reasoning_tokens": len(reading.body),
            "n_result_tokens": len(reading.result),
            "log_prob": each.log_prob,
            "log_prob_base": bases[boundary if arm.part == "before" else len(reading.sentences)],
            "original": reading.answer,
            "answer": spelled(job, reading, each.written),
            "whole": each.whole,
            "number": number,
            "free_ids": free_start(reading, arm) if free and gets_free_answer(job, arm) else None,
        }


@dataclass(frozen=True)
class ForcedTrace:
    """The answer forced after every arm of one trace: cuts first."""

    arms: list[tuple[Arm, Forced]]
    boundary: int  # sentences


def force(job: PerturbJob, reading: Reading, cache: Cache, donor: Donor | None, anew: Sequence[Arm]) -> ForcedTrace:
    """Force an answer after the cuts of a trace, then after what is changed around the boundary that they give.

    Arms of the same tokens are run once: the first has their cost. An answer may have as many tokens as the trace's.
    """
    params, options = job.params, options_of(job.items[reading.trace.item_id])
    model, ends = job.loaded.model, job.tokenizer.ids.ends

    def ended(ids: Sequence[int]) -> bool:
        return ids[-1] in ends or last_boxed_answer(spelled(job, reading, ids)) is not None

    most = max(params.answer_tokens, len(reading.result))
    known: dict[tuple[int, ...], Forced] = {}

    def run(arms: Sequence[Arm]) -> list[tuple[Arm, Forced]]:
        new = {arm.ids: arm for arm in arms if arm.ids not in known}
        found = run_arms(model, reading, cache, [*new.values()], ended, most, params.memory_mib)
        first = dict(zip(new, found, strict=True))
        known.update(first)
        return [(arm, first.pop(arm.ids, None) or replace(known[arm.ids], n_run=0)) for arm in arms]

    cuts = run(cut_arms(reading))
    boundary = cuts[boundary_of([each.log_prob for _, each in cuts])][0].kept
    changed = changed_arms(job.tokenizer, reading, boundary, donor, options, params)
    return ForcedTrace([*cuts, *run([*changed, *anew])], boundary)


def texts_of(job: PerturbJob, reading: Reading, edit: Edit) -> dict[str, str]:
    """What an edit takes out, and what it puts in."""
    return {
        "old": "".join(reading.pieces[edit.tokens.start : edit.tokens.stop]).strip(),
        "new": job.text(edit.ids).strip(),
    }


def spelled(job: PerturbJob, reading: Reading, ids: Sequence[int]) -> str:
    """What is written from the stem on."""
    return job.text([*reading.stem[1:], *ids]).strip()


def gets_free_answer(job: PerturbJob, arm: Arm) -> bool:
    """Tell whether an answer is written freely after an arm: of cuts the ends, of wrong values the most."""
    if arm.family == "cut":
        return arm.level in (0, 1)
    if arm.family in ("number", "option"):
        return arm.level == max(job.params.levels)
    return arm.family != "mistake"


def free_start(reading: Reading, arm: Arm) -> list[int]:
    """Where free continuation starts: after `</think>`, or within the reasoning."""
    close = reading.trace.token_ids[reading.trace.segments.think_close]
    return [*(arm.open_ids or (*arm.ids, close))]


def with_free_answers(job: PerturbJob, caches: Caches, frame: pl.DataFrame) -> pl.DataFrame:
    """Write answers freely and greedily after the arms that have free_ids, all of a shard in one batch.

    Starts that are the same are gone on with once: the first row has their cost. An answer that is cut off before its
    box, at `free.max_new_tokens`, has no verdict later.
    """
    rows = enumerate(frame.select("number", "free_ids").rows())
    asked = {row: (number, tuple(start)) for row, (number, start) in rows if start is not None}
    starts = [*dict.fromkeys(asked.values())]
    written = dict(zip(starts, continuations(job, caches, starts), strict=True))
    costs = {start: each.n_run for start, each in written.items()}
    runs: list[int | None] = frame["n_written"].to_list()
    texts: list[str | None] = [None] * frame.height
    whole: list[bool | None] = [None] * frame.height
    close = job.tokenizer.ids.think_close
    for row, case in asked.items():
        own = written[case].ids
        ended = own[-1] in job.tokenizer.ids.ends
        ids = [*case[1][-1:], *own[: len(own) - ended]]
        closed = len(ids) - 1 - ids[::-1].index(close) if close in ids else None
        text = texts[row] = "" if closed is None else job.text(ids[closed + 1 :])
        whole[row], runs[row] = ended or last_boxed_answer(text) is not None, costs.pop(case, 0)
    columns = {
        "free": pl.Series(texts, dtype=pl.String),
        "free_whole": pl.Series(whole, dtype=pl.Boolean),
        "n_written": pl.Series(runs, dtype=pl.Int32),
    }
    return frame.with_columns(**columns).select(list(PERTURB_SCHEMA))


def with_verdicts(frame: pl.DataFrame, items: Sequence[Item], timeout_seconds: float) -> pl.DataFrame:
    """Grade forced and free answers: same as the original, right, and the one that was planted; 1, 0 or null.

    An answer that was cut off has none: it is not known to be another.
    """
    golds = gold_texts(items)
    columns = {}
    graded = frame.with_columns(answer=pl.when("whole").then("answer"), free=pl.when("free_whole").then("free"))
    for answer, prefix in (("answer", ""), ("free", "free_")):
        for name, beside in (("same", "original"), ("score", None), ("planted", "planted")):
            rows = graded.select("item_id", answer, beside or "original").rows()
            against = [(value,) if value is not None else None for _, _, value in rows]
            if beside is None:
                against = [golds.get(item_id) for item_id, _, _ in rows]
            texts = [text for _, text, _ in rows]
            key = f"{prefix}took" if name == "planted" else f"{prefix}{name}"
            columns[key] = box_scores([*zip(texts, against, strict=True)], timeout_seconds)
    return frame.with_columns(pl.Series(name, values, pl.Float64) for name, values in columns.items())
