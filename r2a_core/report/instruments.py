"""The page's part on instruments: which tells answers that depend on the trace from others, and which agree.

ReportInputs -> one record per model: AUCs of the run, the model's agreement, sentences. What is absent goes to `gaps`.
"""

from typing import Any

import polars as pl

from r2a_core.instruments.belief import beliefs
from r2a_core.instruments.catalogue import AGREEMENT_SCHEMA, AUC_SCHEMA, INSTRUMENTS, TRUTH_SCHEMA, grid
from r2a_core.instruments.words import headline, sentences
from r2a_core.report.inputs import Gaps, ReportInputs, add_gap, read_if_there

TABLES = {"truth": TRUTH_SCHEMA, "auc": AUC_SCHEMA, "agreement": AGREEMENT_SCHEMA}


def instruments_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model; none where instruments were not compared."""
    tables = [
        read_if_there(inputs.paths.instruments(name), list(schema), "instruments") for name, schema in TABLES.items()
    ]
    truth, auc, agreement = tables
    if truth is None or auc is None or agreement is None:
        add_gap(gaps, "Instruments", "instruments have not been compared", "instruments")
        return []
    judged = [each.record() for each in beliefs(auc)]
    found = {"auc": auc.drop_nulls("auc").to_dicts(), "beliefs": judged if auc["auc"].count() else []}
    records = []
    for model in inputs.models:
        own = agreement.filter(pl.col("model") == model, pl.col("dataset").is_null()).drop_nulls("rho")
        names, rho, told = grid(own)
        said = {"answer": headline(auc, agreement, model), "sentences": sentences(truth, auc, agreement, model)}
        record = {"model": model, **said, **found}
        record |= {"labels": [INSTRUMENTS[name].label for name in names], "rho": rho.tolist(), "told": told.tolist()}
        records.append(record | {"n": [own["n"].min(), own["n"].max()]})
    return records
