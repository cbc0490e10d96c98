"""Rows of data/generations/<model>/<dataset>/<setting>.parquet, for generated and for imported texts.

token ids -> prompt and response as text and ids, finish, status and segment bounds (GENERATION_SCHEMA).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from r2a_core.config import WithoutMode
from r2a_core.data.imported_texts import ImportedText
from r2a_core.data.items import Item
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import Setting, classify


@dataclass(frozen=True)
class SplitText:
    """An imported text: token ids of its prompt and of its response."""

    prompt: list[int]
    response: list[int]


def generation_row(
    tokenizer: LoadedTokenizer,
    item: Item,
    run: int,
    prompt: Sequence[int],
    response: Sequence[int],
    seed: int | None,
    has_answer: Callable[[str], bool],
) -> dict[str, object]:
    """Returns one row of GENERATION_SCHEMA. seed is None for imported texts; `has_answer` sees the answer's text."""

    def decode(ids: Sequence[int]) -> str:
        return tokenizer.hf.decode(list(ids), clean_up_tokenization_spaces=False)

    trace = classify(prompt, response, tokenizer.ids, lambda answer: has_answer(decode(answer)))
    return {
        "item_id": item.item_id,
        "run": run,
        "prompt": decode(prompt),
        "response": decode(response),
        "prompt_ids": list(prompt),
        "response_ids": list(response),
        "finish": "stop" if response and response[-1] in tokenizer.ids.ends else "length",
        "seed": seed,
        "status": trace.status,
        "think_open": trace.think_open,
        "think_close": trace.think_close,
        "answer_start": trace.answer_start,
        "answer_end": trace.answer_end,
    }


def split_imported(
    tokenizer: LoadedTokenizer, item: Item, found: ImportedText, setting: Setting, instruction: str, mode: WithoutMode
) -> SplitText:
    """Returns the prompt and response of an imported text.

    The trace has one BOS, however many the text starts with. A full text holds the question before its first `<think>`;
    its prompt reaches up to there and, without reasoning, to the `</think>` that follows. Any other text is a response
    alone, and its prompt is the one the model would be given here; where it opens with `<think>` it says itself how the
    prompt ends.
    """
    tags = tokenizer.tags
    body = re.sub(rf"^(?:\s*{re.escape(tags.bos)})+", "", found.content) if tags.bos else found.content
    if found.finish == "stop" and not body.rstrip().endswith(tuple(tokenizer.end_texts)):
        body += tags.eos
    asked = body.find(item.question)
    opened = body.find(tags.think_open, asked + len(item.question))
    if asked < 0 or opened < 0 or tags.think_open in body[:asked]:
        if not body.lstrip().startswith(tags.think_open):
            return SplitText(
                prompt_ids(tokenizer, item.question, instruction, setting, mode), tagged_ids(tokenizer, body)
            )
        head = f"{item.question}{instruction} "
        opened, body = len(head), head + body.lstrip()
    head, rest = body[:opened], body[opened + len(tags.think_open) :]
    prompt = (
        ([] if tokenizer.ids.bos is None else [tokenizer.ids.bos])
        + plain_ids(tokenizer, head)
        + [tokenizer.ids.think_open]
    )
    if setting == "without_reasoning" and tags.think_close in rest:
        inside, rest = rest.split(tags.think_close, maxsplit=1)
        return SplitText(
            prompt + plain_ids(tokenizer, inside) + [tokenizer.ids.think_close], tagged_ids(tokenizer, rest)
        )
    newline = "\n" if rest.startswith("\n") else ""
    return SplitText(prompt + plain_ids(tokenizer, newline), tagged_ids(tokenizer, rest.removeprefix(newline)))


def tagged_ids(tokenizer: LoadedTokenizer, content: str) -> list[int]:
    """Tokenises a model's own words: `</think>` and a final token that ends texts are tags, all else is plain text.

    White space behind the EOS is no part of a text.
    """
    stripped = content.rstrip()
    end = next((text for text in tokenizer.end_texts if stripped.endswith(text)), None)
    parts = (content if end is None else stripped.removesuffix(end)).split(tokenizer.tags.think_close)
    ids = plain_ids(tokenizer, parts[0])
    for part in parts[1:]:
        ids += [tokenizer.ids.think_close, *plain_ids(tokenizer, part)]
    return ids if end is None else [*ids, tokenizer.end_texts[end]]
