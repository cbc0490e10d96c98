"""Runs a model once over each of its traces and keeps queries, keys and, on request, residual streams and head outputs.

params capture; data/models/<model>/, data/generations/<model>/<dataset>/<setting>.parquet
-> data/activations/<model>/<dataset>/<setting>/
usage: python -m stages.capture MODEL DATASET SETTING
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads


def capture(model: str, dataset: str, setting: str) -> None:
    """Write data/activations/MODEL/DATASET/SETTING/."""
    from r2a_core import config
    from r2a_core.activations import capture as jobs
    from r2a_core.config import parse
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from stages._shards import finished

    stage = f"{model}-{dataset}-{setting}"
    params = parse(config.CaptureParams, read_params(f"capture@{stage}")["capture"], "capture")
    set_threads()
    job = jobs.CaptureJob(DATA / "models" / model, params, device())
    generations = read_frame(
        DATA / "generations" / model / dataset / f"{setting}.parquet", GENERATION_SCHEMA, "generate"
    )
    traces = jobs.captured_traces(job, generations, stage)
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(job.model_folder)}
    shards = jobs.plan_capture(job, traces, base)
    with open_store(WORK, "capture", stage) as store:
        jobs.check_room(shards, lambda shard: store.has(shard.fingerprint, ".safetensors"), store.folder)
        paths = list(finished(jobs.finish_capture, job, store, shards, stage))
        jobs.assemble(DATA / "activations" / model / dataset / setting, paths)


if __name__ == "__main__":
    run_stage(capture)
