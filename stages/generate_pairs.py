"""Writes one model's greedy responses to the questions of the selected pairs.

params pairs.generate, run.pairs, datasets.<pairs>; data/models/<model>/, data/datasets/<pairs>.parquet,
data/pairs/selected.parquet -> data/generations/<model>/<pairs>/with_reasoning.parquet
usage: python -m stages.generate_pairs MODEL
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads

SETTING = "with_reasoning"


def generate_pairs(model: str) -> None:
    """Write data/generations/MODEL/PAIRS/with_reasoning.parquet."""

    from r2a_core.config import ResponseParams, dataset_params, parse
    from r2a_core.data.items import read_items
    from r2a_core.generation.stage import GenerationJob, finish_shard, plan_pair_shards, read_shards
    from r2a_core.infra.files import read_frame, write_frame
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from r2a_core.pairs.filter import SELECTION_SCHEMA
    from stages._shards import finished, read_resources

    params = read_params(f"generate_pairs@{model}")
    name = params["run"]["pairs"]
    source = dataset_params(params["datasets"][name], f"datasets.{name}")
    config = parse(ResponseParams, params["pairs"]["generate"], "pairs.generate").sampled()
    set_threads()
    items = read_items(DATA / "datasets" / f"{name}.parquet")
    kept = set(
        read_frame(DATA / "pairs" / "selected.parquet", SELECTION_SCHEMA, "select_pairs").filter("kept")["pair_id"]
    )
    folder = DATA / "models" / model
    job = GenerationJob(model, folder, SETTING, source, config, device(), read_resources().memory_mib)
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder), "setting": SETTING}
    shards = list(plan_pair_shards(job, items, kept, base))
    with open_store(WORK, "generate_pairs", f"{model}-{name}") as store:
        done = finished(finish_shard, job, store, shards, f"{model}-{name}")
        frame = read_shards([path for paths in done for path in paths])
        write_frame(DATA / "generations" / model / name / f"{SETTING}.parquet", frame)


if __name__ == "__main__":
    run_stage(generate_pairs)
