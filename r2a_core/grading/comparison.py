"""With reasoning against without, item by item: scored rows of both settings -> one flat record of means and tests.

Also how such records become files: JSON with sorted keys, rounded numbers and null for what does not exist.
"""

import json
import math
from typing import Any

import numpy as np
import polars as pl

from r2a_core.errors import R2AError
from r2a_core.grading.statistics import accuracy_with_interval, mcnemar, paired_t, win_tie_loss
from r2a_core.settings import SETTINGS

NO_SCORES = "the items have no scores"


def compare_settings(rows: pl.DataFrame, draws: int, seed: int) -> dict[str, Any]:
    """Compares both settings over `rows` (item_id, setting, score): the common items, each with a row in both.

    An item's score is its mean over runs. Keys: n (items); accuracy_with, low_with, high_with and the same _without
    (the 95% interval); difference, t, p and reason (why there is no t); only_with, only_without and mcnemar_p (null
    unless the scores are 0 and 1); win, tie, loss.
    """
    if rows.height and rows["score"].null_count() == rows.height:
        return _record(np.empty(0), np.empty(0), draws, seed) | {"reason": NO_SCORES, "n": rows["item_id"].n_unique()}
    means = rows.sort("item_id").group_by("item_id", "setting", maintain_order=True).agg(pl.col("score").mean())
    sides = [means.filter(pl.col("setting") == setting) for setting in SETTINGS]
    if sides[0]["item_id"].to_list() != sides[1]["item_id"].to_list():
        raise R2AError("the two settings hold different items", "pass the common items only")
    scores = [side["score"].cast(pl.Float64).fill_null(math.nan).to_numpy() for side in sides]
    return _record(scores[0], scores[1], draws, seed)


def _record(ours: np.ndarray, theirs: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """The flat record of two aligned score arrays, shape (n_items,)."""
    with_, without = (
        accuracy_with_interval(scores, draws, seed, where=f"scores {setting}")
        for scores, setting in zip((ours, theirs), SETTINGS, strict=True)
    )
    test, tally = paired_t(ours, theirs), win_tie_loss(ours, theirs)
    binary = bool(ours.size) and bool(np.isin(np.concatenate([ours, theirs]), (0, 1)).all())
    exact = mcnemar(ours, theirs) if binary else None
    return {
        "n": test.n,
        "accuracy_with": with_.mean,
        "low_with": with_.low,
        "high_with": with_.high,
        "accuracy_without": without.mean,
        "low_without": without.low,
        "high_without": without.high,
        "difference": test.difference,
        "t": test.t,
        "p": test.p,
        "reason": test.reason,
        "only_with": exact.only_with if exact else None,
        "only_without": exact.only_without if exact else None,
        "mcnemar_p": exact.p if exact else None,
        "win": tally.win,
        "tie": tally.tie,
        "loss": tally.loss,
    }


def summary_text(summary: dict[str, Any]) -> str:
    """A summary as JSON: keys sorted, numbers rounded to 6 decimals (small ones to 6 digits), one trailing newline.

    Raises R2AError, naming the key, when a number is NaN or infinite.
    """
    return json.dumps(_rounded(summary, ""), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()}
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        raise R2AError(f"the summary's {key} is {value}", "look at the scores of data/evaluation")
    return round(value, 6) if abs(value) >= 1e-3 else float(f"{value:.6g}")  # a p of 1e-10 must not become 0
