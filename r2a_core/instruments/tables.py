"""Which instrument tells answers that depend on the trace from others: truth, AUC, and agreement where none is known.

VALUE_SCHEMA rows of all models and datasets, labels of params `instruments`, tables of changed reasoning
-> TRUTH_SCHEMA, AUC_SCHEMA and AGREEMENT_SCHEMA tables, and the metrics. Figure and page take their numbers from these.
Needs no torch.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from r2a_core.config import InstrumentsParams
from r2a_core.instruments.catalogue import AGREEMENT_SCHEMA, AUC_SCHEMA, ENDS, INSTRUMENTS, TRUTH_SCHEMA
from r2a_core.instruments.statistics import (
    Estimate,
    Groups,
    chance,
    holm,
    model_auc,
    rank_correlation,
    rank_moments,
    stratified_auc,
)
from r2a_core.perturb.areas import share
from r2a_core.perturb.summary import clear_items


def truth_table(perturb: Mapping[tuple[str, str], pl.DataFrame], params: InstrumentsParams) -> pl.DataFrame:
    """Put the label of each model and dataset beside the share of answers that follow another item's reasoning.

    Items that are noise (perturb/summary.py) do not count. perturb: PERTURB_SCHEMA by model and dataset, without rows
    where no reasoning was changed.
    """
    rows = []
    for (model, dataset), frame in perturb.items():
        swapped = frame.filter(pl.col("family") == "other", pl.col("item_id").is_in(clear_items(frame)))
        followed = share(swapped["took"].drop_nulls(), params)
        rows.append((model, dataset, params.depends.get(model, {}).get(dataset), *followed.values()))
    return pl.DataFrame(rows, schema=TRUTH_SCHEMA, orient="row")


def auc_table(values: pl.DataFrame, truth: pl.DataFrame, params: InstrumentsParams) -> pl.DataFrame:
    """Ask how well each instrument that was used tells labelled items, and labelled models, apart.

    Items, and the means of models, are compared with those of the same dataset; sizes count items of models, or models.
    """
    labels = truth.select("model", "dataset", "depends")
    labelled = values.drop_nulls("value").join(labels, on=["model", "dataset"], maintain_order="left")
    rows = []
    for name in INSTRUMENTS:
        own = labelled.filter(pl.col("instrument") == name)
        known = own.drop_nulls("depends")
        units = known.group_by("model", "dataset", maintain_order=True)
        means = units.agg(pl.col("depends").first(), pl.col("value").mean())
        found = {
            "item": (known, stratified_auc(strata(known, "item_id"), params.bootstrap_draws, params.seed)),
            "model": (means, model_auc(strata(means, "model"))),
        }
        for level, (frame, estimate) in found.items() if own.height else ():
            sizes = [side.height if level == "item" else side["model"].n_unique() for side in sides(frame)]
            rows.append((name, level, *sizes, *numbers(estimate), own["passes"].mean()))
    return pl.DataFrame(rows, schema=AUC_SCHEMA, orient="row")


def sides(labelled: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part the rows whose answers depend on the trace from the others."""
    return labelled.filter(pl.col("depends")), labelled.filter(~pl.col("depends"))


def strata(labelled: pl.DataFrame, unit: str) -> list[Groups]:
    """Make a stratum of each dataset of labelled rows; unit: the column that says which values are of one."""
    found = []
    for _, rows in labelled.group_by("dataset", maintain_order=True):
        ours, theirs = sides(rows)
        ids = (side[unit].to_list() for side in (ours, theirs))
        found.append(Groups(ours["value"].to_numpy(), theirs["value"].to_numpy(), *ids))
    return found


def numbers(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    """The number and the ends of its interval."""
    return estimate.value, estimate.low, estimate.high


def agreement_table(values: pl.DataFrame, params: InstrumentsParams) -> pl.DataFrame:
    """Correlate the ranks that every two instruments give the items of a model, dataset by dataset and together."""
    rows = []
    for (model,), own in values.group_by("model", maintain_order=True):
        tables = {name: wide(frame) for (name,), frame in own.group_by("dataset", maintain_order=True)}
        for first, second in combinations(INSTRUMENTS, 2):
            found, generator = {}, np.random.default_rng(params.seed)
            for dataset, table in tables.items():
                both = np.isfinite(table[first]) & np.isfinite(table[second])
                if both.any():
                    x, y = table[first][both], table[second][both]
                    found[dataset] = rank_moments(x, y, params, generator)
            together = {None: [*found.values()]} if found else {}
            for dataset, strata in ({name: [each] for name, each in found.items()} | together).items():
                estimate = rank_correlation(strata)
                p = None if estimate.value is None else chance(strata)
                n = sum(each.n for each in strata)
                rows.append((model, dataset, first, second, n, *numbers(estimate), p, None))
    return with_holm(pl.DataFrame(rows, schema=AGREEMENT_SCHEMA, orient="row"))


def with_holm(agreement: pl.DataFrame) -> pl.DataFrame:
    """Adjust p for the number of pairs of instruments that a model and dataset have."""
    groups = agreement.group_by("model", "dataset", maintain_order=True)
    adjusted = [own.with_columns(holm=pl.Series(holm(own["p"].to_numpy())).fill_nan(None)) for _, own in groups]
    return pl.concat([agreement.head(0), *adjusted])


def wide(frame: pl.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Arrange values as an array by instrument, items in one order; NaN where none was measured."""
    table = frame.pivot("instrument", index="item_id", values="value", maintain_order=True)
    return {name: table[name].to_numpy() for name in INSTRUMENTS}


def summary(truth: pl.DataFrame, found: pl.DataFrame, agreement: pl.DataFrame) -> dict[str, Any]:
    """Make the metrics: truth, AUC by instrument and level, and how each instrument's ranks go with those of mass."""
    together = agreement.filter(pl.col("dataset").is_null(), pl.col("first") == "mass", pl.col("rho").is_not_null())
    instruments: dict[str, Any] = {}
    for row in found.iter_rows(named=True):
        own = instruments.setdefault(row["instrument"], {"passes": row["passes"]})
        own[row["level"]] = {name: row[name] for name in ("n_depends", "n_others", "auc", *ENDS)}
    beside: dict[str, Any] = {}
    for row in together.iter_rows(named=True):
        record = {name: row[name] for name in ("n", "rho", *ENDS, "p", "holm")}
        beside.setdefault(row["model"], {})[row["second"]] = record
    return {"truth": truth.to_dicts(), "instruments": instruments, "agreement_with_mass": beside}
