"""Params, and values of two models whose AUC and agreement can be worked out by hand."""

from typing import Any

import polars as pl

from r2a_core.config import InstrumentsParams, parse
from r2a_core.instruments.catalogue import TRUTH_SCHEMA
from r2a_core.instruments.tables import agreement_table, auc_table
from r2a_core.instruments.values import value_frame
from tests.study import PARAMS

DEPENDS = {"reads": {"a": True, "b": True}, "recites": {"a": False, "b": False}}


def params(**values: Any) -> InstrumentsParams:
    return parse(
        InstrumentsParams, PARAMS["instruments"] | {"bootstrap_draws": 200, "permutations": 999} | values, "instruments"
    )


def measured(name: str, values: list[float]) -> pl.DataFrame:
    rows = {"item_id": [f"q{number}" for number in range(len(values))], "value": values}
    return pl.DataFrame(rows).select("item_id", instrument=pl.lit(name), value="value", passes=pl.lit(2.0))


def values() -> pl.DataFrame:
    """Five questions of datasets a and b: mass tells nothing, wrong values all, loss without reasoning the reverse."""
    found = {}
    for model, depends in (("reads", 1.0), ("recites", 0.0)):
        for dataset, level in (("a", 0.0), ("b", 10.0)):
            steps = [level + number / 10 for number in range(5)]
            found[model, dataset] = [
                measured("mass", steps if depends else steps[::-1]),
                measured("wrong", [step + depends for step in steps]),
                measured("empty", [-step - depends for step in steps]),
            ]
        found[model, "pairs"] = []
    return value_frame(found)


def truth() -> pl.DataFrame:
    """Both labels are borne out, but for the model that recites on b."""
    rows = [
        (model, dataset, depends, 5, 1.0 if depends or dataset == "b" else 0.2, 0.0, 1.0)
        for model, own in DEPENDS.items()
        for dataset, depends in own.items()
    ]
    return pl.DataFrame(rows, schema=TRUTH_SCHEMA, orient="row")


def tables() -> dict[str, pl.DataFrame]:
    """As the stage writes them."""
    found = {"values": values(), "truth": truth()}
    return found | {
        "auc": auc_table(found["values"], found["truth"]),
        "agreement": agreement_table(found["values"], params()),
    }
