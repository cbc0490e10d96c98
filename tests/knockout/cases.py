"""Params, and a table of knock-outs of two traces whose losses can be worked out by hand."""

from typing import Any

import polars as pl

from r2a_core.config import KnockoutParams, parse
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA
from tests.study import PARAMS


def params(**values: Any) -> KnockoutParams:
    return parse(KnockoutParams, PARAMS["knockout"] | {"bootstrap_draws": 200} | values, "knockout")


def row(item: str, name: str, k: int, loss: float, draw: int | None = None, **more: Any) -> dict[str, Any]:
    """A trace of 12 tokens whose answer of 4 loses `loss` nats per token, and its result of 2 twice that."""
    sums = {"log_prob": -4 - 4 * loss, "log_prob_base": -4.0, "result_log_prob": -1 - 4 * loss}
    tokens = {"n_tokens": 12, "n_reasoning_tokens": 3, "n_answer_tokens": 4, "n_result_tokens": 2, "n_layers": 4}
    case = {"item_id": item, "view": "answer", "kind": "mask", "set": name, "k": k, "draw": draw}
    more = {"result_log_prob_base": -1.0, "first_layer": 2 * bool(k)} | more
    return dict.fromkeys(KNOCKOUT_SCHEMA) | case | sums | tokens | more


def cut() -> pl.DataFrame:
    rows = []
    for item, shift in (("a", -0.1), ("b", 0.1)):
        written = {
            "anew": item,
            "anew_base": "b",
            "changed": item != "b",
            "score": float(item == "b"),
            "score_base": 1.0,
        }
        rows += [row(item, "none", 0, 0.0, **written | {"changed": False, "score": 1.0})]
        rows += [row(item, "mass", 2, 0.5 + shift, **written), row(item, "all", 8, 0.8)]
        rows += [row(item, "mass", 2, loss, draw) for draw, loss in enumerate((0.2, 0.6, 0.1))]
        rows += [row(item, "walking", 1, shift), row(item, "walking", 1, 0.3, 0)]
    return pl.DataFrame(rows, schema=KNOCKOUT_SCHEMA)
