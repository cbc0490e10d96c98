"""Params, and a table of changed traces of two items whose numbers can be worked out by hand, with one of noise."""

import math
from typing import Any

import polars as pl

from r2a_core.config import PerturbParams, parse
from r2a_core.perturb.summary import PERTURB_SCHEMA
from tests.study import PARAMS


def params(**values: Any) -> PerturbParams:
    return parse(PerturbParams, PARAMS["perturb"] | {"bootstrap_draws": 200} | values, "perturb")


def row(item: str, family: str, level: float, p: float, same: int, **more: Any) -> dict[str, Any]:
    """One arm of a trace of five sentences whose unchanged answer has p = 0.8."""
    case = {"item_id": item, "family": family, "part": "", "level": level, "n_sentences": 5, "kept": 0, "boundary": 3}
    sums = {"log_prob": math.log(p), "log_prob_base": math.log(0.8), "n_tokens": 20, "n_run": 4}
    answers = {"original": "2", "answer": "The answer is \\boxed{2}.", "same": float(same), "score": float(same)}
    return dict.fromkeys(PERTURB_SCHEMA) | case | sums | answers | {"whole": True} | more


MISTAKES = {  # item, part -> the number of the sentence -> the answer stays
    ("a", "made"): {1: 0, 3: 1},
    ("a", "none"): {1: 1, 3: 1},
    ("b", "made"): {2: 0, 4: 0},
    ("b", "none"): {2: 1, 4: 0},
    ("c", "made"): {3: 0},
    ("c", "none"): {3: 0},
}


def changed() -> pl.DataFrame:
    """Item a is right from the third of five sentences on, b from the fourth on; c is noise."""
    rows = []
    for item, first in (("a", 3), ("b", 4), ("c", 9)):
        for kept in range(6):
            right, free = kept >= first, {"free": "\\boxed{2}", "free_same": 1.0, "free_score": 1.0}
            more = free if item == "a" and kept in (0, 5) else {}
            rows.append(row(item, "cut", kept / 5, 0.8 if right else 0.1, right, kept=kept, boundary=first, **more))
        for part, same in (("across", 0), ("before", item == "a")):
            edits = [{"token": 7 + each, "old": f"{each}", "new": "9"} for each in range(2 if part == "before" else 3)]
            rows.append(row(item, "number", 1, 0.2, same, part=part, edits=edits))
        rows.append(row(item, "other", 1, 0.4, 0, planted="7", took=float(item == "a")))
    for (item, part), places in MISTAKES.items():
        rows += [
            row(item, "mistake", kept / 5, 0.4, same, part=part, kept=kept, n_written=6)
            for kept, same in places.items()
        ]
    return pl.DataFrame(rows, schema=PERTURB_SCHEMA)
