"""Runs a model once over each of its traces and keeps queries, keys and, on request, residual streams and head outputs.

With capture.store: false the model is not run, and only the list of the traces is written.
params capture; data/models/<model>/, data/generations/<model>/<dataset>/<setting>.parquet
-> data/activations/<model>/<dataset>/<setting>/
usage: python -m stages.capture MODEL DATASET SETTING
"""

from r2a_core.activations.capture import CaptureJob, capture_traces
from r2a_core.infra.files import read_frame
from r2a_core.trace import GENERATION_SCHEMA, Setting
from stages._study import open_study, run_stage


def capture(model: str, dataset: str, setting: Setting) -> None:
    """Write data/activations/MODEL/DATASET/SETTING/."""
    study = open_study("capture", model=model, dataset=dataset, setting=setting)
    paths = study.paths
    generations = read_frame(paths.generations(model, dataset, setting), GENERATION_SCHEMA, "generate")
    job = CaptureJob(paths.model(model), study.device, study.params.capture)
    with study.work(model) as work:
        capture_traces(job, generations, work, paths.activations(model, dataset, setting))


if __name__ == "__main__":
    run_stage(capture)
