"""Runs both sides of each aligned pair once, and keeps the clean runs' residual streams at the positions to patch.

params patch.capture, run.pairs; data/models/<model>/, data/pairs/<model>.parquet
-> data/activations/<model>/<pairs>/clean/
usage: python -m stages.capture_pairs MODEL
"""

from r2a_core.infra.files import read_frame
from r2a_core.pairs.tables import PAIR_SCHEMA
from r2a_core.patching.stage import PairCaptureJob, capture_clean_runs
from stages._study import open_study, run_stage


def capture_pairs(model: str) -> None:
    """Write data/activations/MODEL/PAIRS/clean/: shards and their index."""
    study = open_study("capture_pairs", model=model)
    paths, params = study.paths, study.params
    rows = read_frame(paths.pairs(model), PAIR_SCHEMA, "pairs")
    job = PairCaptureJob(paths.model(model), study.device, params.patch.capture)
    with study.work(model) as work:
        capture_clean_runs(job, rows, work, paths.clean_runs(model, params.run.pairs))


if __name__ == "__main__":
    run_stage(capture_pairs)
