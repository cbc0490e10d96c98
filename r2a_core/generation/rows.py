"""Rows of data/generations/<model>/<dataset>/<setting>.parquet, for generated and for imported texts.

token ids -> prompt and response as text and ids, finish, status and segment bounds (GENERATION_SCHEMA).
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from r2a_core.config import WithoutMode
from r2a_core.data.imported_texts import ImportedText
from r2a_core.data.items import Item
from r2a_core.infra.errors import R2AError
from r2a_core.prompt_texts import THINKING
from r2a_core.prompts import prompt_ids
from r2a_core.tokenizer import LoadedTokenizer, encodable, plain_ids, split_added_tokens
from r2a_core.trace import Setting, classify

# Ways to write one sign: they do not make another question.
SAME_SIGNS = str.maketrans("’‘`´“”„–—−", "''''\"\"\"---")
BLANK = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\u00ad]+")  # and what takes no room
ROLE = re.compile(r"\s*\w*\s*\Z")  # behind a role mark: a role's name, as in <|im_start|>assistant
LONGEST_ROLE = 200  # characters of mark and name


@dataclass(frozen=True)
class SplitText:
    """An imported text: token ids of its prompt and of its response."""

    prompt: list[int]
    response: list[int]
    opened: bool = True  # the text itself holds the <think> that opens its thinking
    thought: bool = False  # without reasoning, it holds other thoughts than a prompt closes


@dataclass(frozen=True)
class Cut:
    """A text in two: its prompt up to `<think>`, and what follows."""

    head: str
    rest: str
    opened: bool = True


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

    The trace has one BOS, however many the text starts with, and no padding. Of a full text the prompt reaches up to
    the `<think>` that opens its thinking and, without reasoning, to the `</think>` that follows; a `<think>` that it
    lacks is put in. Any other text is a response alone, and its prompt is the one the model would be given here; where
    it opens with `<think>` it says itself how the prompt ends. Raises R2AError for a text whose prompt cannot be told
    from its response.
    """
    tags, content = tokenizer.tags, found.content
    if found.reasoning is not None:
        thoughts = found.reasoning.removeprefix("\n")
        content = f"{tags.think_open}\n{thoughts}{tags.think_close}{content}"
    whole, body = without_padding(tokenizer, content)
    if found.finish == "stop" and not body.endswith(tuple(tokenizer.end_texts)):
        body += tags.eos
    cut = cut_at_thinking(tokenizer, item.question, instruction, setting, body, whole)
    if cut is None:
        asked = prompt_ids(tokenizer, item.question, instruction, setting, mode)
        return SplitText(asked, tagged_ids(tokenizer, body), opened=False)
    prompt = [] if tokenizer.ids.bos is None else [tokenizer.ids.bos]
    prompt += [*head_ids(tokenizer, cut.head, item.question), tokenizer.ids.think_open]
    if setting == "without_reasoning" and tags.think_close in cut.rest:
        inside, rest = cut.rest.split(tags.think_close, maxsplit=1)
        prompt += [*tagged_ids(tokenizer, inside), tokenizer.ids.think_close]
        forced = inside.strip() in {text.strip() for text in THINKING.values()}
        return SplitText(prompt, tagged_ids(tokenizer, rest), cut.opened, not forced)
    newline = "\n" if cut.rest.startswith("\n") else ""
    prompt += plain_ids(tokenizer, newline)
    return SplitText(prompt, tagged_ids(tokenizer, cut.rest.removeprefix(newline)), cut.opened)


def without_padding(tokenizer: LoadedTokenizer, content: str) -> tuple[bool, str]:
    """Tells whether a text begins with BOS, and returns it without that and without padding on either side.

    Padding is the padding token and repeated ends, with white space between them. The first end stays.
    """
    pad, bos = str(tokenizer.hf.decode([tokenizer.ids.pad])), tokenizer.tags.bos
    marks = {pad, *tokenizer.end_texts}
    ahead = re.match(rf"(?:\s*(?:{any_of({bos or pad, *marks})}))*", content)
    padding = re.match(rf"(?:\s*{re.escape(pad)})*", content)
    assert ahead is not None
    assert padding is not None
    whole = bos is not None and bos in ahead[0]
    start = ahead[0].rindex(bos) + len(bos) if bos is not None and whole else padding.end()
    if not whole and not content[start:].strip():  # an end alone is a text that ended at once
        start = 0
    body = content[start:]
    text, first_end, padded = body.rstrip(), None, None
    while mark := next((each for each in marks if text.endswith(each)), None):
        if mark in tokenizer.end_texts:
            first_end = len(text)
        padded = len(text) - len(mark)
        text = text[:padded].rstrip()
    return whole, body[: first_end if first_end is not None else padded]


