"""The page's part on hidden sentences: what hiding each does to the answer, and what length leaves of receiver heads.

ReportInputs -> one record per model and dataset: points, numbers, and the sentences about them. What is absent goes to
`gaps`.
"""

from typing import Any

from r2a_core.report.inputs import Gaps, Measured, ReportInputs, read_runs
from r2a_core.sentences.summary import (
    CONTROLLED,
    MEASURES,
    RECEIVER_SCHEMA,
    SUPPRESSION_SCHEMA,
    attended_words,
    points,
    pooled,
    sentences_summary,
    suppression_record,
    words,
)

HIDDEN = Measured("Sentences", "sentences", "sentences", "have not been hidden", "have no sentences to be hidden")


def sentences_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose sentences were hidden."""
    records = []
    tables = {inputs.paths.hidden_sentences: SUPPRESSION_SCHEMA, inputs.paths.receivers: RECEIVER_SCHEMA}
    for model, frames in read_runs(inputs, HIDDEN, tables, gaps).items():
        together = None
        if len(frames) > 1:
            together = suppression_record(pooled({name: both[0] for name, both in frames.items()}), inputs.sentences)
        for dataset, (hidden, heads) in frames.items():
            record = sentences_summary(hidden, heads, inputs.sentences)
            said = words(record)
            if together is not None:
                said.append(f"In all datasets together, s{attended_words(together)[1:]}")
            kinds = [
                {
                    "label": MEASURES[name],
                    "proximity": each["proximity"],
                    "n_left_out": each["n_left_out"],
                    **each[name],
                }
                for each in record["receivers"]
                for name in CONTROLLED
            ]
            shown = {"points": points(hidden).to_dict(as_series=False), "receivers": kinds, "sentences": said}
            records.append({"model": model, "dataset": dataset, "hidden": record["hidden"], **shown})
    return records
