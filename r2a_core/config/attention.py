"""The sections `capture`, `attention`, `heads` and `maps`: what is kept of a forward pass, and what is read from it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from r2a_core.config.values import (
    LARGEST,
    ByModel,
    Count,
    Head,
    Layer,
    Listed,
    NonEmpty,
    Record,
    Text,
    Unique,
    Whole,
    Words,
    refused,
)

Rows = Literal["answer", "answer_and_reasoning", "all"]  # tokens of a trace


class CaptureConfig(Record):
    """What is kept of a forward pass."""

    rows: Rows  # tokens whose queries are kept; reasoning rows are needed for their masses and for whole maps
    dtype: Literal["auto", "bfloat16", "float32"]  # of what is stored; auto = the model's own
    layers: Unique[Layer] | None  # whose queries and keys are kept; null = all
    residual_layers: Unique[Layer]  # whose entering residual stream is kept
    z_layers: Unique[Layer]  # whose head outputs are kept
    stream_rows: Rows  # tokens whose residual streams and head outputs are kept


class CaptureParams(CaptureConfig):
    """The section `capture`: also how many traces, in shards of what size."""

    layers: NonEmpty[Layer] | None  # the attention stage needs one
    limit: Count | None  # traces; null = all that are well-formed
    store: bool  # false: nothing is kept, and the attention stage runs the model itself
    shard_mb: Count  # MB per shard: what a killed run may lose


class AttentionParams(Record):
    """The section `attention`."""

    reflection_phrases: Unique[Words]  # in any case, whole words


class WalkThresholds(Record):
    """A head walks along the reasoning when its mass on it and its weighted walk correlation reach these."""

    mass: Annotated[float, Field(gt=0, le=1)]  # attention mass answer -> reasoning
    correlation: Annotated[float, Field(gt=0, le=1)]  # of answer position and centroid, positions counted by mass


class InductionParams(Record):
    """Repeated random sequences that score induction heads."""

    sequences: Count
    period: Annotated[int, Field(gt=1, lt=LARGEST)]  # tokens; each sequence is BOS and twice this
    seed: Whole


CUE = 2  # tokens of a sequence needle given again at the end


class NeedleParams(Record):
    """The needle test that scores retrieval heads."""

    needle: Literal["sentence", "sequence", "question"]
    tests: Count
    context: Annotated[int, Field(gt=0, le=1_000_000)]  # tokens of the longest haystack; others spread evenly below
    needle_tokens: Annotated[int, Field(gt=CUE, lt=LARGEST)]  # tokens (sequence) or words (sentence) of the needle
    seed: Whole


Needles = ByModel[NeedleParams]


class LeastScores(Record):
    """What a head must reach to count as an induction or retrieval head."""

    induction: Annotated[float, Field(gt=0, le=1)]  # attention on the token to copy
    retrieval: Annotated[float, Field(gt=0, le=1)]  # share of needle tokens copied


class HeadsParams(Record):
    """The section `heads`."""

    top: Count  # most heads that count as Reasoning-Focus, induction or retrieval heads
    rule: Literal["above_baseline", "paper"]  # which of the highest by mass on the reasoning are Reasoning-Focus Heads
    share: Annotated[float, Field(gt=0, le=1)]  # above_baseline: most of them, as a fraction of all heads
    least: LeastScores
    walk: WalkThresholds
    induction: InductionParams
    retrieval: Needles


class ChosenSpan(Record):
    """A span of one trace whose attention is shown: `text`, or the tokens start..end (half-open)."""

    model: Text
    dataset: Text
    item_id: Text
    text: Words | None = None  # as it stands in the trace; of several places the last counts
    start: Whole | None = None  # token
    end: Whole | None = None  # token

    @model_validator(mode="after")
    def one_choice(self) -> Self:
        by_text = self.text and self.start is None and self.end is None
        by_tokens = self.text is None and self.start is not None and self.end is not None and self.start < self.end
        if not by_text and not by_tokens:
            raise refused(
                "is neither a text nor a range of tokens", "give text, or start and end; start must be below end"
            )
        return self


class MapParams(Record):
    """The section `maps`."""

    heads: dict[Text, Listed[Head]]  # model -> heads; models not named show `top_heads`
    top_heads: Whole  # heads shown by default: those that walk best, then the first by mass on the reasoning
    items: dict[Text, Listed[Text]]  # dataset -> item ids; datasets not named show `traces` representative ones
    traces: Count
    spans: Listed[ChosenSpan]  # in place of an item's default span: its final result
    cells: Annotated[int, Field(ge=8, lt=LARGEST)]  # most rows and columns of a map
    links: Count  # tokens of each part of the text kept for each token that reads them, the strongest
