"""The sections `knockout`, `walks`, `perturb`, `sentences` and `instruments`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from r2a_core.config.values import (
    Count,
    Name,
    NonEmpty,
    Positive,
    Record,
    Share,
    Unique,
    Whole,
    Words,
    refused,
    some_of,
)

KnockoutKind = Literal["mask", "zero", "zero_head", "mean_head"]  # knockout/cut.py says what they do
RankedSet = Literal["mass", "focus", "walking", "induction", "retrieval"]  # by a score of data/heads
KnockoutSet = Literal[RankedSet, "all"]
ViewName = Literal["answer", "question", "earlier_reasoning"]  # rows, and what they look back at; results.VIEWS


def with_answer(views: tuple[ViewName, ...]) -> tuple[ViewName, ...]:
    """Refuses to leave out the view that findings and instruments read."""
    if "answer" not in views:
        raise refused("has no view answer", "add it")
    return views


Views = Annotated[Unique[ViewName], some_of(ViewName), AfterValidator(with_answer)]


class RandomSetParams(Record):
    """`knockout.random`: sets of random heads of the same layers, to rank a set among."""

    sets: Unique[RankedSet]  # that are ranked among them
    k: Count  # the largest of each with at most so many heads
    draws: Whole
    seed: Whole


class AnewParams(Record):
    """`knockout.anew`: answers that are written anew, greedily."""

    traces: Count  # the first of those that are run
    k: Count  # the largest of each set with at most so many heads
    draws: Whole  # random sets of each that are ranked
    max_new_tokens: Count  # tokens of an answer


class KnockoutParams(Record):
    """The section `knockout`: heads whose view of the reasoning is cut while the answer is written."""

    traces: Count | None  # first traces of each dataset; null = all that are well-formed
    views: Views
    kinds: Annotated[Unique[KnockoutKind], some_of(KnockoutKind)]
    sets: Annotated[Unique[KnockoutSet], some_of(KnockoutSet)]
    k: NonEmpty[Count]  # heads of a set, the first by its rank
    random: RandomSetParams
    anew: AnewParams | None  # null: no answer is written anew
    memory_mib: Count  # MiB on the device for the arms of one pass
    shard_traces: Count  # traces per shard: what a killed run may lose
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole  # of the bootstrap

    @model_validator(mode="after")
    def ranked_sets(self) -> Self:
        """Refuses to rank a set that is not cut."""
        for name in self.random.sets:
            if name not in self.sets:
                raise refused(f"ranks the set {name!r}, which knockout.sets lacks", "add it to knockout.sets")
        return self


class WalksParams(Record):
    """The section `walks`: shape, ends and consequences of the walks along the reasoning."""

    views: Views
    heads: Count  # of each dataset, those that walk best
    near_uniform: Share  # entropy on the reasoning, of that of even reading, from which on a head is dropped
    peak: Positive  # times even reading that make a ridge of a map
    permutations: Annotated[int, Field(ge=100, le=100_000)]  # placements of the reflection phrases
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole


PerturbFamily = Literal["number", "option", "other", "filler", "paraphrase", "preempt"]  # perturb/arms.py


def some_share(level: float) -> float:
    """Refuses 0: nothing would be changed."""
    if not level:
        raise refused("changes nothing", "take it out: the unchanged trace is always run, as the last cut")
    return level


class FreeParams(Record):
    """`perturb.free`: what the model writes on its own after a changed trace, greedily."""

    traces: Whole | None  # the first of those that are run, whose answers are written freely; null = all
    mistakes: Whole  # sentences of every trace, at most, behind which the reasoning is written anew
    max_new_tokens: Count  # tokens of an answer, or of reasoning and answer
    batch_size: Count  # that grow at a time; changes no text of a float32 model


class PerturbParams(Record):
    """The section `perturb`: traces that are changed, and what becomes of the answer."""

    traces: Count | None  # first traces of each dataset; null = all that are well-formed
    families: Unique[PerturbFamily]  # beside cuts, which are always run, and mistakes, which have free.mistakes
    levels: NonEmpty[Annotated[Share, AfterValidator(some_share)]]  # shares of the values that are wrong
    stem: Words  # what an answer is forced by, before its box
    filler: Words  # is repeated
    answer_tokens: Count  # of a forced answer that is not the trace's own
    free: FreeParams | None  # null: no answer is written freely
    memory_mib: Count  # MiB on the device for the arms of one pass
    shard_traces: Count  # traces per shard: what a killed run may lose
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole  # of wrong values, and of the bootstrap


class SentencesParams(Record):
    """The section `sentences`: sentences hidden from all that follows, and heads that gather on few of them."""

    traces: Count | None  # first traces of each dataset whose sentences are hidden; null = all that are well-formed
    proximity: Unique[Count]  # sentences between two that count at least, to score a head
    least: Annotated[int, Field(ge=4, le=1000)]  # scored sentences, without which a trace is left out
    shuffles: Count  # of the rows of each head's matrix, as chance
    memory_mib: Count  # MiB on the device for the logits of a block of rows
    shard_traces: Count  # traces per shard: what a killed run may lose
    permutations: Annotated[int, Field(ge=100, le=100_000)]  # of the sentences of each trace, for p
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of traces for the 95% intervals
    seed: Whole


class InstrumentsParams(Record):
    """The section `instruments`: models of which it is known whether their answers depend on the trace."""

    depends: dict[Name, dict[Name, bool]]  # model: dataset, or set of pairs: whether they do; others have no label
    bootstrap_draws: Annotated[int, Field(ge=100, le=100_000)]  # resamples of items for the 95% intervals
    permutations: Annotated[int, Field(ge=100, le=100_000)]  # of the items of one instrument, for p of an agreement
    seed: Whole  # of both
