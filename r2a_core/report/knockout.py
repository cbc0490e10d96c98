"""The page's part on knock-outs: what the answer loses when heads no longer see the reasoning.

ReportInputs -> one record per model and dataset: a record per kind and set, and the sentences about them and about the
reasoning's own rows, where these were cut. What is absent goes to `gaps`.
"""

from typing import Any

from r2a_core.knockout.summary import KNOCKOUT_SCHEMA, item_losses, knockout_records, sentences
from r2a_core.report.inputs import Gaps, Measured, ReportInputs, read_runs
from r2a_core.results import by_view

CUT = Measured("Knock-out", "knockout", "heads", "have not been cut", "have no traces to be cut in")


def knockout_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose heads were cut."""
    records = []
    for model, tables in read_runs(inputs, CUT, {inputs.paths.knockout: KNOCKOUT_SCHEMA}, gaps).items():
        for dataset, (frame,) in tables.items():
            views = by_view(frame)
            found = {view: knockout_records(rows, inputs.knockout) for view, rows in views.items()}
            said = {"sets": found["answer"], "items": item_losses(views["answer"])}
            said["sentences"] = [each for sets in found.values() for each in sentences(sets)]
            records.append({"model": model, "dataset": dataset, **said})
    return records
