r"""Prompts with and without reasoning (paper section 3), as token ids.

    with_reasoning       BOS + question + instruction + " " + <think> + "\n"
    without_reasoning    the same, then "Okay, I think I have finished thinking.\n" + </think>   (mode finished)
                         the same, then "\n" + </think>                                          (mode empty)

Text is tokenised part by part and tags are put in by id, so that a question can never produce one.
"""

from r2a_core.config import WithoutMode
from r2a_core.prompt_texts import THINKING
from r2a_core.tokenizer import LoadedTokenizer, plain_ids
from r2a_core.trace import Setting


def prompt_ids(
    tokenizer: LoadedTokenizer, question: str, instruction: str, setting: Setting, mode: WithoutMode = "finished"
) -> list[int]:
    """Builds a prompt, as token ids: equal to tokenising the whole text when the question holds no tag text."""
    ids = [] if tokenizer.ids.bos is None else [tokenizer.ids.bos]
    ids += plain_ids(tokenizer, f"{question}{instruction} ") + [tokenizer.ids.think_open]
    if setting == "with_reasoning":
        return ids + plain_ids(tokenizer, "\n")
    return ids + plain_ids(tokenizer, THINKING[mode]) + [tokenizer.ids.think_close]
