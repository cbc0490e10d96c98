"""Judged answers (paper section 3, Figure 1b): a mean score from 1 to 10 with and without reasoning, by area.

judgements -> the score of a response (its mean over the repeats that gave one) and how far repeats agree;
scored rows of both settings, items, judgements -> one record per area, and one over all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from r2a_core.data.items import Item
from r2a_core.evaluation.judge_reply import STATUSES
from r2a_core.evaluation.paired import compare_settings
from r2a_core.infra.errors import R2AError
from r2a_core.trace import SETTINGS

RESPONSE = ("setting", "run", "item_id")

OVERALL = "overall"

AREA_ORDER = ("coding & analysis", "creative tasks", "information seeking", "reasoning & planning")

TEST = ("n", "difference", "low_difference", "high_difference", "t", "p", "reason", "win", "tie", "loss")

MEANS = {"accuracy": "mean", "low": "low", "high": "high"}  # name in a comparison: name here


@dataclass(frozen=True)
class Disagreement:
    """How far repeated judgements of the same response lie apart; None where no response has two scores."""

    responses: int  # with two scores or more
    mean_difference: float | None  # |a - b| over all pairs of scores of the same response
    exact: float | None  # share of those pairs that are equal
    sd: float | None  # standard deviation within a response, pooled over responses


def mean_scores(judgements: pl.DataFrame) -> pl.DataFrame:
    """Averages repeats: one row per judged response, setting, run, item_id, judged (null where no repeat gave one)."""
    means = judgements.group_by(*RESPONSE, maintain_order=True).agg(judged=pl.col("score").cast(pl.Float64).mean())
    return means.sort(RESPONSE)


def disagreement(judgements: pl.DataFrame) -> Disagreement:
    """Measures how far repeats lie apart, over the responses with two scores or more."""
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
    """Says who judged, how often, with what outcome, for how many tokens, and how far the repeats agree."""
    models = sorted(set(judgements["judge_model"].drop_nulls()))
    return {
        "model": ", ".join(models) or None,
        "repeats": judgements["repeat"].n_unique(),
        "replies": {status: int((judgements["status"] == status).sum()) for status in STATUSES},
        "tokens": {name: judgements[f"{name}_tokens"].sum() for name in ("prompt", "completion")},
        "disagreement": asdict(disagreement(judgements)),
    }


def with_judged_scores(attempts: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """Sets the score of open items in `attempts` (setting, run, item_id, kind, status, score, ...) to their mean.

    Raises R2AError when a well-formed open response has no judgement, or a judgement no such response.
    """
    due = (pl.col("kind") == "open") & (pl.col("status") == "ok")
    joined = attempts.join(mean_scores(judgements), on=list(RESPONSE), how="left", maintain_order="left")
    lost = attempts.filter(due).join(judgements, on=list(RESPONSE), how="anti", maintain_order="left")
    stale = judgements.join(attempts.filter(due), on=list(RESPONSE), how="anti", maintain_order="left")
    for rows, what in ((lost, "a response that was not judged"), (stale, "a judgement of no response")):
        if rows.height:
            raise R2AError(f"{rows['setting'][0]}: {what}, to {rows['item_id'][0]!r}", "judge again: dvc repro judge")
    return joined.with_columns(score=pl.coalesce("score", "judged")).drop("judged")


def judged_in_both(common: pl.DataFrame) -> pl.DataFrame:
    """Keeps, of the rows of items valid in all settings, those of items that have a score in all."""
    return common.filter(pl.col("score").is_not_null().all().over("item_id", "first_run"))


def area_records(
    common: pl.DataFrame,
    items: Sequence[Item],
    judgements: pl.DataFrame,
    draws: int,
    seed: int,
    settings: Sequence[str] = SETTINGS,
) -> dict[str, dict[str, Any]]:
    """Compares the settings over the common items of each area (the subject of items), and `overall`.

    Keys of a record: n, mean_with, low_with, high_with and the same _without, difference, t, p, reason, win, tie, loss,
    and disagreement (of repeats, over all responses of the area).
    """
    area_of = pl.DataFrame({"item_id": [i.item_id for i in items], "area": [i.subject for i in items]})
    rows, judged = (
        frame.join(area_of, on="item_id", how="left", maintain_order="left") for frame in (common, judgements)
    )
    found = {}
    for area in [*areas_in_order(judged["area"].to_list()), OVERALL]:
        ours, theirs = (frame if area == OVERALL else frame.filter(pl.col("area") == area) for frame in (rows, judged))
        compared = compare_settings(ours, draws, seed, settings)
        found[area] = score_record(compared) | {"disagreement": asdict(disagreement(theirs))}
    return found


def areas_in_order(areas: Sequence[str]) -> list[str]:
    """Orders the areas that occur, the paper's own first and in its order; the empty name is no area."""
    present = {area for area in areas if area}
    return [area for area in AREA_ORDER if area in present] + sorted(present - set(AREA_ORDER))


def score_record(compared: Mapping[str, Any]) -> dict[str, Any]:
    """Renames a comparison: judged scores have means, not accuracies."""
    means = {
        f"{ours}_{side}": compared[f"{name}_{side}"] for name, ours in MEANS.items() for side in ("with", "without")
    }
    return means | {name: compared[name] for name in TEST}


def without_accuracy(compared: Mapping[str, Any]) -> dict[str, Any]:
    """Sets to None what a comparison of judged scores has no meaning for: accuracies and McNemar's test."""
    gone = [f"{name}_{side}" for name in MEANS for side in ("with", "without")]
    return {**compared, **dict.fromkeys([*gone, "only_with", "only_without", "mcnemar_p"])}


def judged_parts(
    common: pl.DataFrame,
    items: Sequence[Item],
    judgements: pl.DataFrame,
    draws: int,
    seed: int,
    settings: Sequence[str] = SETTINGS,
) -> dict[str, Any]:
    """Returns what the summary of a judged dataset holds besides that of a graded one."""
    areas = area_records(common, items, judgements, draws, seed, settings)
    return {"judge": judge_summary(judgements), "areas": areas}
