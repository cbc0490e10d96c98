"""The words about instruments: which can be believed for what, and where attention mass fails.

TRUTH_SCHEMA, AUC_SCHEMA and AGREEMENT_SCHEMA tables -> sentences. Needs no torch.
"""

from collections.abc import Sequence

import polars as pl

from r2a_core.instruments.belief import Belief, beliefs, model_pairs
from r2a_core.instruments.catalogue import INSTRUMENTS
from r2a_core.wording import SIGNIFICANT, percent, plural, signed

BEHAVIOUR = ("empty", "wrong", "area", "cut_mass", "cut_all")  # beside which attention mass is put in words


def sentences(truth: pl.DataFrame, found: pl.DataFrame, agreement: pl.DataFrame, model: str) -> list[str]:
    """Say what is known of the models of the run, which instrument can be believed for what, and which go together."""
    judged = beliefs(found)
    said = [truth_sentence(truth)]
    if any(each.auc is not None for each in judged):
        said += [auc_sentence(judged), mass_sentence(judged)]
    return [*said, *agreement_sentences(agreement.filter(pl.col("model") == model, pl.col("dataset").is_null()), model)]


def headline(found: pl.DataFrame, agreement: pl.DataFrame, model: str) -> str:
    """Say in one sentence what attention mass is good for; where no truth is known, how far instruments agree."""
    judged = beliefs(found)
    if any(each.auc is not None for each in judged):
        return mass_sentence(judged)
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
    pairs = [pair for pair in model_pairs(labelled) if pair[0] is not None]
    if not pairs:
        return text + " No dataset has labels of both kinds, and datasets are not compared: there is no AUC."
    ours, theirs = (len(set(names)) for names in zip(*pairs, strict=True))
    return text + (
        f" AUCs compare {plural(ours, 'model')} of the first kind with {theirs} of the second, pair by pair: whatever "
        "else differs within a pair counts as evidence too."
    )


def auc_sentence(judged: Sequence[Belief]) -> str:
    """Say which instruments tell single items apart, and how well."""
    verbs = {
        "clearly": "are told apart clearly by",
        "weakly": "are told apart weakly by",
        "not shown": "are not shown to be told apart by",
        "reversed": "are reversed, in a pair at least, by",
        "no AUC": "cannot be compared by",
    }
    groups = {verdict: [each for each in judged if each.verdict == verdict] for verdict in verbs}
    parts = [f"{verbs[verdict]} {', '.join(map(estimate, own))}" for verdict, own in groups.items() if own]
    text = f"Single items (AUC and 95% interval of the pair of models with the lowest) {'; they '.join(parts)}."
    fair = [each for each in groups["clearly"] + groups["weakly"] if not INSTRUMENTS[each.instrument].circular]
    if fair:
        cheap = min(fair, key=lambda each: each.passes)
        text += f" The cheapest that does, {cheap.label}, takes {cheap.passes:.1f} passes over a trace."
    return text


def estimate(each: Belief) -> str:
    """Write an instrument with its lowest AUC, and the pair where that is the wrong way round; or why it has none."""
    if each.auc is None:
        return f"{each.label} ({each.why})"
    pair = f"{each.depends} against {each.other} " if each.verdict == "reversed" else ""
    return f"{each.label} {pair}{each.auc:.2f} ({each.low:.2f} to {each.high:.2f})"


def mass_sentence(judged: Sequence[Belief]) -> str:
    """Say plainly what attention mass is good for."""
    mass = next((each for each in judged if each.instrument == "mass"), None)
    if mass is None or mass.auc is None:
        return "Attention mass on the reasoning was not measured on two models to compare."
    verb = {
        "clearly": "tells clearly",
        "weakly": "tells weakly",
        "not shown": "fails to say",
        "reversed": "is reversed in a pair of models, so it cannot say",
    }[mass.verdict]
    where = f"AUC of {mass.depends} against {mass.other} {mass.auc:.2f}, 95% {mass.low:.2f} to {mass.high:.2f}"
    return f"Attention mass on the reasoning {verb} whether one answer depends on its trace ({where})."


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
