"""A clean and a corrupted response cut to one shape, token by token (paper section 5, "Alignment")."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["probe", "flip", "think_close", "answer_end"]
ProbeStyle = Literal["plain", "boxed"]


@dataclass(frozen=True)
class PaddedSequence:
    """Token ids of one side. pad is True on padding; masked padding is not attended to and takes no position."""

    ids: tuple[int, ...]
    pad: tuple[bool, ...]
    masked: bool


@dataclass(frozen=True)
class PatchPosition:
    """One token index to patch and what stands there."""

    index: int
    role: Role
    clean_token: str
    corrupted_token: str


@dataclass(frozen=True)
class AlignedPair:
    """Two sequences of equal length and segment bounds that end in `\\boxed{`, ready to patch."""

    pair_id: str
    probe: ProbeStyle
    clean: PaddedSequence
    corrupted: PaddedSequence
    positions: tuple[PatchPosition, ...]  # ascending
    answer_a: int  # token id of the clean answer
    answer_b: int  # token id of the corrupted answer
    think_open: int
    think_close: int

    @property
    def indices(self) -> tuple[int, ...]:
        """Token indices to patch, ascending."""
        return tuple(position.index for position in self.positions)
