"""The words about instruments: which can be believed for what, and where attention mass fails.

TRUTH_SCHEMA, AUC_SCHEMA and AGREEMENT_SCHEMA tables -> sentences. Needs no torch.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from r2a_core.instruments.catalogue import INSTRUMENTS
from r2a_core.wording import SIGNIFICANT, percent, side, signed

BEHAVIOUR = ("empty", "wrong", "area", "cut_mass", "cut_all")  # beside which attention mass is put in words


def sentences(truth: pl.DataFrame, found: pl.DataFrame, agreement: pl.DataFrame, model: str) -> list[str]:
    """Say what is known of the models of the run, which instrument can be believed for what, and which go together."""
    known = found.filter(pl.col("auc").is_not_null())
    said = [truth_sentence(truth)]
    for level, what in (("item", "single items"), ("model", "models, by their means on a dataset,")):
        rows = known.filter(pl.col("level") == level).sort("auc", descending=True, maintain_order=True)
        if rows.height:
            said.append(auc_sentence(rows, what))
    if known.height:
        said.append(mass_sentence(known))
    return [*said, *agreement_sentences(agreement.filter(pl.col("model") == model, pl.col("dataset").is_null()), model)]


def headline(found: pl.DataFrame, agreement: pl.DataFrame, model: str) -> str:
    """Say in one sentence what attention mass is good for; where no truth is known, how far instruments agree."""
    known = found.filter(pl.col("auc").is_not_null())
    if known.height:
        return mass_sentence(known)
    own = agreement.filter(pl.col("model") == model, pl.col("dataset").is_null())
    return f"Without models that differ in a known truth, none is proved. {agreement_sentences(own, model)[-1]}"


def truth_sentence(truth: pl.DataFrame) -> str:
    """Say which truth is known, and whether behaviour bears it out."""
    labelled = truth.drop_nulls("depends")
    depends = int(labelled["depends"].sum())
    others = labelled.height - depends
    if not labelled.height:
        return (
            "Of no model of the run it is known whether its answers depend on the trace (instruments.depends), so no "
            "instrument is held against the truth. How far the instruments agree is all that can be said."
        )
    text = f"By training, answers depend on the trace in {depends} of {labelled.height} labelled models on a dataset"
    text += f", and do not in {others}." if others else "."
    checked = labelled.drop_nulls("followed")
    wrong = checked.filter((pl.col("followed") > 0.5) != pl.col("depends"))
    rows = wrong.iter_rows(named=True)
    listed = "; ".join(f"{row['model']} on {row['dataset']}, {percent(row['followed'])} follow" for row in rows)
    text += (
        f" After another item's reasoning the answers bear that out in {checked.height - wrong.height} of "
        f"{checked.height} that were checked{f' (not: {listed})' if listed else ''}."
        if checked.height
        else " No reasoning was replaced by that of another item, so no label is checked."
    )
    if not (depends and others):
        text += " With labels of one kind alone there is nothing to tell apart, and no AUC."
    return text


def auc_sentence(rows: pl.DataFrame, what: str) -> str:
    """Say which instruments tell one level apart. rows: of the level, the highest AUC first."""
    groups = {
        "are told apart by": pl.col("low") > 0.5,
        "cannot be told apart, as the interval holds 0.5, by": (pl.col("low") <= 0.5) & (pl.col("high") >= 0.5),
        "are told the wrong way round by": pl.col("high") < 0.5,
        "are too few for an interval by": pl.col("low").is_null(),
    }
    parts = [
        f"{verb} {', '.join(estimate(row) for row in own.iter_rows(named=True))}"
        for verb, which in groups.items()
        if (own := rows.filter(which)).height
    ]
    n = f"{rows['n_depends'].max()} that depend and {rows['n_others'].max()} that do not, at most"
    text = f"{what[0].upper()}{what[1:]} (AUC; {n}) {'; they '.join(parts)}."
    circular = [name for name, each in INSTRUMENTS.items() if each.circular]
    fair = rows.filter(pl.col("low") > 0.5, ~pl.col("instrument").is_in(circular))
    if fair.height:
        cheap = fair.sort("passes", maintain_order=True).row(0, named=True)
        text += f" The cheapest that does, {label(cheap)}, takes {cheap['passes']:.1f} passes over a trace"
        best = fair.row(0, named=True)
        same = best["instrument"] == cheap["instrument"]
        text += "." if same else f", the surest, {label(best)}, {best['passes']:.1f}."
    return text


def label(row: Mapping[str, Any]) -> str:
    """Name an instrument; a star where it changes the trace as the check of the labels does."""
    instrument = INSTRUMENTS[row["instrument"]]
    return instrument.label + "*" * instrument.circular


def estimate(row: Mapping[str, Any]) -> str:
    """Write an AUC with its interval."""
    ends = "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"{label(row)} {row['auc']:.2f}{ends}"


def mass_sentence(known: pl.DataFrame) -> str:
    """Say plainly what attention mass is good for."""
    words = []
    for level, what in (("item", "whether one answer depends on its trace"), ("model", "whether a model's answers do")):
        own = known.filter(pl.col("instrument") == "mass", pl.col("level") == level)
        if not own.height:
            continue
        row = own.row(0, named=True)
        if row["low"] is None:
            words.append(f"was held against too few models to say {what} (AUC {row['auc']:.2f})")
            continue
        verb = {1: "says", -1: "says the opposite of", 0: "fails to say"}[side(row["low"], row["high"], at=0.5)]
        words.append(f"{verb} {what} (AUC {row['auc']:.2f}, 95% {row['low']:.2f} to {row['high']:.2f})")
    return f"Attention mass on the reasoning {' and '.join(words)}." if words else "Attention mass was not measured."


def agreement_sentences(rows: pl.DataFrame, model: str) -> list[str]:
    """Say how attention mass goes with what the answer needs, and how many pairs of instruments agree at all."""
    ranked = rows.drop_nulls(["low", "high"])
    if not ranked.height:
        return [f"No two instruments have measured enough items of {model} to compare their ranks."]
    mass = ranked.filter(pl.col("first") == "mass", pl.col("second").is_in(BEHAVIOUR))
    parts = [
        f"{INSTRUMENTS[row['second']].label} {signed(row['rho'])} ({signed(row['low'])} to {signed(row['high'])}, "
        f"n = {row['n']}){'' if row['holm'] < SIGNIFICANT else ', which cannot be told from none'}"
        for row in mass.iter_rows(named=True)
    ]
    listed = "; ".join(parts)
    said = [f"Within datasets of {model}, Spearman's rho of attention mass and {listed}."] if parts else []
    beyond = ranked.filter(pl.col("holm") < SIGNIFICANT)
    more = beyond.filter(pl.col("rho") > 0).height
    least, most = ranked["n"].min(), ranked["n"].max()
    items = f"{least}" if least == most else f"{least} to {most}"
    return [
        *said,
        f"Of {ranked.height} pairs of instruments, each over {items} items, {more} rank those of {model} alike and "
        f"{beyond.height - more} the other way round, more clearly than items dealt at random (5%, Holm over the "
        "pairs); the others cannot be told either way.",
    ]
