"""Scores all heads of a model on texts of their own: as induction heads, and as retrieval heads.

model, params heads.induction and heads.retrieval, traces whose questions may be needles -> SCORE_SCHEMA, by layer and
head, taken from the work store where it was computed before.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from r2a_core.attention.induction import induction_scores, ordinary_tokens
from r2a_core.attention.retrieval import NeedleTest, question_tests, retrieval_scores, sentence_tests, sequence_tests
from r2a_core.config import InductionParams, NeedleParams
from r2a_core.infra.files import save_frame
from r2a_core.infra.shards import WorkStore, fingerprint
from r2a_core.models.load import LoadedModel
from r2a_core.trace import TokenTrace

SCORES = ("induction", "induction_match", "retrieval")

SCORE_SCHEMA = {
    "layer": pl.Int16,
    "head": pl.Int16,
    "induction": pl.Float64,
    "induction_match": pl.Float64,
    "retrieval": pl.Float64,
    "copied": pl.Float64,  # of the needles, by the model: the same in each row
}


@dataclass(frozen=True)
class ScoreJob:
    """What the scores of one model depend on, besides the model."""

    induction: InductionParams
    retrieval: NeedleParams
    traces: Sequence[TokenTrace]

    @property
    def needle_traces(self) -> list[TokenTrace]:
        """The traces whose questions are needles: the first that have a question and reasoning."""
        if self.retrieval.needle != "question":
            return []
        usable = [trace for trace in self.traces if len(trace.segments.query) and len(trace.segments.reasoning)]
        return usable[: self.retrieval.tests]


def stored_scores(
    job: ScoreJob, load: Callable[[], LoadedModel], base: Mapping[str, str], store: WorkStore
) -> pl.DataFrame:
    """Take scores from the work store, or compute them now by the model that `load` gives."""
    configs = {"induction": job.induction.model_dump(mode="json"), "retrieval": job.retrieval.model_dump(mode="json")}
    digest = fingerprint(**base, **configs, traces=[trace.token_ids for trace in job.needle_traces])
    path = store.shard(digest, ".parquet", lambda path: save_frame(path, head_scores(load(), job)))
    return pl.read_parquet(path)


def head_scores(loaded: LoadedModel, job: ScoreJob) -> pl.DataFrame:
    """Score all heads, by layer and head, in SCORE_SCHEMA."""
    model = loaded.model
    vocabulary = ordinary_tokens(loaded.tokenizer.hf, model.get_input_embeddings().weight.shape[0])
    by_induction = induction_scores(model, vocabulary, loaded.ids.bos, job.induction)
    found = retrieval_scores(model, needle_tests(loaded, vocabulary, job.needle_traces, job.retrieval))
    scores = by_induction.join(found.heads, on=["layer", "head"], maintain_order="left")
    return scores.with_columns(copied=found.copied).select(list(SCORE_SCHEMA))


def needle_tests(
    loaded: LoadedModel, vocabulary: Sequence[int], traces: Sequence[TokenTrace], config: NeedleParams
) -> list[NeedleTest]:
    """Make the needle tests of the kind that the config names; `traces` are for the kind `question`."""
    if config.needle == "sentence":
        return sentence_tests(loaded.tokenizer.hf, loaded.ids.bos, config)
    if config.needle == "sequence":
        return sequence_tests(vocabulary, loaded.ids.bos, config)
    return question_tests([(trace.token_ids, trace.segments) for trace in traces], config.tests)
