"""Which pairs can be patched, and why the others are left out (paper section 5).

Stage select_pairs: pairs, tokenizers of the run's models -> rows of SELECTION_SCHEMA (data/pairs/selected.parquet).
Both answers must be one token after the common ending, for every model.

Stage pairs: pairs, the selection, a model's responses -> rows of PAIR_SCHEMA (data/pairs/<model>.parquet), one per pair
and probe. Both responses must be well formed and right; a row that is `aligned` holds all that patching needs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from r2a_core.config import AlignmentConfig, AlignParams, ProbeStyle
from r2a_core.data.items import SELECTION_SCHEMA, QuestionPair
from r2a_core.evaluation.sandbox import grade_many
from r2a_core.pairs.align import (
    ENDING,
    PairRejected,
    Response,
    align,
    answer_token,
)
from r2a_core.pairs.tables import PAIR_SCHEMA, SIDES
from r2a_core.tokenizer import LoadedTokenizer
from r2a_core.trace import last_boxed_answer

FAULTS = {
    "unfinished": "does not end",
    "bad_think": "does not hold exactly one </think>",
    "no_answer": "holds no boxed answer",
}


def select_pairs(pairs: Sequence[QuestionPair], tokenizers: Mapping[str, LoadedTokenizer]) -> pl.DataFrame:
    """Selects the pairs that every model can use: rows of SELECTION_SCHEMA in the order of `pairs`.

    reason: the first model that drops the pair and why, null where it is kept. A further model that drops no further
    pair changes nothing.
    """
    reasons = [first_reason(pair, tokenizers) for pair in pairs]
    rows = {"pair_id": [pair.pair_id for pair in pairs], "kept": [reason is None for reason in reasons]}
    return pl.DataFrame(rows | {"reason": reasons}, schema=SELECTION_SCHEMA)


def first_reason(pair: QuestionPair, tokenizers: Mapping[str, LoadedTokenizer]) -> str | None:
    """Says why the first model that drops the pair does; None when it is kept."""
    for model, tokenizer in tokenizers.items():
        for answer in (pair.clean_answer, pair.corrupted_answer):
            try:
                answer_token(tokenizer, ENDING.format(pair.comparator), answer)
            except PairRejected as reason:
                return f"{model}: {reason}"
    return None


def pair_rows(
    tokenizer: LoadedTokenizer,
    pairs: Sequence[QuestionPair],
    selected: pl.DataFrame,
    generations: pl.DataFrame,
    params: AlignParams,
) -> pl.DataFrame:
    """Filters and aligns pairs with every probe: rows of PAIR_SCHEMA, in pair order and then probe order.

    selected: rows of SELECTION_SCHEMA. generations: the model's responses to the questions of the pairs.
    """
    dropped = dict(selected.filter(~pl.col("kept")).select("pair_id", "reason").iter_rows())
    responses = {row["item_id"]: row for row in generations.iter_rows(named=True)}
    kept = [pair for pair in pairs if pair.pair_id not in dropped]
    faults = response_faults(kept, responses, params.timeout_seconds)
    faults |= {pair_id: ("not_selected", reason) for pair_id, reason in dropped.items()}
    rows = []
    for pair in pairs:
        for probe in params.probes:
            row = {"pair_id": pair.pair_id, "probe": probe, "domain": pair.domain}
            row |= {"clean_answer": pair.clean_answer, "corrupted_answer": pair.corrupted_answer}
            if pair.pair_id in faults:
                status, reason = faults[pair.pair_id]
                rows.append(row | {"status": status, "reason": reason})
            else:
                rows.append(row | alignment_columns(tokenizer, pair, responses, probe, params))
    return pl.DataFrame(rows, schema=PAIR_SCHEMA)


def response_faults(
    pairs: Sequence[QuestionPair], responses: Mapping[str, Mapping[str, Any]], timeout_seconds: float
) -> dict[str, tuple[str, str]]:
    """Finds the pairs whose responses are not both finished, well formed and right: pair_id -> (status, reason).

    The clean side is named before the corrupted one, and form before value. timeout_seconds: s to grade one answer.
    """
    faults: dict[str, tuple[str, str]] = {}
    due: list[tuple[str, str, str, str]] = []  # pair, side, boxed answer, right answer
    for pair in pairs:
        for side, gold in zip(SIDES, (pair.clean_answer, pair.corrupted_answer), strict=True):
            response = responses.get(f"{pair.pair_id}-{side}")
            if response is None:
                reason = f"the {side} question has no response of this model"
                faults.setdefault(pair.pair_id, ("no_response", reason))
            elif response["status"] != "ok" or (box := last_boxed_answer(response["response"])) is None:
                status = response["status"] if response["status"] != "ok" else "no_answer"
                faults.setdefault(pair.pair_id, (status, f"the {side} response {FAULTS[status]}"))
            else:
                due.append((pair.pair_id, side, box.content, gold))
    verdicts = grade_many([(answer, gold) for _, _, answer, gold in due], timeout_seconds)
    for (pair_id, side, answer, gold), verdict in zip(due, verdicts, strict=True):
        if not verdict.score:
            faults.setdefault(pair_id, ("wrong", f"the {side} response answers {answer!r}, not {gold!r}"))
    return faults


def alignment_columns(
    tokenizer: LoadedTokenizer,
    pair: QuestionPair,
    responses: Mapping[str, Mapping[str, Any]],
    probe: ProbeStyle,
    config: AlignmentConfig,
) -> dict[str, Any]:
    """Returns the columns of one pair and probe from `status` on; `aligned_pairs` reads them back."""
    rows = [responses[f"{pair.pair_id}-{side}"] for side in SIDES]
    clean, corrupted = (Response(row["prompt_ids"], row["response_ids"]) for row in rows)
    try:
        found = align(tokenizer, pair, (clean, corrupted), probe, config)
    except PairRejected as reason:
        return {"status": "not_alignable", "reason": str(reason)}
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
