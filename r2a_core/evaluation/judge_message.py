"""The message to a judge model: the project's template, filled with a question and the answer that is judged.

JudgeTemplate, JudgeInput -> the text of one message

The template, score_template.txt, follows the criteria that WildBench publishes for scoring an answer by itself:
strengths and weaknesses first, a checklist, a score from 1 to 10. The answer was written by a model and may try to talk
to the judge, so every part stands between two lines with a delimiter that is drawn from the material itself, which
whoever wrote it cannot know.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from r2a_core.evaluation.judge_reply import replace_surrogates

NOTHING = "(none)"  # stands for an empty history or checklist


@dataclass(frozen=True)
class JudgeTemplate:
    """A template file's parts: its version, the message, and what is added when the judge is asked again."""

    version: int
    message: str
    again: str


@dataclass(frozen=True)
class JudgeInput:
    """What one judgement is about. history: turns before the request, each with role and content."""

    history: Sequence[Mapping[str, str]]
    request: str
    answer: str
    checklist: Sequence[str]


def read_template() -> JudgeTemplate:
    """Reads the template that comes with the project: "version N", message and reminder, parted by lines of =====."""
    text = (files("r2a_core.evaluation") / "score_template.txt").read_text(encoding="utf-8")
    version, message, again = text.rstrip("\n").split("\n=====\n")
    return JudgeTemplate(int(version.removeprefix("version ")), message, again)


def judge_message(template: JudgeTemplate, material: JudgeInput, fault: str = "") -> str:
    """Fills the template. fault: what was wrong with the judge's last reply, when it is asked again."""
    turns = [f"{turn['role']}: {turn['content']}" for turn in material.history]
    values = {
        "history": "\n\n".join(turns) or NOTHING,
        "request": material.request,
        "answer": material.answer,
        "checklist": "\n".join(f"- {entry}" for entry in material.checklist) or NOTHING,
    }
    values = {name: replace_surrogates(value) for name, value in values.items()}
    message = fill_template(template.message, values | {"mark": delimiter(list(values.values()))})
    return f"{message}\n\n{fill_template(template.again, {'fault': fault})}" if fault else message


def fill_template(text: str, values: Mapping[str, str]) -> str:
    """Replaces each @@name@@ of `text` once: what a value holds is never read as a place to fill."""
    return "".join(values[piece] if number % 2 else piece for number, piece in enumerate(text.split("@@")))


def delimiter(parts: Sequence[str]) -> str:
    """Draws eight letters that none of the parts holds, the same for the same parts."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()
    drawn = [digest[at : at + 8] for at in range(0, len(digest), 8)]
    return next(letters for letters in drawn if not any(letters in part for part in parts))
