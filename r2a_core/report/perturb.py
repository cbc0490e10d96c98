"""The page's part on changed reasoning: what becomes of the answer.

ReportInputs -> one record per model and dataset: curve, boundary, arms, and the sentences about them. What is absent
goes to `gaps`.
"""

from typing import Any

from r2a_core.perturb.summary import PERTURB_SCHEMA, item_changes, perturb_record, sentences
from r2a_core.report.inputs import Gaps, ReportInputs, add_gap, read_if_there


def perturb_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose reasoning was changed."""
    records = []
    for model, dataset in inputs.runs:
        frame = read_if_there(inputs.paths.perturb(model, dataset), list(PERTURB_SCHEMA), "perturb")
        if frame is None or frame.is_empty():
            what = "have not been changed" if frame is None else "have no box to compare"
            add_gap(gaps, "Changed reasoning", f"the traces of {model} on {dataset} {what}", "perturb")
            continue
        record = perturb_record(frame, inputs.perturb)
        said = {"items": item_changes(frame), "sentences": sentences(record)}
        records.append({"model": model, "dataset": dataset, **record, **said})
    return records