def cut_at_thinking(
    tokenizer: LoadedTokenizer, question: str, instruction: str, setting: Setting, body: str, whole: bool
) -> Cut | None:
    """Cuts a text where its thinking opens; None for a response alone that does not open it.

    In this order: the `<think>` behind a role mark; the one behind the question as it is written; a response that opens
    with it; the one behind the question in another form; a full text that lacks it. `whole`: the text began with BOS.
    Raises R2AError where neither text nor question tell the prompt from the response.
    """
    tag, closing = tokenizer.tags.think_open, tokenizer.tags.think_close
    roles = tuple(tokenizer.added - {tag, closing, tokenizer.tags.bos, *tokenizer.end_texts})
    asked, opens = same_form(question), [match.start() for match in re.finditer(re.escape(tag), body)]

    def at(place: int) -> Cut:
        return Cut(body[:place], body[place + len(tag) :])

    for place in opens:
        before = ROLE.sub("", body[max(place - LONGEST_ROLE, 0) : place])
        if before.endswith(roles) and asked in same_form(body[:place]):
            return at(place)
    starts_open = body.lstrip().startswith(tag)
    written = body.find(question)
    if written == 0 or (written > 0 and not starts_open):
        behind = written + len(question)
        behind += len(instruction) if body.startswith(instruction, behind) else 0
        place = body.find(tag, behind)
        if place >= 0 and closing not in body[behind:place]:
            return at(place)
    if starts_open:
        return Cut(f"{question}{instruction} ", body.lstrip().removeprefix(tag))
    before = body.partition(closing)[0]
    marked = whole or body.lstrip().startswith(roles)
    if opens and opens[0] < len(before):
        if asked in same_form(body[: opens[0]]):
            return at(opens[0])
        if marked or setting == "with_reasoning":
            hint = "make `problem` the question of the text, or leave the prompt out of the text"
            raise R2AError(f"what stands before its {tag} is not the question", hint)
        return None
    return cut_without_tag(before, body, question, instruction, roles) if marked or closing in body else None


def cut_without_tag(before: str, body: str, question: str, instruction: str, roles: tuple[str, ...]) -> Cut | None:
    """Cuts a full text without `<think>` behind the role mark that follows the question, or behind the instruction.

    before: the text up to its first `</think>`. None for a response alone. Raises R2AError for a text that begins with
    the question and does not show where the prompt ends.
    """
    asked, start = same_form(question), body.lstrip()
    begins = same_form(before).startswith(asked)
    if roles and (begins or start.startswith(roles)):
        for found in re.finditer(rf"(?:(?:{any_of(roles)})\s*(?:(?:assistant|model)\b)?\s*)+", before):
            if asked in same_form(before[: found.start()]):
                return Cut(body[: found.end()], body[found.end() :], opened=False)
    if begins:
        prompt = f"{question}{instruction}"
        if instruction.strip() and start.startswith(prompt):
            return Cut(f"{prompt} ", start.removeprefix(prompt).removeprefix(" "), opened=False)
        hint = "put it in where the thinking begins, or leave the prompt out of the text"
        raise R2AError("it begins with the question, and no opening tag ends its prompt", hint)
    return None


def head_ids(tokenizer: LoadedTokenizer, head: str, question: str) -> list[int]:
    """Tokenises a prompt as the tokenizer itself does, but for tags that the question spells: they are words."""
    before, found, after = head.partition(question)
    if not found or split_added_tokens(tokenizer.added, question) == [question]:
        return tagged_ids(tokenizer, head)
    return tagged_ids(tokenizer, before) + plain_ids(tokenizer, question) + tagged_ids(tokenizer, after)


def tagged_ids(tokenizer: LoadedTokenizer, content: str) -> list[int]:
    """Tokenises a text as the tokenizer itself does: tags and added tokens are tokens. Raises as `plain_ids`."""
    tags, ids = tokenizer.tags, tokenizer.ids
    marks = {tags.think_open: ids.think_open, tags.think_close: ids.think_close, **tokenizer.end_texts}
    found: list[int] = []
    for place, part in enumerate(re.split(f"({any_of(marks)})", encodable(content))):
        found += [marks[part]] if place % 2 else tokenizer.hf.encode(part, add_special_tokens=False)
    return found


def any_of(texts: Iterable[str]) -> str:
    """Returns a pattern of the texts, the longest first."""
    return "|".join(re.escape(text) for text in sorted(texts, key=lambda text: (-len(text), text)))


def same_form(text: str) -> str:
    """Returns a text without what may differ in one question: white space, entities, forms of quotes and letters."""
    for _ in range(2):  # &amp;lt; is < too
        text = html.unescape(text)
    return BLANK.sub("", unicodedata.normalize("NFKC", text.translate(SAME_SIGNS)))
