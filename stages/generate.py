"""Writes one response per question and run of a model, with or without reasoning; imported texts take the same way.

params generate, datasets.<dataset>; data/models/<model>/, data/datasets/<dataset>.parquet
-> data/generations/<model>/<dataset>/<setting>.parquet, data/metrics/generate-<model>-<dataset>-<setting>.json
usage: python -m stages.generate MODEL DATASET SETTING
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads


def generate(model: str, dataset: str, setting: str) -> None:
    """Write data/generations/MODEL/DATASET/SETTING.parquet and its metrics file."""
    from r2a_core.config import GenerateParams, dataset_params, parse
    from r2a_core.data.items import read_items
    from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards, read_shards
    from r2a_core.generation.usage import shards_usage
    from r2a_core.infra.files import write_frame, write_text_whole
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from r2a_core.prompts import to_setting
    from stages._shards import finished, read_resources

    stage = f"{model}-{dataset}-{setting}"
    params = read_params(f"generate@{stage}")
    config = parse(GenerateParams, params["generate"], "generate")
    source = dataset_params(params["datasets"][dataset], f"datasets.{dataset}")
    set_threads()
    items = read_items(DATA / "datasets" / f"{dataset}.parquet")[: config.limit]
    folder = DATA / "models" / model
    job = GenerationJob(model, folder, to_setting(setting), source, config, device(), read_resources().memory_mib)
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder), "setting": setting}
    shards = plan_shards(job, items, base)
    with open_store(WORK, "generate", stage) as store:
        done = finished(finish_shard, job, store, shards, stage, here=job.pointer.served is not None)
        paths = [path for found in done for path in found]
        frame, usage = read_shards(paths), shards_usage(paths, job.imports)
        write_frame(DATA / "generations" / model / dataset / f"{setting}.parquet", frame)
        write_text_whole(DATA / "metrics" / f"generate-{stage}.json", usage.text)


if __name__ == "__main__":
    run_stage(generate)
