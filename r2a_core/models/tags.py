"""The special tokens that structure a reasoning model's text. They differ by model, so they are parameters."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tags:
    """Tag strings of one model; each must be a single token of its tokenizer.

    bos is None for models whose prompts start without one; the first segment is then the first prompt token.
    """

    bos: str | None = "<｜begin▁of▁sentence｜>"
    eos: str = "<｜end▁of▁sentence｜>"
    think_open: str = "<think>"
    think_close: str = "</think>"
