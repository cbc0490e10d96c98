"""What training texts are made of: pieces of text with their weights in the loss."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """A stretch of text and the weight of its tokens in the loss; 0 for what is given or wrong on purpose."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class TrainingText:
    """One training sample. Full text: BOS + prompt + <think> + thinking + </think> + answer + EOS."""

    prompt: str
    thinking: tuple[Piece, ...]
    answer: tuple[Piece, ...]
    with_reasoning: bool
    padded: bool = False
