"""Patches the corrupted run of each captured pair with its clean run, at every layer and chosen position.

params patch.sweep, patch.crossing, run.pairs; data/models/<model>/, data/pairs/<model>.parquet,
data/activations/<model>/<pairs>/clean/ -> data/patching/<model>.parquet, data/metrics/patching-<model>.json
usage: python -m stages.patch MODEL
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, progress, read_params, run_stage, set_threads


def patch(model: str) -> None:
    """Write data/patching/MODEL.parquet and data/metrics/patching-MODEL.json."""
    import polars as pl

    from r2a_core.config import parse
    from r2a_core.grading.comparison import summary_text
    from r2a_core.patching import jobs
    from r2a_core.patching.candidates import aligned_pairs
    from r2a_core.patching.metrics import joined
    from r2a_core.patching.params import SweepParams
    from r2a_core.patching.shards import captured_shards
    from r2a_core.patching.statistics import CrossingParams
    from r2a_core.patching.summary import patching_summary
    from r2a_core.provenance import code_digest, folder_digest
    from r2a_core.store import open_store, write_text_whole, write_whole

    params = read_params(f"patch@{model}")
    config = parse(SweepParams, params["patch"]["sweep"], "patch.sweep")
    crossing = parse(CrossingParams, params["patch"]["crossing"], "patch.crossing")
    name = params["run"]["pairs"]
    jobs.check_components(config)
    set_threads()
    folder, clean = DATA / "models" / model, DATA / "activations" / model / name / "clean"
    rows = pl.read_parquet(DATA / "pairs" / f"{model}.parquet")
    pairs = jobs.by_key(aligned_pairs(rows))
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder)}
    loading = jobs.PairModel(folder, device())
    shards = captured_shards(clean)
    with open_store(WORK, "patch", f"{model}-{name}") as store:
        paths = [
            store.shard(
                jobs.patch_fingerprint(shard, config, base),
                ".parquet",
                lambda path, shard=shard: jobs.write_cells(loading, shard, pairs, config, path),
            )
            for shard in progress(shards, len(shards), f"{model}-{name}")
        ]
        cells = joined([pl.read_parquet(path) for path in paths])
    write_whole(DATA / "patching" / f"{model}.parquet", cells.write_parquet)
    summary = patching_summary(model, rows, pl.read_parquet(clean / "index.parquet"), cells, crossing)
    write_text_whole(DATA / "metrics" / f"patching-{model}.json", summary_text(summary))


if __name__ == "__main__":
    run_stage(patch)
