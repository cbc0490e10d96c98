r"""Boxed answers: finding them in a text. The last box of an answer is the answer."""

import re

BOX_MARKS = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)


def boxed_answers(text: str) -> list[str]:
    r"""Contents of every \boxed{...} and \fbox{...} in order of their start, stripped; the last one is the answer.

    Braces must balance: a box that never closes is left out, and so is an empty one. One pass over the text.
    """
    boxes: list[tuple[int, str]] = []
    opened: list[re.Match[str] | None] = []  # an open brace each; None where it opens no box
    for mark in BOX_MARKS.finditer(text):
        if mark[0].endswith("{") and mark[0] != r"\{":
            opened.append(mark if len(mark[0]) > 1 else None)
        elif mark[0] == "}" and opened and (box := opened.pop()) is not None:
            boxes.append((box.start(), text[box.end() : mark.start()].strip()))
    return [content for _, content in sorted(boxes) if content]


def has_boxed(answer_text: str) -> bool:
    r"""Whether the text after `</think>` holds an answer in a box: the funnel's last step (paper section 3)."""
    return bool(boxed_answers(answer_text))
