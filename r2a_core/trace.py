r"""A trace: one response as token ids, its status in the funnel, its six segments and its result (paper sections 3, 4).

rows of data/generations/<model>/<dataset>/<setting>.parquet -> TokenTrace, one per item: the first well-formed response

Segments follow from token ids alone: BOS = {0}; query = [1, o); <think> = {o}; reasoning = [o+1, c); </think> = {c};
answer = [c+1, T-1), with o and c the indices of <think> and </think> and T the length with the final EOS, which is left
out. The result is the last box of the answer, \boxed{...} or \fbox{...}.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from r2a_core.config import SETTINGS as SETTINGS
from r2a_core.config import Setting as Setting
from r2a_core.infra.errors import R2AError
from r2a_core.tokenizer import TagIds

Status = Literal["ok", "unfinished", "bad_think", "no_answer"]

SEGMENTS = ("bos", "query", "think_open", "reasoning", "think_close", "answer")
TEXT_PARTS = ("query", "reasoning", "answer")  # the segments that are text


# Columns of data/generations/<model>/<dataset>/<setting>.parquet.
GENERATION_SCHEMA = {
    "item_id": pl.String,
    "run": pl.Int32,
    "prompt": pl.String,
    "response": pl.String,
    "prompt_ids": pl.List(pl.Int32),
    "response_ids": pl.List(pl.Int32),
    "finish": pl.String,
    "seed": pl.Int64,
    "status": pl.String,
    "think_open": pl.Int32,
    "think_close": pl.Int32,
    "answer_start": pl.Int32,
    "answer_end": pl.Int32,
}


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
        """Returns the half-open token range of each segment, in the order of SEGMENTS."""
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
    """Classifies a trace by its token ids, in funnel order: finished, think format, answer format.

    prompt, response: token ids. The last `<think>` of the prompt opens the thinking: those before it are mentioned. The
    trace is well formed when exactly one `</think>` follows, in the response or, without reasoning, in the prompt, and
    no `<think>` follows that. `has_answer` sees the answer's token ids. Raises R2AError for a prompt without `<think>`.
    """
    if ids.think_open not in prompt:
        raise R2AError(f"the prompt holds no <think> (token {ids.think_open})", "correct tags.think_open of this model")
    think_open = len(prompt) - 1 - list(reversed(prompt)).index(ids.think_open)
    if not response or response[-1] not in ids.ends:
        return TraceStatus("unfinished", think_open)
    tokens = [*prompt, *response]
    closes = [index for index, token in enumerate(tokens) if token == ids.think_close and index > think_open]
    if len(closes) != 1 or ids.think_open in tokens[closes[0] :]:
        return TraceStatus("bad_think", think_open)
    start, end = closes[0] + 1, len(tokens) - 1
    status: Status = "ok" if end > start and has_answer(tokens[start:end]) else "no_answer"
    return TraceStatus(status, think_open, closes[0], start, end)


@dataclass(frozen=True)
class TokenTrace:
    """One trace as token ids, final EOS included."""

    item_id: str
    token_ids: tuple[int, ...]
    segments: TraceSegments


def token_trace(item_id: str, prompt: Sequence[int], response: Sequence[int], ids: TagIds) -> TokenTrace:
    """Cut one prompt and its response, both as token ids, into segments; the answer need hold no box.

    Raises R2AError when the response has no EOS, not one `</think>`, or no answer.
    """
    found = classify(prompt, response, ids, lambda answer: True)
    if found.status != "ok" or found.think_open is None or found.think_close is None:
        hint = "a trace is: prompt with <think>, reasoning, </think>, answer, EOS"
        raise R2AError(f"the trace {item_id!r} leaves the funnel as {found.status}", hint)
    tokens = (*prompt, *response)
    return TokenTrace(item_id, tokens, TraceSegments(found.think_open, found.think_close, len(tokens)))


def select_traces(generations: pl.DataFrame) -> list[TokenTrace]:
    """Returns the first response with status `ok` of each item, in the order in which items appear.

    More items, or more runs of items that have a trace, leave the traces before them as they are.
    """
    order = generations["item_id"].unique(maintain_order=True)
    well_formed = generations.filter(pl.col("status") == "ok").sort("run", maintain_order=True)
    first = well_formed.unique("item_id", keep="first", maintain_order=True)
    rows = order.to_frame().join(first, on="item_id", maintain_order="left")
    traces = []
    for row in rows.iter_rows(named=True):
        token_ids = (*row["prompt_ids"], *row["response_ids"])
        segments = TraceSegments(row["think_open"], row["think_close"], len(token_ids))
        traces.append(TokenTrace(row["item_id"], token_ids, segments))
    return traces


BOX_MARKS = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


@dataclass(frozen=True)
class BoxedAnswer:
    """One box of a text: its stripped content, and where it stands in characters from the start of the text."""

    content: str
    start: int  # of the backslash
    inside: range  # of the stripped content: text[inside.start : inside.stop] == content


def boxed_answers(text: str) -> list[BoxedAnswer]:
    r"""Returns every \boxed{...} and \fbox{...} in order of their start; spaces may precede the brace.

    Braces must balance, escaped ones apart: a box that never closes is left out, and so is an empty one. One pass over
    the text.
    """
    boxes: list[BoxedAnswer] = []
    opened: list[re.Match[str] | None] = []  # an open brace each; None where it opens no box
    for mark in BOX_MARKS.finditer(text):
        if mark[0].endswith("{") and mark[0] != r"\{":
            opened.append(mark if len(mark[0]) > 1 else None)
        elif mark[0] == "}" and opened and (box := opened.pop()) is not None:
            untrimmed = text[box.end() : mark.start()]
            if content := untrimmed.strip():
                left = box.end() + len(untrimmed) - len(untrimmed.lstrip())
                boxes.append(BoxedAnswer(content, box.start(), range(left, left + len(content))))
    return sorted(boxes, key=lambda box: box.start)


def last_boxed_answer(text: str) -> BoxedAnswer | None:
    """Returns the final result of a response: its last box. Funnel, grader, maps and alignment all read this one."""
    boxes = boxed_answers(text)
    return boxes[-1] if boxes else None


def opens_box(text: str) -> bool:
    r"""Tells whether a text opens a \boxed{ or \fbox{, closed or not."""
    return any(mark[0][1:4] in ("box", "fbo") for mark in BOX_MARKS.finditer(text))


def has_boxed(answer_text: str) -> bool:
    r"""Tells whether the text after `</think>` holds an answer in a box: the funnel's last step (paper section 3)."""
    return last_boxed_answer(answer_text) is not None
