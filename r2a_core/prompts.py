r"""Prompts with and without reasoning (paper section 3), as token ids.

    with_reasoning       BOS + question + instruction + " " + <think> + "\n"
    without_reasoning    the same, then "Okay, I think I have finished thinking.\n" + </think>   (mode finished)
                         the same, then "\n" + </think>                                          (mode empty)

Text is tokenised part by part and tags are put in by id, so that a question can never produce one.
"""

from r2a_core.config import WithoutMode
from r2a_core.infra.errors import R2AError
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import SETTINGS, Setting

THINKING = {"finished": "\nOkay, I think I have finished thinking.\n", "empty": "\n\n"}


def to_setting(name: str) -> Setting:
    """The setting of that name. Raises R2AError for any other."""
    for setting in SETTINGS:
        if setting == name:
            return setting
    raise R2AError(f"the setting {name!r} is unknown", f"the settings are {', '.join(SETTINGS)}")


def prompt_ids(
    tokenizer: LoadedTokenizer, question: str, instruction: str, setting: Setting, mode: WithoutMode = "finished"
) -> list[int]:
    """Token ids of a prompt. Equal to tokenising the whole text when the question holds no tag text."""
    ids = [] if tokenizer.ids.bos is None else [tokenizer.ids.bos]
    ids += plain_ids(tokenizer, f"{question}{instruction} ") + [tokenizer.ids.think_open]
    if setting == "with_reasoning":
        return ids + plain_ids(tokenizer, "\n")
    return ids + plain_ids(tokenizer, THINKING[mode]) + [tokenizer.ids.think_close]
