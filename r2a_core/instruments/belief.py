"""Whether an instrument can be believed: the one rule, which metrics, figure and page share.

AUC_SCHEMA table -> `Belief` of each instrument. Needs no torch.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from r2a_core.instruments.catalogue import INSTRUMENTS
from r2a_core.wording import side

CLEAR = 0.7  # of the pairs of items, at the lower end of the interval, so that items are told apart clearly

Verdict = Literal["clearly", "weakly", "not shown", "reversed", "no AUC"]


@dataclass(frozen=True)
class Belief:
    """What an instrument has shown of single items. depends to high: of the pair of models that decides the verdict."""

    instrument: str
    verdict: Verdict
    depends: str | None
    other: str | None
    auc: float | None
    low: float | None
    high: float | None
    why: str | None  # there is no AUC
    passes: float

    @property
    def label(self) -> str:
        """Names the instrument; a star where it changes the trace as the check of the labels does."""
        instrument = INSTRUMENTS[self.instrument]
        return instrument.label + "*" * instrument.circular

    def record(self) -> dict[str, Any]:
        """Makes a record for metrics and page."""
        return {"label": self.label, **asdict(self)}


def beliefs(auc: pl.DataFrame) -> list[Belief]:
    """Judges every instrument of the table, in the order of the catalogue."""
    pairs = auc.filter(pl.col("level") == "pair")
    return [belief(rows.to_dicts()) for _, rows in pairs.group_by("instrument", maintain_order=True)]


def belief(pairs: list[dict[str, Any]]) -> Belief:
    """Judges one instrument by all pairs of models, one whose answers depend on the trace and one whose do not.

    It is believed if the interval of every pair lies above 0.5: one instrument may tell one model from the rest for
    another reason. It is reversed if that of a pair lies below.
    """
    known = [row for row in pairs if row["auc"] is not None]
    sides = {side(row["low"], row["high"], 0.5) for row in known}
    verdict: Verdict = "not shown"
    if not known:
        verdict = "no AUC"
    elif -1 in sides:
        verdict = "reversed"
    elif sides == {1} and len(known) == len(pairs):
        verdict = "clearly" if min(row["low"] for row in known) >= CLEAR else "weakly"
    ends = {"reversed": "high", "clearly": "low", "weakly": "low"}
    least: Mapping[str, Any] = min(known, key=lambda row: row[ends.get(verdict, "auc")], default=pairs[0])
    names = ("instrument", "depends", "other", "auc", "low", "high", "why", "passes")
    return Belief(verdict=verdict, **{name: least[name] for name in names})


def model_pairs(labels: pl.DataFrame) -> list[tuple[str | None, str | None]]:
    """List each model whose answers depend on the trace with each whose do not, on a dataset; else no names."""
    both = sides(labels.drop_nulls("depends"))
    met = both[0].join(both[1], on="dataset", maintain_order="left_right").select("model", "model_right")
    return met.unique(keep="first", maintain_order=True).rows() or [(None, None)]


def sides(labelled: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part the rows whose answers depend on the trace from the others."""
    return labelled.filter(pl.col("depends")), labelled.filter(~pl.col("depends"))
