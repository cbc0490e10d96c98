"""Judged runs made up at random, evaluated by the core's own functions: for figures and the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from r2a_core.config import EvaluateParams
from r2a_core.data.items import Item
from r2a_core.evaluation.funnel import Evaluation, evaluate
from r2a_core.evaluation.judge_reply import JUDGEMENT_SCHEMA
from r2a_core.trace import SETTINGS

GAINS = {"coding & analysis": 0.0, "creative tasks": 1.0, "information seeking": 0.4, "reasoning & planning": 0.6}
BOUNDS = {"think_open": 4, "think_close": 20, "answer_start": 21, "answer_end": 40}


def judged_run(
    model: str,
    n: int = 40,
    level: float = 6.0,
    repeats: int = 1,
    seed: int = 0,
    areas: Mapping[str, float] = GAINS,
    dataset: str = "wildbench",
) -> Evaluation:
    """A run whose scores with reasoning lie higher by an area's gain, on average; every tenth item has one response."""
    rng = np.random.default_rng(seed)
    items = [
        Item(f"{area}/{number}", f"Question {number}?", None, "open", area) for area in areas for number in range(n)
    ]
    quality = rng.normal(level, 1.5, len(items))
    generations, rows = {}, []
    for setting in SETTINGS:
        cut = range(9, len(items), 10) if setting == "with_reasoning" else ()
        statuses = ["unfinished" if number in cut else "ok" for number in range(len(items))]
        each = {"run": 0, "response": "words", **BOUNDS}
        generations[setting] = pl.DataFrame(
            [each | {"item_id": item.item_id, "status": ok} for item, ok in zip(items, statuses, strict=True)]
        )
        for item, status, mean in zip(items, statuses, quality, strict=True):
            gain = areas[item.subject] if setting == "with_reasoning" else 0.0
            for repeat, noise in enumerate(rng.normal(0, 0.6, repeats)):
                score = int(np.clip(round(mean + gain + rng.normal(0, 0.5) + noise), 1, 10))
                row: dict[str, Any] = {"item_id": item.item_id, "setting": setting, "run": 0, "repeat": repeat}
                if status == "ok":
                    rows.append(row | {"status": "ok", "score": score, "judge_model": "gpt-4o-2024-05-13"})
    table = pl.DataFrame(rows, schema=JUDGEMENT_SCHEMA)
    params = EvaluateParams(timeout_seconds=10, bootstrap_draws=500, seed=0)
    about = {"model": model, "dataset": dataset, "decoding": "temperature 0.6"}
    return evaluate(items, generations, 1, params, **about, judgements=table)
