"""What a reasoning concludes: the answer that it names last.

text of the reasoning, options of the question -> its last boxed answer; else the option in the last sentence that names
any, where it names no other; else, where the reference is a number, its last number.
"""

import re
from collections.abc import Sequence

from r2a_core.evaluation.values import NUMBER
from r2a_core.tokenizer import words_pattern
from r2a_core.trace import last_boxed_answer

SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


def concluded(reasoning: str, options: Sequence[str], gold: str | None) -> str | None:
    """Reads the answer that a reasoning names last; None where it names none, or the reference is neither."""
    if (boxed := last_boxed_answer(reasoning)) is not None:
        return boxed.content
    if options:
        pattern = words_pattern(options, re.IGNORECASE)
        sentences = [{word.lower() for word in pattern.findall(text)} for text in SENTENCE_END.split(reasoning)]
        last = next((words for words in reversed(sentences) if words), set())
        return next((option for option in options if last == {option.lower()}), None)
    numbers = NUMBER.findall(reasoning) if gold is not None and NUMBER.fullmatch(gold) else []
    return numbers[-1] if numbers else None
