"""From responses to aligned pairs: every pair with every probe, and why it is left out where it is (paper section 5).

pairs, what `selection` keeps, the model's responses -> rows of PAIR_SCHEMA (data/pairs/<model>.parquet), in pair order
and then probe order. A row that is `aligned` holds all that patching needs; `aligned_pair` is its record.

Which pairs a run can use at all: both answers are one token, as they follow the common ending, for every model.

pairs, tokenizers of the run's models -> one row a pair, SELECTION_SCHEMA (data/pairs/selected.parquet). A row names the
first model that drops its pair, so that a model that drops no further pair changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from r2a_core.config import AlignmentConfig, ProbeStyle
from r2a_core.data.pairs import ComparisonPair
from r2a_core.evaluation.sandbox import grade_many
from r2a_core.infra.errors import R2AError
from r2a_core.infra.shards import fingerprint
from r2a_core.pairs.align import (
    ENDING,
    AlignedPair,
    PaddedSequence,
    PairRejected,
    PairSide,
    PatchPosition,
    UnalignedPair,
    align,
    answer_token,
)
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import last_boxed_answer

PAIR_SCHEMA: Any = {
    "pair_id": pl.String,
    "probe": pl.String,
    "domain": pl.String,
    "status": pl.String,  # aligned | not_selected | no_response | unfinished | bad_think | no_answer | wrong |
    # not_alignable
    "reason": pl.String,  # null where aligned
    "clean_answer": pl.String,
    "corrupted_answer": pl.String,
    # null from here on where the pair is not aligned
    "clean_ids": pl.List(pl.Int32),
    "corrupted_ids": pl.List(pl.Int32),
    "clean_pad": pl.List(pl.Boolean),
    "corrupted_pad": pl.List(pl.Boolean),
    "masked": pl.Boolean,  # padding is not attended to
    "positions": pl.List(pl.Int32),
    "roles": pl.List(pl.String),
    "clean_tokens": pl.List(pl.String),
    "corrupted_tokens": pl.List(pl.String),
    "answer_a": pl.Int32,
    "answer_b": pl.Int32,
    "think_open": pl.Int32,
    "think_close": pl.Int32,
}

SIDES = ("clean", "corrupted")

FAULTS = {
    "unfinished": "does not end",
    "bad_think": "does not hold exactly one </think>",
    "no_answer": "holds no boxed answer",
}

Grader = Callable[[Sequence[tuple[str, str]]], Sequence[bool]]


@dataclass(frozen=True)
class Response:
    """A model's response to one question of a pair."""

    prompt_ids: list[int]
    response_ids: list[int]
    text: str
    status: str


@dataclass(frozen=True)
class Verdict:
    """What becomes of a pair, and why."""

    status: str
    reason: str | None


def pair_rows(
    tokenizer: LoadedTokenizer,
    pairs: Sequence[ComparisonPair],
    selected: pl.DataFrame,
    generations: pl.DataFrame,
    probes: Sequence[ProbeStyle],
    config: AlignmentConfig,
    grade: Grader,
) -> pl.DataFrame:
    """Rows of PAIR_SCHEMA. `selected`: rows of SELECTION_SCHEMA."""
    reasons = dict(selected.filter(~pl.col("kept")).select("pair_id", "reason").iter_rows())
    responses = responses_of(generations)
    kept = [pair for pair in pairs if pair.pair_id not in reasons]
    verdicts = judge(kept, responses, grade)
    rows = []
    for pair in pairs:
        verdict = verdicts.get(pair.pair_id) or Verdict("not_selected", reasons.get(pair.pair_id))
        for probe in probes:
            row = {"pair_id": pair.pair_id, "probe": probe, "domain": pair.domain}
            row |= {"clean_answer": pair.clean_answer, "corrupted_answer": pair.corrupted_answer}
            if verdict.status == "aligned":
                rows.append(row | alignment_columns(tokenizer, pair, responses, probe, config))
            else:
                rows.append(row | {"status": verdict.status, "reason": verdict.reason})
    return pl.DataFrame(rows, schema=PAIR_SCHEMA)


def responses_of(generations: pl.DataFrame) -> dict[str, Response]:
    """Responses by question id. Raises R2AError for a status that is none and for two responses to a question."""
    columns = ["item_id", "prompt_ids", "response_ids", "response", "status"]
    again = "generate them again: dvc repro generate_pairs"
    found: dict[str, Response] = {}
    for item_id, *rest in generations.select(columns).iter_rows():
        response = Response(*rest)
        if response.status not in ("ok", *FAULTS):
            raise R2AError(f"the response to {item_id!r} has the unknown status {response.status!r}", again)
        if item_id in found:
            raise R2AError(f"there are two responses to {item_id!r}", again)
        found[item_id] = response
    return found


