"""The stage knockout: each trace under every arm, shard by shard.

traces of one model and dataset, its ranked heads, params `knockout` -> KNOCKOUT_SCHEMA (knockout/summary.py), one row
per trace, view, kind, set and draw. An arm that several sets share is run once.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl
import torch

from r2a_core.attention.map_selection import default_span
from r2a_core.config import KnockoutParams
from r2a_core.data.items import Item
from r2a_core.evaluation.boxes import box_scores, gold_texts
from r2a_core.infra.checks import error_context
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import Work, WorkStore, fingerprint
from r2a_core.knockout.cut import MeanOutputs
from r2a_core.knockout.prefix import PrefixRun, View, run_prefix
from r2a_core.knockout.run import run_arms, write_anew, writes
from r2a_core.knockout.sets import Arm, HeadSet, largest
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA, knockout_frame
from r2a_core.models.job import ModelJob
from r2a_core.tokenizer import token_pieces
from r2a_core.trace import TokenTrace, last_boxed_answer
from r2a_core.wording import plural

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnockoutJob(ModelJob):
    """What all shards of one model and dataset share."""

    params: KnockoutParams
    sets: Sequence[HeadSet]
    traces: Sequence[TokenTrace]

    @cached_property
    def mean_outputs(self) -> dict[tuple[str, str], MeanOutputs]:
        """Each trace's head outputs z, mean over the cut rows of a view; empty unless they replace heads."""
        if "mean_head" not in self.params.kinds:
            return {}
        cases = [(trace, view) for trace in self.traces for view in self.params.views]
        return {(trace.item_id, view): run_prefix(self.loaded.model, trace, view).mean_z for trace, view in cases}

    def other_means(self, item_id: str, view: str) -> MeanOutputs:
        """Average head outputs over the other traces."""
        others = [means for (other, rows), means in self.mean_outputs.items() if other != item_id and rows == view]
        return {layer: torch.stack([means[layer] for means in others]).mean(0) for layer in others[0]} if others else {}

    @cached_property
    def anew(self) -> list[HeadSet]:
        """The sets for which answers are written anew: of each the largest allowed, its first draws, and no heads."""
        if (asked := self.params.anew) is None:
            return []
        targets = {name: largest(self.sets, name, asked.k) for name in ("none", *self.params.sets)}
        return [
            each
            for each in self.sets
            if (target := targets[each.name]) and each.k == target.k and (each.draw is None or each.draw < asked.draws)
        ]


def knock_out(job: KnockoutJob, work: Work) -> pl.DataFrame:
    """Run every trace under every arm, shard by shard; KNOCKOUT_SCHEMA with null scores."""
    if "mean_head" in job.params.kinds and 0 < len(job.traces) < 2:
        raise R2AError("mean_head needs a second trace to average over", "raise knockout.traces, or leave the kind out")
    state_cost(job, work.name)
    step = job.params.shard_traces
    shards = [range(start, min(start + step, len(job.traces))) for start in range(0, len(job.traces), step)]
    digest = base_digest(job, work.base)
    finished = work.finish(finish_knockout, job, [(digest, shard) for shard in shards if job.sets])
    return pl.concat([pl.DataFrame(schema=KNOCKOUT_SCHEMA), *(pl.read_parquet(path) for path in finished)])


def state_cost(job: KnockoutJob, name: str) -> None:
    """Log what the run is going to take, before the model loads."""
    n_arms = len({Arm.of(kind, each.heads) for each in job.sets for kind in kinds_of(job, each)})
    every = [trace.segments for trace in job.traces]
    tokens = n_arms * sum(one.answer.stop - 1 - View.of(view, one).first for one in every for view in job.params.views)
    log.info(
        "%s: %s, %s, %s in each: at most %d tokens through all layers, %.1f times the traces themselves; arms of a "
        "pass take up to %d MiB beside the model",
        name,
        plural(len(job.traces), "trace"),
        plural(len(job.params.views), "view"),
        plural(n_arms, "distinct arm"),
        tokens,
        tokens / max(1, sum(one.n_tokens for one in every)),
        job.params.memory_mib,
    )


def base_digest(job: KnockoutJob, base: Mapping[str, Any]) -> str:
    """Digest what every shard depends on; the means of other traces depend on all of them."""
    params = job.params.model_dump(mode="json", exclude={"traces", "shard_traces", "bootstrap_draws", "seed"})
    sets = [[each.name, each.k, each.draw, each.heads] for each in job.sets]
    means = [trace.token_ids for trace in job.traces] if "mean_head" in job.params.kinds else None
    return fingerprint(**base, params=params, sets=sets, means=means)


