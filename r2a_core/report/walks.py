"""The page's part on what heads make of the reasoning beyond its length, and on broken walks.

ReportInputs -> one record per model and dataset: numbers, sentences, and the scores of every head. What is absent goes
to `gaps`.
"""

from typing import Any

from r2a_core.report.inputs import Gaps, ReportInputs, add_gap, read_if_there
from r2a_core.walks.summary import LENGTHS, MEASURES, WALK_SCHEMA, head_table, pooled_record, sentences, walk_record

COLUMNS = ("layer", "head", *MEASURES, "parallel", "rank_by_mass", "rank_by_excess")


def walks_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose walks are measured."""
    records = []
    for model in inputs.models:
        frames = {}
        for dataset in inputs.datasets:
            frame = read_if_there(inputs.paths.walks(model, dataset), list(WALK_SCHEMA), "walks")
            if frame is None or frame.is_empty():
                what = "have not been measured" if frame is None else "have no traces to be measured in"
                add_gap(gaps, "Attention", f"the walks of {model} on {dataset} {what}", "walks")
            else:
                frames[dataset] = frame
        pooled = pooled_record(frames, inputs.walks) if frames else {}
        for dataset, frame in frames.items():
            record, heads = walk_record(frame, inputs.walks), head_table(frame, inputs.walks.near_uniform)
            lengths = [{"name": name, "label": MEASURES[name], **record["length"][name]} for name in LENGTHS]
            odds = [{"label": MEASURES[name], "own": record["broken"][name], "pooled": pooled[name]} for name in pooled]
            case = {"model": model, "dataset": dataset, "n_traces": record["n_traces"]}
            said = {"sentences": sentences(record, pooled), "lengths": lengths, "odds": odds}
            records.append(case | said | {"heads": heads.select(COLUMNS).to_dict(as_series=False)})
    return records
