"""The six segments of a trace's token sequence (paper section 4), by token ids alone.

BOS = {0}; query = [1, o); `<think>` = {o}; reasoning = [o+1, c); `</think>` = {c}; answer = [c+1, T-1),
with o and c the indices of `<think>` and `</think>` and T the length including the final EOS, which is left out.
"""

from dataclasses import dataclass

from r2a_core.errors import R2AError

SEGMENTS = ("bos", "query", "think_open", "reasoning", "think_close", "answer")


@dataclass(frozen=True)
class TraceSegments:
    """Segment bounds of one trace, token indices from 0 at BOS. Raises R2AError when they are out of order."""

    think_open: int
    think_close: int
    n_tokens: int  # T, including the final EOS

    def __post_init__(self) -> None:
        if not 1 <= self.think_open < self.think_close < self.n_tokens - 1:
            raise R2AError(
                f"segments out of order: <think> at {self.think_open}, </think> at {self.think_close}, "
                f"{self.n_tokens} tokens",
                "a trace needs BOS, <think>, </think>, an answer token and EOS, in this order",
            )

    @property
    def query(self) -> range:
        return range(1, self.think_open)

    @property
    def reasoning(self) -> range:
        return range(self.think_open + 1, self.think_close)

    @property
    def answer(self) -> range:
        return range(self.think_close + 1, self.n_tokens - 1)

    def ranges(self) -> dict[str, range]:
        """Half-open token range of each segment, in the order of SEGMENTS."""
        return {
            "bos": range(0, 1),
            "query": self.query,
            "think_open": range(self.think_open, self.think_open + 1),
            "reasoning": self.reasoning,
            "think_close": range(self.think_close, self.think_close + 1),
            "answer": self.answer,
        }
