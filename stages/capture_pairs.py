"""Runs both sides of each aligned pair once, and keeps the clean runs' residual streams at the positions to patch.

params patch.capture, run.pairs; data/models/<model>/, data/pairs/<model>.parquet
-> data/activations/<model>/<pairs>/clean/
usage: python -m stages.capture_pairs MODEL
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads


def capture_pairs(model: str) -> None:
    """Write data/activations/MODEL/PAIRS/clean/: shards and their index."""
    from r2a_core.config import PairCaptureParams, parse
    from r2a_core.infra.files import read_frame
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from r2a_core.pairs.filter import PAIR_SCHEMA
    from r2a_core.patching import stage as jobs
    from r2a_core.patching.store import assemble
    from stages._shards import finished

    params = read_params(f"capture_pairs@{model}")
    config = parse(PairCaptureParams, params["patch"]["capture"], "patch.capture")
    name = params["run"]["pairs"]
    set_threads()
    folder = DATA / "models" / model
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder)}
    shards = jobs.plan_capture(read_frame(DATA / "pairs" / f"{model}.parquet", PAIR_SCHEMA, "pairs"), config, base)
    job = jobs.PairCaptureJob(folder, device(), config)
    with open_store(WORK, "capture_pairs", f"{model}-{name}") as store:
        paths = list(finished(jobs.finish_capture, job, store, shards, f"{model}-{name}"))
        assemble(DATA / "activations" / model / name / "clean", paths)


if __name__ == "__main__":
    run_stage(capture_pairs)
