"""Judged answers (paper section 3, Figure 1b): a mean score from 1 to 10 with and without reasoning, by area.

scored rows of both settings, items, judgements -> scores by response; one record an area and one over all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from r2a_core.data.items import Item
from r2a_core.evaluation.judge_reply import RESPONSE, disagreement, judge_summary, mean_scores
from r2a_core.evaluation.paired import compare_settings
from r2a_core.infra.errors import R2AError

OVERALL = "overall"

AREA_ORDER = ("coding & analysis", "creative tasks", "information seeking", "reasoning & planning")

TEST = ("n", "difference", "t", "p", "reason", "win", "tie", "loss")

MEANS = {"accuracy": "mean", "low": "low", "high": "high"}  # name in a comparison: name here


def with_judged_scores(attempts: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """`attempts` (setting, run, item_id, kind, status, score, ...) with the mean judged score of open items as score.

    Raises R2AError when a well-formed open response has no judgement, or a judgement no such response.
    """
    due = (pl.col("kind") == "open") & (pl.col("status") == "ok")
    joined = attempts.join(mean_scores(judgements), on=list(RESPONSE), how="left", maintain_order="left")
    lost = attempts.filter(due).join(judgements, on=list(RESPONSE), how="anti", maintain_order="left")
    stale = judgements.join(attempts.filter(due), on=list(RESPONSE), how="anti", maintain_order="left")
    for rows, what in (
        (lost, "a response that was not judged"),
        (stale, "a judgement of no response"),
    ):
        if rows.height:
            raise R2AError(f"{rows['setting'][0]}: {what}, to {rows['item_id'][0]!r}", "judge again: dvc repro judge")
    return joined.with_columns(score=pl.coalesce("score", "judged")).drop("judged")


def judged_in_both(common: pl.DataFrame) -> pl.DataFrame:
    """Of the rows of items valid in both settings, those of items that have a score in both."""
    return common.filter(pl.col("score").is_not_null().all().over("item_id", "first_run"))


def area_records(
    common: pl.DataFrame, items: Sequence[Item], judgements: pl.DataFrame, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """By area (the subject of the items that were answered), and `overall`: the comparison over its common items.

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
        found[area] = score_record(compare_settings(ours, draws, seed)) | {"disagreement": asdict(disagreement(theirs))}
    return found


def areas_in_order(areas: Sequence[str]) -> list[str]:
    """The areas that occur, the paper's own first and in its order; an empty one is none."""
    present = {area for area in areas if area}
    return [area for area in AREA_ORDER if area in present] + sorted(present - set(AREA_ORDER))


def score_record(compared: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison under the names of scores: they are means, not accuracies."""
    means = {
        f"{ours}_{side}": compared[f"{name}_{side}"] for name, ours in MEANS.items() for side in ("with", "without")
    }
    return means | {name: compared[name] for name in TEST}


def without_accuracy(compared: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison of judged scores in the place of one of right and wrong: the test stays, the accuracies are None."""
    gone = [f"{name}_{side}" for name in MEANS for side in ("with", "without")]
    return {**compared, **dict.fromkeys([*gone, "only_with", "only_without", "mcnemar_p"])}


def judged_parts(
    common: pl.DataFrame, items: Sequence[Item], judgements: pl.DataFrame, draws: int, seed: int
) -> dict[str, Any]:
    """What the summary of a judged dataset holds besides that of a graded one."""
    return {
        "judge": judge_summary(judgements),
        "areas": area_records(common, items, judgements, draws, seed),
    }