def finish_knockout(job: KnockoutJob, store: WorkStore, shard: tuple[str, range]) -> Path:
    """Return the table of some traces, from the store or computed now."""
    digest, numbers = shard
    content = [[number, job.traces[number].item_id, job.traces[number].token_ids] for number in numbers]

    def write(path: Path) -> None:
        cases = [(number, view) for number in numbers for view in job.params.views]
        save_frame(path, knockout_frame([row for case in cases for row in trace_rows(job, *case)]))

    return store.shard(fingerprint(base=digest, traces=content), ".parquet", write)


def trace_rows(job: KnockoutJob, number: int, view: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one trace: sets in their order, each under every kind; the set without heads once."""
    trace, asked = job.traces[number], job.params.anew
    anew = job.anew if asked and number < asked.traces and view == "answer" else []
    with error_context(f"trace {trace.item_id!r}"):
        model, means = job.loaded.model, job.other_means(trace.item_id, view)
        run = run_prefix(model, trace, view)
        arms = {(each, kind): Arm.of(kind, each.heads) for each in job.sets for kind in kinds_of(job, each)}
        found = run_arms(model, run, list(arms.values()), job.params.memory_mib, means)
        written = answers_anew(job, run, [arm for (each, _), arm in arms.items() if each in anew], means)
    reasoning, answer = trace.segments.reasoning, trace.segments.answer
    result = default_span(trace.item_id, trace.segments, token_pieces(job.tokenizer.hf, trace.token_ids))
    parts = {"": answer, "result_": range(result.start, result.end)}
    parts |= {} if view == "answer" else {"reasoning_": reasoning}
    for (each, kind), arm in arms.items():
        both = {"": found[arm], "_base": run.log_probs}
        yield {
            "item_id": trace.item_id,
            "view": view,
            "kind": kind,
            "set": each.name,
            "k": each.k,
            "draw": each.draw,
            "first_layer": arm.first_layer,
            "n_layers": len(run.residuals),
            "n_tokens": trace.segments.n_tokens,
            "n_reasoning_tokens": len(reasoning),
            "n_answer_tokens": len(answer),
            "n_result_tokens": len(parts["result_"]),
            **{
                f"{part}log_prob{side}": values[run.part(tokens)].sum().item()
                for part, tokens in parts.items()
                for side, values in both.items()
            },
            **(written[arm] if each in anew else {}),
        }


def kinds_of(job: KnockoutJob, each: HeadSet) -> Sequence[Any]:
    """Return the kinds of cut that a set is run with."""
    return job.params.kinds if each.heads else job.params.kinds[:1]


def answers_anew(
    job: KnockoutJob, run: PrefixRun, arms: Sequence[Arm], means: MeanOutputs
) -> dict[Arm, dict[str, Any]]:
    """Write the answer under each arm as text, beside the one without a cut.

    Answers are compared by what their last boxes hold or, where one has none, as whole texts. The answer without a cut
    counts as changed where rounding alone decided one of its tokens.
    """
    if not arms or job.params.anew is None:
        return {}
    model, nothing = job.loaded.model, Arm.of(job.params.kinds[0], ())
    written = write_anew(model, run, [nothing, *arms], job.loaded.ids.ends, job.params.anew.max_new_tokens, means)
    decode = partial(job.tokenizer.hf.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    texts = {arm: decode(ids) for arm, ids in written.items()}
    results = {arm: box.content if (box := last_boxed_answer(text)) else text for arm, text in texts.items()}
    changed = {arm: result != results[nothing] for arm, result in results.items()}
    changed[nothing] = not writes(model, run.trace, written[nothing])
    return {arm: {"anew": texts[arm], "anew_base": texts[nothing], "changed": changed[arm]} for arm in arms}


def with_scores(frame: pl.DataFrame, items: Sequence[Item], timeout_seconds: float) -> pl.DataFrame:
    """Grade the answers written anew, where there is a right one: score and score_base, 0 or 1; 0 without a box."""
    golds, columns = gold_texts(items), ("anew", "anew_base")
    rows = [
        (text, golds.get(row[0]))
        for column in columns
        for row in frame.select("item_id", column).iter_rows()
        for text in row[1:]
    ]
    scores = box_scores(rows, timeout_seconds)
    return frame.with_columns(
        score=pl.Series(scores[: frame.height], dtype=pl.Float64),
        score_base=pl.Series(scores[frame.height :], dtype=pl.Float64),
    )
