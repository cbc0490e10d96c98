"""The judge's reply, read strictly: one JSON object with strengths, weaknesses and a whole score from 1 to 10.

text -> JudgeVerdict, or the ReplyFault that makes it unusable; and the table that replies become, JUDGEMENT_SCHEMA
(data/judgements/<model>/<dataset>.parquet, one row per response and repeat).

A code fence around the whole object is tolerated; words around it are not, since they could hold a grade that the
judged answer brought along.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from r2a_core.data.user_tables import unique_fields

JUDGEMENT_SCHEMA = {
    "item_id": pl.String,
    "setting": pl.String,
    "run": pl.Int32,
    "repeat": pl.Int32,
    "status": pl.String,  # ok | bad_reply | refused
    "score": pl.Int32,  # 1..10, null unless ok
    "judge_model": pl.String,  # as the server named it
    "strengths": pl.String,
    "weaknesses": pl.String,
    "attempts": pl.Int32,  # times the judge was asked
    "prompt_tokens": pl.Int64,  # of all attempts; null where the server did not count
    "completion_tokens": pl.Int64,
    "reply": pl.String,  # the last reply, as it came
}

STATUSES = ("ok", "bad_reply", "refused")

SCORES = range(1, 11)

FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class JudgeVerdict:
    """What the judge found."""

    score: int  # 1..10
    strengths: str
    weaknesses: str


@dataclass(frozen=True)
class ReplyFault:
    """Why a reply cannot be used, in words of our own that can be repeated to the judge."""

    reason: str


def read_verdict(text: str) -> JudgeVerdict | ReplyFault:
    """Reads a reply. A repeated key, a score in quotes and a number such as 7.5 are faults."""
    body = text.strip()
    fenced = FENCED.fullmatch(body)
    try:
        found = json.loads(fenced[1] if fenced else body, object_pairs_hook=unique_fields, parse_constant=refuse)
    except (ValueError, RecursionError):
        return ReplyFault("it was not one JSON object")
    if not isinstance(found, dict):
        return ReplyFault("it was not one JSON object")
    score = found.get("score")
    if not isinstance(score, int) or isinstance(score, bool) or score not in SCORES:
        return ReplyFault("its score was not a whole number from 1 to 10")
    strengths, weaknesses = (as_text(found.get(name)) for name in ("strengths", "weaknesses"))
    if strengths is None or weaknesses is None:
        return ReplyFault("its strengths or weaknesses were not given as text")
    return JudgeVerdict(score, strengths, weaknesses)


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def as_text(value: Any) -> str | None:
    """Returns a text, or a list of texts as lines; None for anything else."""
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        value = "\n".join(value)
    return replace_surrogates(value) if isinstance(value, str) else None


def replace_surrogates(text: str) -> str:
    """Replaces lone surrogates, which cannot be sent or stored, by question marks."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
