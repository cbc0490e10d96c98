"""Patches the corrupted run of each captured pair with its clean run, at every layer and chosen position.

params patch.sweep, patch.crossing, run.pairs; data/models/<model>/, data/pairs/<model>.parquet,
data/activations/<model>/<pairs>/clean/ -> data/patching/<model>.parquet, data/metrics/patching-<model>.json
usage: python -m stages.patch MODEL
"""

from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.pairs.tables import PAIR_SCHEMA, aligned_pairs
from r2a_core.patching.stage import SweepJob, by_key, patch_pairs
from r2a_core.patching.summary import patching_summary
from stages._study import open_study, run_stage


def patch(model: str) -> None:
    """Write data/patching/MODEL.parquet and data/metrics/patching-MODEL.json."""
    study = open_study("patch", model=model)
    paths, params = study.paths, study.params.patch
    clean = paths.clean_runs(model, study.params.run.pairs)
    rows = read_frame(paths.pairs(model), PAIR_SCHEMA, "pairs")
    with study.work(model) as work:
        job = SweepJob(paths.model(model), study.device, params.sweep, clean, by_key(aligned_pairs(rows)), work.base)
        cells = patch_pairs(job, work)
        write_frame(paths.patching(model), cells)
        summary = patching_summary(model, rows, job.folder.index, cells, params.crossing)
        write_json(paths.metrics("patching", model), summary)


if __name__ == "__main__":
    run_stage(patch)
