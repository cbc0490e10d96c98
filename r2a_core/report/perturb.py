"""The page's part on changed reasoning: what becomes of the answer.

ReportInputs -> one record per model and dataset: curve, boundary, arms, and the sentences about them. What is absent
goes to `gaps`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from r2a_core.perturb.summary import PERTURB_SCHEMA, item_changes, perturb_record
from r2a_core.perturb.words import label_of, sentences
from r2a_core.report.inputs import Gaps, Measured, ReportInputs, read_runs

CHANGED = Measured("Changed reasoning", "perturb", "traces", "have not been changed", "have no box to compare")


def perturb_section(inputs: ReportInputs, gaps: Gaps) -> list[dict[str, Any]]:
    """Collects one record per model and dataset whose reasoning was changed."""
    records = []
    for model, tables in read_runs(inputs, CHANGED, {inputs.paths.perturb: PERTURB_SCHEMA}, gaps).items():
        for dataset, (frame,) in tables.items():
            record = perturb_record(frame, inputs.perturb)
            counts = dict(frame.select("item_id", "n_sentences").iter_rows())
            items = {
                item: {**own, "n_sentences": counts[item], "arms": labelled(own["arms"])}
                for item, own in item_changes(frame).items()
            }
            said = {"items": items, "sentences": sentences(record), "arms": labelled(record["arms"])}
            records.append({"model": model, "dataset": dataset, **record, **said})
    return records


def labelled(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Adds to each arm the name that axes give it."""
    return [{**arm, "label": label_of(arm)} for arm in arms]
