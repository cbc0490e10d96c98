"""Rows of data/generations/<model>/<dataset>/<setting>.parquet, for generated and for imported texts.

token ids -> prompt and response as text and ids, finish, status and segment bounds (GENERATION_SCHEMA).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from r2a_core.data.items import Item
from r2a_core.models.loading import LoadedTokenizer
from r2a_core.traces.prompts import Setting, WithoutMode, plain_ids, prompt_ids
from r2a_core.traces.segments import classify

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
class SplitText:
    """An imported text: token ids of its prompt and of its response."""

    prompt: list[int]
    response: list[int]


def generation_row(
    text: LoadedTokenizer,
    item: Item,
    run: int,
    prompt: Sequence[int],
    response: Sequence[int],
    seed: int | None,
    has_answer: Callable[[str], bool],
) -> dict[str, object]:
    """One row of GENERATION_SCHEMA. seed is None for imported texts; `has_answer` sees the answer's text."""
    decode = text.tokenizer.decode
    trace = classify(prompt, response, text.ids, lambda answer: has_answer(decode(answer)))
    return {
        "item_id": item.item_id,
        "run": run,
        "prompt": decode(list(prompt)),
        "response": decode(list(response)),
        "prompt_ids": list(prompt),
        "response_ids": list(response),
        "finish": "stop" if response and response[-1] == text.ids.eos else "length",
        "seed": seed,
        "status": trace.status,
        "think_open": trace.think_open,
        "think_close": trace.think_close,
        "answer_start": trace.answer_start,
        "answer_end": trace.answer_end,
    }


def split_imported(
    text: LoadedTokenizer, item: Item, content: str, setting: Setting, instruction: str, mode: WithoutMode
) -> SplitText:
    """Prompt and response of an imported text.

    A full text has its prompt up to `<think>` (and, without reasoning, the `</think>` that closes it). A text without
    the question is a response alone; its prompt is the one the model would be given here.
    """
    tags = text.tags
    body = content.removeprefix(tags.bos) if tags.bos else content
    question_end = body.find(item.question) + len(item.question) if item.question in body else -1
    opened = body.find(tags.think_open, question_end) if question_end >= 0 else -1
    if opened < 0:
        prompt = prompt_ids(text, item.question, instruction, setting, mode)
        return SplitText(prompt, tagged_ids(text, body.removeprefix(f"{tags.think_open}\n")))
    head, rest = body[:opened], body[opened + len(tags.think_open) :]
    prompt = ([] if text.ids.bos is None else [text.ids.bos]) + plain_ids(text, head) + [text.ids.think_open]
    if setting == "without_reasoning" and tags.think_close in rest:
        inside, rest = rest.split(tags.think_close, maxsplit=1)
        return SplitText(prompt + plain_ids(text, inside) + [text.ids.think_close], tagged_ids(text, rest))
    newline = "\n" if rest.startswith("\n") else ""
    return SplitText(prompt + plain_ids(text, newline), tagged_ids(text, rest.removeprefix(newline)))


def tagged_ids(text: LoadedTokenizer, content: str) -> list[int]:
    """Token ids of a model's own words: `</think>` and the final EOS are tags, all else that looks like one is text."""
    ended = content.endswith(text.tags.eos)
    parts = content.removesuffix(text.tags.eos).split(text.tags.think_close)
    ids = plain_ids(text, parts[0])
    for part in parts[1:]:
        ids += [text.ids.think_close, *plain_ids(text, part)]
    return [*ids, text.ids.eos] if ended else ids
