"""Params of the sections `pairs` and `patch`: how pairs are aligned, captured and patched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from r2a_core.errors import R2AError
from r2a_core.patching.alignment import AlignmentConfig, ProbeStyle, Role

Component = Literal["resid_pre", "z"]


@dataclass(frozen=True)
class AlignParams:
    """`pairs.align`: which pairs are kept and how they are aligned."""

    # "Final answer is A." plain, or with the answer boxed
    probes: Annotated[tuple[ProbeStyle, ...], Field(min_length=1)]
    padding: Literal["visible", "masked"]  # see AlignmentConfig
    probe_in: Literal["reasoning", "answer", "both"]
    keep_reasoning: bool
    ending_tokens: Annotated[int, Field(gt=0)]  # last tokens to patch
    timeout_seconds: Annotated[float, Field(gt=0)]  # s, wall time to grade one answer

    def __post_init__(self) -> None:
        refuse_twins(self.probes, "pairs.align.probes", "name each probe once")

    @property
    def alignment(self) -> AlignmentConfig:
        return AlignmentConfig(self.padding, self.probe_in, self.keep_reasoning, self.ending_tokens)


@dataclass(frozen=True)
class PairCaptureParams:
    """`patch.capture`: what is kept of the clean runs, and of which pairs."""

    logit_diff_threshold: Annotated[float, Field(ge=0)]  # logits: clean at or above it, corrupted at or below minus it
    with_z: bool  # also keep the output of every head, which component z needs
    shard_pairs: Annotated[int, Field(gt=0)]  # pairs a shard: what a killed run may lose


@dataclass(frozen=True)
class SweepParams:
    """`patch.sweep`: what is patched."""

    components: tuple[Component, ...]  # resid_pre always; z: every head by itself
    restored_roles: tuple[Role, ...]  # z only: tokens whose clean residual streams are in place at every layer
    memory_mib: Annotated[int, Field(gt=0)]  # MiB on the device for the patched rows of one pass

    def __post_init__(self) -> None:
        refuse_twins(self.components, "patch.sweep.components", "name each component once")


def refuse_twins(names: Sequence[str], place: str, hint: str) -> None:
    """Raises R2AError when a name stands in a list twice: its rows would."""
    for name in names:
        if names.count(name) > 1:
            raise R2AError(f"params.yaml: {place} holds {name!r} twice", hint)
