"""The page's part on readers: every head before (the reader) and after (the model whose traces it reads).

ReportInputs -> one record per reader and dataset. What is absent goes to `gaps`.
"""

from typing import Any

from r2a_core.report.inputs import Gaps, ReportInputs, add_gap, read_if_there
from r2a_core.results import COMPARED, READ_COLUMNS, head_changes


def readers_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per reader and dataset: by score the heads that have it twice, and the marked heads."""
    records = []
    for reader, texts in inputs.readers.items():
        for dataset in inputs.datasets:
            frame = read_if_there(inputs.paths.read_heads(reader, texts, dataset), READ_COLUMNS, "read")
            if frame is None:
                add_gap(gaps, "Attention", f"{reader} has not read the traces of {texts} on {dataset}", "read")
            elif frame.height:
                changes = head_changes(frame, reader, texts, inputs.walk)
                scores = []
                for name, label in COMPARED.items():
                    heads = changes.both(name).select("layer", "head", "before", "after").to_dict(as_series=False)
                    scores.append({"name": name, "label": label, "spearman": changes.spearman(name), **heads})
                marks = {kind: getattr(changes, kind) for kind in ("rfh", "walking_before", "walking_after")}
                record = {"reader": reader, "model": texts, "dataset": dataset, "n_traces": changes.n_traces}
                records.append({**record, "scores": scores, "marks": marks})
    return records
