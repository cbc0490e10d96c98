"""The heads stage's work: scores of a model's heads, their ranking on each dataset, and the summary of both.

attention frames of a model by dataset (with reasoning), its traces, the model -> scores, HEAD_SCHEMA, metrics.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from pydantic import Field

from r2a_core.activations.selection import TokenTrace
from r2a_core.attention.heads import HEAD_SCHEMA, WalkThresholds, head_sets, rank_heads, walks
from r2a_core.attention.induction import InductionConfig, induction_scores, ordinary_tokens
from r2a_core.attention.retrieval import (
    NeedleTest,
    RetrievalConfig,
    question_tests,
    retrieval_scores,
    sentence_tests,
    sequence_tests,
)
from r2a_core.attention.statistics import ATTENTION_SCHEMA
from r2a_core.errors import R2AError
from r2a_core.frames import read_frame, save_frame
from r2a_core.models.loading import LoadedModel
from r2a_core.provenance import fingerprint
from r2a_core.store import WorkStore

RANKED_COLUMNS = [name for name in ATTENTION_SCHEMA if name not in ("centroid", "spread")]
SCORE_SCHEMA = {
    "layer": pl.Int16,
    "head": pl.Int16,
    "induction": pl.Float64,
    "induction_match": pl.Float64,
    "retrieval": pl.Float64,
    "copied": pl.Float64,  # of the needles, by the model: the same in each row
}
DIGITS = 6  # of metrics


@dataclass(frozen=True)
class RetrievalParams:
    """The needle test of every model without one of its own in `models`."""

    default: RetrievalConfig
    models: dict[str, RetrievalConfig] = field(default_factory=dict)

    def of(self, model: str) -> RetrievalConfig:
        return self.models.get(model, self.default)


@dataclass(frozen=True)
class HeadsParams:
    """The section `heads` of params.yaml."""

    top: Annotated[int, Field(gt=0)]  # heads that count as Reasoning-Focus, induction or retrieval heads
    walk: WalkThresholds
    induction: InductionConfig
    retrieval: RetrievalParams


@dataclass(frozen=True)
class ScoreJob:
    """What the scores of one model depend on, besides the model."""

    induction: InductionConfig
    retrieval: RetrievalConfig
    traces: Sequence[TokenTrace]

    @property
    def needle_traces(self) -> list[TokenTrace]:
        """The traces whose questions are needles: the first that have a question and reasoning."""
        if self.retrieval.needle != "question":
            return []
        usable = [trace for trace in self.traces if len(trace.segments.query) and len(trace.segments.reasoning)]
        return usable[: self.retrieval.tests]


def read_ranked(files: Mapping[str, Path]) -> dict[str, pl.DataFrame]:
    """The attention frames with answer rows, by dataset, without the columns that a ranking does not need.

    Raises R2AError when a file is missing.
    """
    frames = {}
    for dataset, path in files.items():
        if not path.is_file():
            raise R2AError(f"{path} is missing", "name with_reasoning in run.settings, then: dvc repro attention")
        frame = read_frame(path, RANKED_COLUMNS, "attention").filter(pl.col("source") == "answer")
        if frame.height:
            frames[dataset] = frame
    return frames


def stored_scores(
    store: WorkStore, job: ScoreJob, base: Mapping[str, Any], load: Callable[[], LoadedModel]
) -> pl.DataFrame:
    """Scores from the work store, or computed now by the model that `load` gives. base: digests of code and model."""
    configs = {"induction": asdict(job.induction), "retrieval": asdict(job.retrieval)}
    digest = fingerprint(**base, **configs, traces=[trace.token_ids for trace in job.needle_traces])
    return pl.read_parquet(store.shard(digest, ".parquet", lambda path: save_frame(path, head_scores(load(), job))))


def head_scores(loaded: LoadedModel, job: ScoreJob) -> pl.DataFrame:
    """Scores of all heads by layer and head, in SCORE_SCHEMA."""
    model = loaded.model
    vocabulary = ordinary_tokens(loaded.tokenizer, model.get_input_embeddings().weight.shape[0])
    by_induction = induction_scores(model, vocabulary, loaded.ids.bos, job.induction)
    found = retrieval_scores(model, needle_tests(loaded, vocabulary, job.needle_traces, job.retrieval))
    scores = by_induction.join(found.heads, on=["layer", "head"], maintain_order="left")
    return scores.with_columns(copied=found.copied).select(list(SCORE_SCHEMA))


def needle_tests(
    loaded: LoadedModel, vocabulary: Sequence[int], traces: Sequence[TokenTrace], config: RetrievalConfig
) -> list[NeedleTest]:
    """The needle tests of the kind that the config names; `traces` are for the kind `question`."""
    if config.needle == "sentence":
        return sentence_tests(loaded.tokenizer, loaded.ids.bos, config)
    if config.needle == "sequence":
        return sequence_tests(vocabulary, loaded.ids.bos, config)
    return question_tests([(trace.token_ids, trace.segments) for trace in traces], config.tests)


def ranked(attention: Mapping[str, pl.DataFrame], scores: pl.DataFrame, top: int) -> pl.DataFrame:
    """All heads on each dataset, in HEAD_SCHEMA; no rows without attention frames."""
    if not attention:
        return pl.DataFrame(schema=HEAD_SCHEMA)
    induction = scores.select("layer", "head", "induction", "induction_match")
    return rank_heads(attention, induction, scores.select("layer", "head", "retrieval"), top)


def summary(heads: pl.DataFrame, scores: pl.DataFrame, params: HeadsParams) -> dict[str, Any]:
    """Metrics by dataset: the Reasoning-Focus Heads, what they share with other sets, and the heads that walk."""
    by_dataset = {}
    n_layers = 0 if scores.is_empty() else int(scores["layer"].max()) + 1  # type: ignore[arg-type]
    for dataset in heads["dataset"].unique(maintain_order=True):
        frame = heads.filter(pl.col("dataset") == dataset)
        middle = walks(frame, n_layers, params.walk)
        sets = head_sets(heads, dataset, params.top)
        by_dataset[dataset] = {
            "n_traces": frame["n_traces"][0],
            "reasoning_focus_heads": [head_name(*head) for head in sets.rfh],
            "first_mass": round(frame["answer_to_reasoning"].max(), DIGITS),  # type: ignore[arg-type]
            "overlap": sets.overlaps(),
            "walking_heads": middle.filter(pl.col("margin") >= 1).height,
            "best_walk": walk_summary(middle.row(0, named=True)) if middle.height else None,
        }
    copied = None if scores.is_empty() else round(scores["copied"][0], DIGITS)
    return {"datasets": by_dataset, "needle_copied": copied}


def walk_summary(head: Mapping[str, Any]) -> dict[str, Any]:
    """The head that walks best, in figures."""
    return {
        "head": head_name(head["layer"], head["head"]),
        "mass": round(head["answer_to_reasoning"], DIGITS),
        "correlation": round(head["walk_correlation"], DIGITS),
    }


def head_name(layer: int, head: int) -> str:
    """L10.H31."""
    return f"L{layer}.H{head}"


def summary_text(values: Mapping[str, Any]) -> str:
    """Metrics as JSON text."""
    return json.dumps(values, indent=1, allow_nan=False) + "\n"
