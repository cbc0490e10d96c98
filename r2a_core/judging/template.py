"""What the judge is told: the project's own template, filled with one question and one answer.

score_template.txt, question, answer -> the text of one user message. The template follows the criteria that WildBench
publishes for scoring an answer by itself: strengths and weaknesses first, a checklist, a score from 1 to 10.

The answer was written by a model and may try to talk to the judge. So every part stands between two lines with a mark
that is drawn from the material itself and cannot be known to whoever wrote it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from r2a_core.errors import R2AError

FILE = "score_template.txt"
RULE = "\n=====\n"
PLACES = {"mark", "history", "request", "answer", "checklist"}
NOTHING = "(none)"


@dataclass(frozen=True)
class JudgeTemplate:
    """The parts of a template file: its version, the message, and what is added when it is asked again."""

    version: int
    message: str
    again: str


@dataclass(frozen=True)
class Material:
    """What one judgement is about. history: turns before the request, each with role and content."""

    history: Sequence[Mapping[str, str]]
    request: str
    answer: str
    checklist: Sequence[str]


def read_template() -> JudgeTemplate:
    """The template that comes with the project."""
    return parse_template((files("r2a_core.judging") / FILE).read_text(encoding="utf-8"))


def parse_template(text: str) -> JudgeTemplate:
    """A template file's parts. Raises R2AError when a part or a place to fill is missing, or one is unknown."""
    parts = text.rstrip("\n").split(RULE)
    if len(parts) != 3 or not parts[0].removeprefix("version ").isdecimal():
        raise R2AError(f"{FILE} has not the parts version, message and reminder", f"part them by lines of {RULE!r}")
    template = JudgeTemplate(int(parts[0].removeprefix("version ")), parts[1], parts[2])
    for part, known in ((template.message, PLACES), (template.again, {"fault"})):
        if (found := set(part.split("@@")[1::2])) != known:
            raise R2AError(f"{FILE} fills the places {sorted(found)}", f"its places are {sorted(known)}")
    return template


def judge_message(template: JudgeTemplate, material: Material, fault: str = "") -> str:
    """The whole message. fault: what was wrong with the judge's last reply, when it is asked again."""
    turns = [f"{turn['role']}: {turn['content']}" for turn in material.history]
    values = {
        "history": "\n\n".join(turns) or NOTHING,
        "request": material.request,
        "answer": material.answer,
        "checklist": "\n".join(f"- {entry}" for entry in material.checklist) or NOTHING,
    }
    values = {name: value.encode("utf-8", errors="replace").decode("utf-8") for name, value in values.items()}
    message = filled(template.message, values | {"mark": mark(list(values.values()))})
    return f"{message}\n\n{filled(template.again, {'fault': fault})}" if fault else message


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with each @@name@@ replaced once: what a value holds is never read as a place."""
    return "".join(values[piece] if number % 2 else piece for number, piece in enumerate(text.split("@@")))


def mark(parts: Sequence[str]) -> str:
    """Eight letters that none of the parts holds, the same for the same parts."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()
    drawn = [digest[at : at + 8] for at in range(0, len(digest), 8)]
    return next(letters for letters in drawn if not any(letters in part for part in parts))
