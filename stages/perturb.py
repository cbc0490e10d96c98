"""Changes the reasoning of each trace, forces or writes an answer after it, and measures what becomes of the answer.

params perturb, evaluate.timeout_seconds, generate.tie_margin; data/models/<model>/, data/datasets/<dataset>.parquet,
data/generations/<model>/<dataset>/with_reasoning.parquet
-> data/perturb/<model>/<dataset>.parquet, data/metrics/perturb-<model>-<dataset>.json
usage: python -m stages.perturb MODEL DATASET
"""

from r2a_core.data.items import read_items
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.perturb.stage import PerturbJob, perturb_traces, with_verdicts
from r2a_core.perturb.summary import perturb_record
from r2a_core.trace import GENERATION_SCHEMA, select_traces
from stages._study import open_study, run_stage


def perturb(model: str, dataset: str) -> None:
    """Write data/perturb/MODEL/DATASET.parquet and the metrics file."""
    study = open_study("perturb", model=model, dataset=dataset)
    paths, params = study.paths, study.params.perturb
    generations = read_frame(paths.generations(model, dataset), GENERATION_SCHEMA, "generate")
    items = read_items(paths.items(dataset))
    by_id = {item.item_id: item for item in items}
    with study.work(model) as work:
        traces, tie_margin = select_traces(generations), study.params.generate.tie_margin
        job = PerturbJob(paths.model(model), study.device, params, traces, by_id, tie_margin)
        found = with_verdicts(perturb_traces(job, work), items, study.params.evaluate.timeout_seconds)
        write_frame(paths.perturb(model, dataset), found)
        write_json(paths.metrics("perturb", study.item), perturb_record(found, params))


if __name__ == "__main__":
    run_stage(perturb)
