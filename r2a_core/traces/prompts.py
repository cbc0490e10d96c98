"""Prompts with and without reasoning (paper section 3), as token ids.

    with_reasoning       BOS + question + instruction + " " + <think> + "\n"
    without_reasoning    the same, then "Okay, I think I have finished thinking.\n" + </think>   (mode finished)
                         the same, then "\n" + </think>                                          (mode empty)

Text is tokenised part by part and tags are put in by id, so that a question can never produce one.
"""

from typing import Any, Literal

from r2a_core.errors import R2AError
from r2a_core.models.loading import LoadedTokenizer
from r2a_core.settings import SETTINGS, Setting

WithoutMode = Literal["finished", "empty"]
THINKING = {"finished": "\nOkay, I think I have finished thinking.\n", "empty": "\n\n"}


def to_setting(name: str) -> Setting:
    """The setting of that name. Raises R2AError for any other."""
    for setting in SETTINGS:
        if setting == name:
            return setting
    raise R2AError(f"the setting {name!r} is unknown", f"the settings are {', '.join(SETTINGS)}")


def prompt_ids(
    text: LoadedTokenizer, question: str, instruction: str, setting: Setting, mode: WithoutMode = "finished"
) -> list[int]:
    """Token ids of a prompt. Equal to tokenising the whole text when the question holds no tag text."""
    ids = [] if text.ids.bos is None else [text.ids.bos]
    ids += plain_ids(text, f"{question}{instruction} ") + [text.ids.think_open]
    if setting == "with_reasoning":
        return ids + plain_ids(text, "\n")
    return ids + plain_ids(text, THINKING[mode]) + [text.ids.think_close]


def plain_ids(text: LoadedTokenizer, content: str) -> list[int]:
    """Token ids of `content` as ordinary text: what looks like a special or added token is spelled out.

    Raises R2AError for text that no tokenizer takes (lone surrogates).
    """
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise R2AError(f"a text has a lone surrogate at character {error.start}", "remove or replace it") from None
    ids: list[int] = []
    for piece in split_added_tokens(text.tokenizer, content):
        ids += text.tokenizer.encode(piece, add_special_tokens=False)
    return ids


def split_added_tokens(tokenizer: Any, content: str) -> list[str]:
    """`content` cut inside every occurrence of an added token, so that none is recognised; one piece without any."""
    pieces, rest = [], content
    names = [str(token) for token in tokenizer.get_added_vocab() if len(str(token)) > 1]
    while True:
        found = [(rest.find(name), name) for name in names if name in rest]
        if not found:
            return [*pieces, rest]
        start, _ = min(found)
        pieces.append(rest[: start + 1])
        rest = rest[start + 1 :]
