"""Patches the corrupted run of each captured pair with its clean run, at every layer and chosen position.

params patch.sweep, patch.crossing, run.pairs; data/models/<model>/, data/pairs/<model>.parquet,
data/activations/<model>/<pairs>/clean/ -> data/patching/<model>.parquet, data/metrics/patching-<model>.json
usage: python -m stages.patch MODEL
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads


def patch(model: str) -> None:
    """Write data/patching/MODEL.parquet and data/metrics/patching-MODEL.json."""
    import polars as pl

    from r2a_core.config import CrossingParams, SweepParams, parse
    from r2a_core.evaluation.paired import summary_text
    from r2a_core.infra.files import read_frame, write_frame, write_text_whole
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from r2a_core.pairs.filter import PAIR_SCHEMA, aligned_pairs
    from r2a_core.patching import stage as jobs
    from r2a_core.patching.metrics import concat_sweeps
    from r2a_core.patching.store import captured_shards, read_index
    from r2a_core.patching.summary import patching_summary
    from stages._shards import finished

    params = read_params(f"patch@{model}")
    config = parse(SweepParams, params["patch"]["sweep"], "patch.sweep")
    crossing = parse(CrossingParams, params["patch"]["crossing"], "patch.crossing")
    name = params["run"]["pairs"]
    jobs.check_components(config)
    set_threads()
    folder, clean = DATA / "models" / model, DATA / "activations" / model / name / "clean"
    rows = read_frame(DATA / "pairs" / f"{model}.parquet", PAIR_SCHEMA, "pairs")
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder)}
    job = jobs.SweepJob(folder, device(), config, jobs.by_key(aligned_pairs(rows)), base)
    shards = captured_shards(clean)
    with open_store(WORK, "patch", f"{model}-{name}") as store:
        tables = finished(jobs.finish_sweep, job, store, shards, f"{model}-{name}")
        cells = concat_sweeps([pl.read_parquet(path) for path in tables])
        write_frame(DATA / "patching" / f"{model}.parquet", cells)
        summary = patching_summary(model, rows, read_index(clean), cells, crossing)
        write_text_whole(DATA / "metrics" / f"patching-{model}.json", summary_text(summary))


if __name__ == "__main__":
    run_stage(patch)
