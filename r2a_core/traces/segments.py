"""The six segments of a trace's token sequence (paper section 4), by token ids alone.

BOS = {0}; query = [1, o); `<think>` = {o}; reasoning = [o+1, c); `</think>` = {c}; answer = [c+1, T-1),
with o and c the indices of `<think>` and `</think>` and T the length including the final EOS, which is left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from r2a_core.errors import R2AError
from r2a_core.models.loading import TagIds

Status = Literal["ok", "unfinished", "bad_think", "no_answer"]
SEGMENTS = ("bos", "query", "think_open", "reasoning", "think_close", "answer")


@dataclass(frozen=True)
class TraceSegments:
    """Segment bounds of one trace, token indices from 0 at BOS. Raises R2AError when they are out of order."""

    think_open: int
    think_close: int
    n_tokens: int  # T, including the final EOS

    def __post_init__(self) -> None:
        if not 1 <= self.think_open < self.think_close < self.n_tokens - 2:
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
            "bos": range(1),
            "query": self.query,
            "think_open": range(self.think_open, self.think_open + 1),
            "reasoning": self.reasoning,
            "think_close": range(self.think_close, self.think_close + 1),
            "answer": self.answer,
        }


@dataclass(frozen=True)
class TraceStatus:
    """Where a trace leaves the funnel (paper section 3) and its segment bounds, null where they are not determined."""

    status: Status
    think_open: int | None = None
    think_close: int | None = None
    answer_start: int | None = None
    answer_end: int | None = None  # exclusive; the final EOS is left out


def classify(
    prompt: Sequence[int], response: Sequence[int], ids: TagIds, has_answer: Callable[[list[int]], bool]
) -> TraceStatus:
    """Status of a trace by token ids, in funnel order: finished, think format, answer format.

    prompt, response: token ids. The prompt holds one `<think>` and, without reasoning, its `</think>`; the trace is
    well formed when prompt and response hold exactly one `</think>`. `has_answer` sees the answer's token ids. Raises
    R2AError for a prompt without `<think>`.
    """
    if ids.think_open not in prompt:
        raise R2AError(f"the prompt holds no <think> (token {ids.think_open})", "correct tags.think_open of this model")
    think_open = list(prompt).index(ids.think_open)
    if not response or response[-1] != ids.eos:
        return TraceStatus("unfinished", think_open)
    tokens = [*prompt, *response]
    closes = [index for index, token in enumerate(tokens) if token == ids.think_close]
    if len(closes) != 1 or closes[0] < think_open:
        return TraceStatus("bad_think", think_open)
    start, end = closes[0] + 1, len(tokens) - 1
    status: Status = "ok" if end > start and has_answer(tokens[start:end]) else "no_answer"
    return TraceStatus(status, think_open, closes[0], start, end)
