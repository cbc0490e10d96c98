"""The judge's reply, read strictly: one JSON object with strengths, weaknesses and a whole score from 1 to 10.

text -> Verdict, or the fault for which it is none. A code fence around the whole object is tolerated; words around it
are not, since they could hold a grade that the judged answer brought along.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from r2a_core.data.tables import fields_once

SCORES = range(1, 11)
FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """What the judge found."""

    score: int  # 1..10
    strengths: str
    weaknesses: str


@dataclass(frozen=True)
class Fault:
    """Why a reply is no verdict, in words of our own that can be told to the judge."""

    reason: str


def read_verdict(text: str) -> Verdict | Fault:
    """The verdict of a reply. A key that stands twice, a score in quotes and a number such as 7.5 are faults."""
    body = text.strip()
    fenced = FENCED.fullmatch(body)
    try:
        found = json.loads(fenced[1] if fenced else body, object_pairs_hook=fields_once, parse_constant=refuse)
    except (ValueError, RecursionError):
        return Fault("it was not one JSON object")
    if not isinstance(found, dict):
        return Fault("it was not one JSON object")
    score = found.get("score")
    if not isinstance(score, int) or isinstance(score, bool) or score not in SCORES:
        return Fault("its score was not a whole number from 1 to 10")
    strengths, weaknesses = (as_text(found.get(name)) for name in ("strengths", "weaknesses"))
    if strengths is None or weaknesses is None:
        return Fault("its strengths or weaknesses were not given as text")
    return Verdict(score, strengths, weaknesses)


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def as_text(value: Any) -> str | None:
    """A text, or a list of texts as lines; None for anything else. Lone surrogates become question marks."""
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        value = "\n".join(value)
    return value.encode("utf-8", errors="replace").decode("utf-8") if isinstance(value, str) else None
