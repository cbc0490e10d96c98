"""The page's part on what heads make of the reasoning beyond its length, and on broken walks.

ReportInputs -> one record per model and dataset: numbers, sentences, and the scores of every head, also of those that
the reasoning's own rows have. What is absent goes to `gaps`.
"""

from typing import Any

from r2a_core.report.inputs import Gaps, Measured, ReportInputs, read_runs
from r2a_core.results import VIEWS, by_view
from r2a_core.walks.summary import LENGTHS, MEASURES, WALK_SCHEMA, head_table, pooled_record, walk_record
from r2a_core.walks.words import sentences

COLUMNS = ("layer", "head", *MEASURES, "parallel", "rank_by_mass", "rank_by_excess")

READING_COLUMNS = ("layer", "head", "mass", "excess", "rank_by_excess")

WALKED = Measured("Attention", "walks", "walks", "have not been measured", "have no traces to be measured in")


def walks_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose walks are measured."""
    records = []
    for model, tables in read_runs(inputs, WALKED, {inputs.paths.walks: WALK_SCHEMA}, gaps).items():
        frames = {dataset: frame for dataset, (frame,) in tables.items()}
        pooled = pooled_record(frames, inputs.walks)
        for dataset, frame in frames.items():
            record = walk_record(frame, inputs.walks)
            tables = {view: head_table(rows, inputs.walks.near_uniform) for view, rows in by_view(frame).items()}
            heads = tables.pop("answer")
            lengths = [{"name": name, "label": MEASURES[name], **record["length"][name]} for name in LENGTHS]
            odds = [{"label": MEASURES[name], "own": record["broken"][name], "pooled": pooled[name]} for name in pooled]
            case = {"model": model, "dataset": dataset, "n_traces": record["n_traces"], "ends": record["ends"]}
            said = {"sentences": sentences(record, pooled), "lengths": lengths, "odds": odds}
            said["views"] = [
                {"read": VIEWS[view][1], "heads": own.select(READING_COLUMNS).to_dict(as_series=False)}
                for view, own in tables.items()
            ]
            records.append(case | said | {"heads": heads.select(COLUMNS).to_dict(as_series=False)})
    return records