def judge(pairs: Sequence[ComparisonPair], responses: Mapping[str, Response], grade: Grader) -> dict[str, Verdict]:
    """By pair: `aligned` when both responses are finished, well formed and right, else what the first fault is."""
    verdicts: dict[str, Verdict] = {}
    due: list[tuple[str, str, str, str]] = []
    for pair in pairs:
        for side, gold in zip(SIDES, (pair.clean_answer, pair.corrupted_answer), strict=True):
            response = responses.get(f"{pair.pair_id}-{side}")
            if response is None:
                reason = f"the {side} question has no response of this model"
                verdicts.setdefault(pair.pair_id, Verdict("no_response", reason))
            elif response.status != "ok" or (box := last_boxed_answer(response.text)) is None:
                fault = response.status if response.status != "ok" else "no_answer"
                verdicts.setdefault(pair.pair_id, Verdict(fault, f"the {side} response {FAULTS[fault]}"))
            else:
                due.append((pair.pair_id, side, box.content, gold))
    for (pair_id, side, answer, gold), right in zip(due, grade([(each[2], each[3]) for each in due]), strict=True):
        if not right:
            verdicts.setdefault(pair_id, Verdict("wrong", f"the {side} response answers {answer!r}, not {gold!r}"))
    return {pair.pair_id: verdicts.get(pair.pair_id, Verdict("aligned", None)) for pair in pairs}


def grader(timeout_seconds: float) -> Grader:
    """The maths grader, which also compares words, with a time limit (s) for each answer."""

    def grade(answers: Sequence[tuple[str, str]]) -> list[bool]:
        return [bool(verdict.score) for verdict in grade_many(answers, timeout_seconds)] if answers else []

    return grade


def alignment_columns(
    tokenizer: LoadedTokenizer,
    pair: ComparisonPair,
    responses: Mapping[str, Response],
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> dict[str, Any]:
    """The columns of one pair and probe from `status` on."""
    clean, corrupted = (
        PairSide(
            answer, responses[f"{pair.pair_id}-{side}"].prompt_ids, responses[f"{pair.pair_id}-{side}"].response_ids
        )
        for side, answer in zip(SIDES, (pair.clean_answer, pair.corrupted_answer), strict=True)
    )
    found = align(tokenizer, pair.pair_id, pair.comparator, clean, corrupted, probe, config)
    if isinstance(found, UnalignedPair):
        return {"status": "not_alignable", "reason": found.reason}
    return {
        "status": "aligned",
        "clean_ids": found.clean.ids,
        "corrupted_ids": found.corrupted.ids,
        "clean_pad": found.clean.pad,
        "corrupted_pad": found.corrupted.pad,
        "masked": found.clean.masked,
        "positions": found.indices,
        "roles": [position.role for position in found.positions],
        "clean_tokens": [position.clean_token for position in found.positions],
        "corrupted_tokens": [position.corrupted_token for position in found.positions],
        "answer_a": found.answer_a,
        "answer_b": found.answer_b,
        "think_open": found.think_open,
        "think_close": found.think_close,
    }


def aligned_pair(row: Mapping[str, Any]) -> AlignedPair:
    """The record of a row whose status is `aligned`."""
    clean, corrupted = (
        PaddedSequence(tuple(row[f"{side}_ids"]), tuple(row[f"{side}_pad"]), row["masked"]) for side in SIDES
    )
    places = zip(row["positions"], row["roles"], row["clean_tokens"], row["corrupted_tokens"], strict=True)
    return AlignedPair(
        pair_id=row["pair_id"],
        probe=row["probe"],
        clean=clean,
        corrupted=corrupted,
        positions=tuple(PatchPosition(*place) for place in places),
        answer_a=row["answer_a"],
        answer_b=row["answer_b"],
        think_open=row["think_open"],
        think_close=row["think_close"],
    )


def aligned_pairs(frame: pl.DataFrame) -> list[AlignedPair]:
    """Records of all aligned rows, in their order."""
    return [aligned_pair(row) for row in frame.filter(pl.col("status") == "aligned").iter_rows(named=True)]


def pair_digest(pair: AlignedPair) -> str:
    """Digest of an aligned pair."""
    sides = [[side.ids, side.pad, side.masked] for side in (pair.clean, pair.corrupted)]
    places = [[each.index, each.role, each.clean_token, each.corrupted_token] for each in pair.positions]
    return fingerprint(
        pair_id=pair.pair_id,
        probe=pair.probe,
        sides=sides,
        positions=places,
        answers=[pair.answer_a, pair.answer_b],
        tags=[pair.think_open, pair.think_close],
    )


SELECTION_SCHEMA = {"pair_id": pl.String, "kept": pl.Boolean, "reason": pl.String}


def select_pairs(pairs: Sequence[ComparisonPair], tokenizers: Mapping[str, LoadedTokenizer]) -> pl.DataFrame:
    """Rows of SELECTION_SCHEMA in the order of `pairs`; reason is null where the pair is kept."""
    reasons = [first_reason(pair, tokenizers) for pair in pairs]
    return pl.DataFrame(
        {
            "pair_id": [pair.pair_id for pair in pairs],
            "kept": [reason is None for reason in reasons],
            "reason": reasons,
        },
        schema=SELECTION_SCHEMA,
    )


def first_reason(pair: ComparisonPair, tokenizers: Mapping[str, LoadedTokenizer]) -> str | None:
    """Why the pair is dropped, by the first model that does; None when it is kept."""
    for model, text in tokenizers.items():
        for answer in (pair.clean_answer, pair.corrupted_answer):
            try:
                answer_token(text, ENDING.format(pair.comparator), answer)
            except PairRejected as reason:
                return f"{model}: {reason}"
    return None
