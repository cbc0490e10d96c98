"""The sections `pairs` and `patch`: activation patching, from responses to pairs to its figures."""

from typing import Annotated, Literal

from pydantic import Field

from r2a_core.config.responses import ResponseParams
from r2a_core.config.values import Count, NonNegative, Positive, Record, Text, Unique, Whole, some_of

Role = Literal["probe", "flip", "think_close", "answer_end"]  # of a patched token
ProbeStyle = Literal["plain", "boxed"]  # "Final answer is A." plain, or with the answer boxed
Component = Literal["resid_pre", "z"]  # resid_pre always; z: every head by itself


class AlignmentConfig(Record):
    """How pairs are aligned."""

    padding: Literal["visible", "masked"]  # visible: pads are attended to as any token, as in the reference
    probe_in: Literal["reasoning", "answer", "both"]  # before </think>, before the common ending, or in both places
    keep_reasoning: bool  # false: only the probe stands between the tags
    ending_tokens: Count  # last tokens of the sequence to patch


class AlignParams(AlignmentConfig):
    """`pairs.align`: also which pairs are kept."""

    probes: Annotated[Unique[ProbeStyle], some_of(ProbeStyle)]
    timeout_seconds: Positive  # s, wall time to grade one answer


class PairsParams(Record):
    """The section `pairs`: how the pairs of activation patching are answered and aligned."""

    generate: ResponseParams  # greedy, with reasoning
    align: AlignParams


class PairCaptureParams(Record):
    """`patch.capture`: what is kept of the clean runs, and of which pairs."""

    logit_diff_threshold: NonNegative  # logits: clean at or above it, corrupted at or below minus it
    with_z: bool  # also keep the output of every head, which component z needs
    shard_pairs: Count  # pairs per shard: what a killed run may lose


class SweepParams(Record):
    """`patch.sweep`: what is patched."""

    components: Annotated[Unique[Component], some_of(Component)]
    restored_roles: Unique[Role]  # z only: tokens whose clean residual streams are in place at every layer
    memory_mib: Count  # MiB on the device for the patched rows of one pass


class CrossingParams(Record):
    """`patch.crossing`: the interval of the layer where the curves cross."""

    bootstrap_draws: Annotated[int, Field(gt=0, le=100_000)]  # resamples of pairs
    confidence: Annotated[float, Field(gt=0, lt=1)]  # share of the resamples inside the interval
    seed: Whole


class PatchingFigureParams(Record):
    """`patch.figures`: what is drawn."""

    example: Text | None  # pair of Figure 7; null = the first pair that most models have


class PatchParams(Record):
    """The section `patch`: what is captured, patched and drawn of the pairs."""

    capture: PairCaptureParams
    sweep: SweepParams
    crossing: CrossingParams
    figures: PatchingFigureParams
