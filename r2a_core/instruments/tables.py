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
from r2a_core.instruments.belief import beliefs, model_pairs, sides
from r2a_core.instruments.catalogue import AGREEMENT_SCHEMA, AUC_SCHEMA, ENDS, INSTRUMENTS, TRUTH_SCHEMA
from r2a_core.instruments.statistics import (
    Estimate,
    Groups,
    chance,
    holm,
    item_auc,
    model_auc,
    rank_correlation,
    rank_moments,
    two_sided,
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


def auc_table(values: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Ask how well each instrument that was used tells the items of two models apart, and the means of all models.

    Both are compared within datasets alone; sizes count items of a model, or models.
    """
    labels = truth.select("model", "dataset", "depends")
    labelled = values.drop_nulls("value").join(labels, on=["model", "dataset"], maintain_order="left")
    rows = []
    for name in INSTRUMENTS:
        own = labelled.filter(pl.col("instrument") == name)
        if own.is_empty():
            continue
        known, passes = own.drop_nulls("depends"), own["passes"].mean()
        for pair in model_pairs(labels):
            models = (pl.col("model") == pl.lit(each, pl.String) for each in pair)
            ours, theirs = (side.filter(of_model) for side, of_model in zip(sides(known), models, strict=True))
            compared = two_sided(strata(pl.concat([ours, theirs]), "item_id"))
            estimate = item_auc(compared)
            why = None if estimate.value is not None else missing(name, pair, (ours, theirs))
            sizes = sum(len(each.ours) for each in compared), sum(len(each.theirs) for each in compared)
            rows.append((name, "pair", *pair, *sizes, *numbers(estimate), passes, why))
        units = known.group_by("model", "dataset", maintain_order=True)
        means = units.agg(pl.col("depends").first(), pl.col("value").mean())
        sizes = [side["model"].n_unique() for side in sides(means)]
        rows.append((name, "model", None, None, *sizes, *numbers(model_auc(strata(means, "model"))), passes, None))
    return pl.DataFrame(rows, schema=AUC_SCHEMA, orient="row")


def missing(name: str, pair: tuple[str | None, str | None], found: tuple[pl.DataFrame, pl.DataFrame]) -> str:
    """Say why a pair of models has no AUC."""
    if pair[0] is None:
        return "no dataset has models of both labels"
    lacking = " and ".join(str(model) for model, rows in zip(pair, found, strict=True) if rows.is_empty())
    takes = INSTRUMENTS[name].takes
    return f"{lacking or 'a dataset of both'}: no labelled value" + f", which takes {takes}" * bool(takes)


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
    """Make the metrics: truth, verdict and AUCs of each instrument, and how its ranks go with those of mass."""
    together = agreement.filter(pl.col("dataset").is_null(), pl.col("first") == "mass", pl.col("rho").is_not_null())
    instruments: dict[str, Any] = {}
    for each in beliefs(found):
        own = found.filter(pl.col("instrument") == each.instrument).drop("instrument", "passes")
        parts = own.partition_by("level", maintain_order=True, as_dict=True, include_key=False)
        pairs, (means,) = parts["pair",].to_dicts(), parts["model",].drop("depends", "other", "why").to_dicts()
        instruments[each.instrument] = {"passes": each.passes, "verdict": each.verdict, "pairs": pairs, "model": means}
    beside: dict[str, Any] = {}
    for row in together.iter_rows(named=True):
        record = {name: row[name] for name in ("n", "rho", *ENDS, "p", "holm")}
        beside.setdefault(row["model"], {})[row["second"]] = record
    return {"truth": truth.to_dicts(), "instruments": instruments, "agreement_with_mass": beside}
