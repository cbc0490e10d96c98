"""The judge's reply, read strictly: one JSON object with strengths, weaknesses and a whole score from 1 to 10.

text -> Verdict, or the fault for which it is none. A code fence around the whole object is tolerated; words around it
are not, since they could hold a grade that the judged answer brought along.

The judge's scores as a table, and how far repeats of a judgement agree.

data/judgements/<model>/<dataset>.parquet (JUDGEMENT_SCHEMA): one row a response and repeat. A response's score is its
mean over the repeats that gave one.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from r2a_core.data.user_tables import fields_once
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import read_frame

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
    """Why a reply is no verdict, in words of our own that can be told to the judge."""

    reason: str


def read_verdict(text: str) -> JudgeVerdict | ReplyFault:
    """The verdict of a reply. A key that stands twice, a score in quotes and a number such as 7.5 are faults."""
    body = text.strip()
    fenced = FENCED.fullmatch(body)
    try:
        found = json.loads(fenced[1] if fenced else body, object_pairs_hook=fields_once, parse_constant=refuse)
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
    """A text, or a list of texts as lines; None for anything else. Lone surrogates become question marks."""
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        value = "\n".join(value)
    return value.encode("utf-8", errors="replace").decode("utf-8") if isinstance(value, str) else None


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

RESPONSE = ("setting", "run", "item_id")

STATUSES = ("ok", "bad_reply", "refused")


@dataclass(frozen=True)
class Disagreement:
    """How far repeated judgements of the same response lie apart; None where no response has two scores."""

    responses: int  # with two scores or more
    mean_difference: float | None  # |a - b| over all pairs of scores of the same response
    exact: float | None  # share of those pairs that are equal
    sd: float | None  # standard deviation within a response, pooled over responses


def read_judgements(path: Path) -> pl.DataFrame:
    """The table of a model and dataset. Raises R2AError when it is damaged, lacks a column or holds impossible rows."""
    again = "judge again: dvc repro judge"
    frame = read_frame(path, JUDGEMENT_SCHEMA, "judge")
    good = pl.col("status").is_in(STATUSES) & (pl.col("score").is_not_null() == (pl.col("status") == "ok"))
    good &= pl.col("score").is_null() | pl.col("score").is_between(1, 10)
    if (odd := frame.filter(~good)).height:
        raise R2AError(
            f"{path}: {odd['item_id'][0]!r} has the status {odd['status'][0]} and the score {odd['score'][0]}", again
        )
    if (twin := frame.filter(pl.struct(*RESPONSE, "repeat").is_duplicated())).height:
        raise R2AError(f"{path}: {twin['item_id'][0]!r} is judged twice in one repeat", again)
    return frame


def mean_scores(judgements: pl.DataFrame) -> pl.DataFrame:
    """One row a judged response: setting, run, item_id, judged (its mean score, null where no repeat gave one)."""
    means = judgements.group_by(*RESPONSE, maintain_order=True).agg(judged=pl.col("score").cast(pl.Float64).mean())
    return means.sort(RESPONSE)


def disagreement(judgements: pl.DataFrame) -> Disagreement:
    """How far repeats lie apart, over the responses with two scores or more."""
    scored = judgements.filter(pl.col("status") == "ok").sort(*RESPONSE, "repeat")
    groups = scored.group_by(*RESPONSE, maintain_order=True).agg("score")["score"].to_list()
    several = [np.asarray(scores, dtype=np.float64) for scores in groups if len(scores) > 1]
    if not several:
        return Disagreement(0, None, None, None)
    gaps = np.concatenate([np.abs(np.subtract.outer(each, each))[np.triu_indices(each.size, 1)] for each in several])
    squares = sum(float(((each - each.mean()) ** 2).sum()) for each in several)
    degrees = sum(each.size - 1 for each in several)
    return Disagreement(len(several), float(gaps.mean()), float((gaps == 0).mean()), float(np.sqrt(squares / degrees)))


def judge_summary(judgements: pl.DataFrame) -> dict[str, Any]:
    """Who judged, how often, with what outcome, for how many tokens, and how far the repeats agree."""
    models = sorted(set(judgements["judge_model"].drop_nulls()))
    counts = {status: int((judgements["status"] == status).sum()) for status in STATUSES}
    tokens = {name: judgements[f"{name}_tokens"].sum() for name in ("prompt", "completion")}
    return {
        "model": ", ".join(models) or None,
        "repeats": judgements["repeat"].n_unique(),
        "replies": counts,
        "tokens": tokens,
        "disagreement": asdict(disagreement(judgements)),
    }
