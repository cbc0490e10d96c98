"""The instruments of the project, and the tables that say how they compare.

INSTRUMENTS: name -> how it is shown; VALUE_SCHEMA, TRUTH_SCHEMA, AUC_SCHEMA, AGREEMENT_SCHEMA; `grid`: what figure and
page draw of the agreement. Needs no torch.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from r2a_core.wording import SIGNIFICANT


@dataclass(frozen=True)
class Instrument:
    """How one instrument is shown. circular: it changes the trace as the check of the labels does."""

    label: str
    circular: bool = False
    takes: str = ""  # what not every model has, and without which it has no value


INSTRUMENTS: dict[str, Instrument] = {
    "mass": Instrument("attention mass on the reasoning"),
    "focus": Instrument("mass over even reading"),
    "excess": Instrument("mass beyond reading by distance"),
    "walk": Instrument("walk of the best heads", takes="heads that walk"),
    "cut_mass": Instrument("cut: heads by mass"),
    "cut_mass_more": Instrument("cut: heads by mass, beyond random"),
    "cut_mass_result": Instrument("cut: heads by mass, result"),
    "cut_focus": Instrument("cut: heads by focus"),
    "cut_focus_more": Instrument("cut: heads by focus, beyond random"),
    "cut_focus_result": Instrument("cut: heads by focus, result"),
    "cut_all": Instrument("cut: all heads"),
    "cut_all_result": Instrument("cut: all heads, result"),
    "zero_head": Instrument("heads by mass zeroed"),
    "mean_head": Instrument("heads by mass at their mean"),
    "hidden": Instrument("a sentence hidden: divergence of the answer"),
    "hidden_result": Instrument("a sentence hidden: loss of the result"),
    "area": Instrument("area over the curve of cuts"),
    "mistakes": Instrument("area over the curve of mistakes"),
    "mistakes_alone": Instrument("area over the curve of mistakes, beyond writing anew"),
    "boundary": Instrument("place of the boundary"),
    "empty": Instrument("loss without reasoning"),
    "wrong": Instrument("loss by wrong values"),
    "filler": Instrument("loss by filler"),
    "other": Instrument("loss by other reasoning", circular=True),
    "swap": Instrument("answer changes with other reasoning", circular=True),
    "flip": Instrument("patching: NLD of the flipping token", takes="pairs whose answers follow the trace"),
}

VALUE_SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,
    "item_id": pl.String,
    "instrument": pl.String,
    "value": pl.Float64,
    "passes": pl.Float64,  # forward passes over the trace that it took
}

ENDS = {"low": pl.Float64, "high": pl.Float64}  # of the 95% interval

TRUTH_SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,
    "depends": pl.Boolean,  # the label; null: unknown
    "n": pl.Int32,  # items whose reasoning was replaced by that of another item
    "followed": pl.Float64,  # share of their answers that are then the other item's
    **ENDS,
}

AUC_SCHEMA = {
    "instrument": pl.String,
    "level": pl.String,  # pair: items of two models; model: means over the items of each model and dataset
    "depends": pl.String,  # of a pair, the model whose answers depend on the trace
    "other": pl.String,  # the model whose answers do not
    "n_depends": pl.Int32,
    "n_others": pl.Int32,
    "auc": pl.Float64,
    **ENDS,
    "passes": pl.Float64,  # mean over the items measured, labelled or not
    "why": pl.String,  # there is no AUC; null where there is
}

AGREEMENT_SCHEMA = {
    "model": pl.String,
    "dataset": pl.String,  # null: ranks within each dataset, all of them together
    "first": pl.String,
    "second": pl.String,
    "n": pl.Int32,
    "rho": pl.Float64,
    **ENDS,
    "p": pl.Float64,  # items dealt anew
    "holm": pl.Float64,  # the same, for as many pairs of instruments as the model and dataset have
}


def grid(agreement: pl.DataFrame) -> tuple[list[str], NDArray[np.float64], NDArray[np.bool_]]:
    """Arrange a model's agreement over all datasets: instruments, rho of each two (NaN: none), beyond chance or not."""
    rows = agreement.filter(pl.col("dataset").is_null()).drop_nulls("rho")
    names = [name for name in INSTRUMENTS if name in rows["first"] or name in rows["second"]]
    rho, told = np.full((len(names),) * 2, np.nan), np.zeros((len(names),) * 2, dtype=bool)
    for row in rows.iter_rows(named=True):
        first, second = names.index(row["first"]), names.index(row["second"])
        for place in ((first, second), (second, first)):
            rho[place], told[place] = row["rho"], row["holm"] < SIGNIFICANT
    return names, rho, told
