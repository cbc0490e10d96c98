"""Measures what answer and reasoning tokens attend to, from stored queries and keys; the model is not loaded.

params attention; data/activations/<model>/<dataset>/<setting>/, data/generations/<model>/<dataset>/<setting>.parquet,
data/models/<model>/ (tokenizer) -> data/attention/<model>/<dataset>/<setting>.parquet and <setting>-sentences.parquet,
data/metrics/attention-<model>-<dataset>-<setting>.json
usage: python -m stages.attention MODEL DATASET SETTING
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, progress, read_params, run_stage, set_threads


def attention(model: str, dataset: str, setting: str) -> None:
    """Write data/attention/MODEL/DATASET/SETTING.parquet, the masses by sentence, and the metrics file."""
    import polars as pl

    from r2a_core.activations.reading import ActivationReader
    from r2a_core.attention import jobs
    from r2a_core.attention.statistics import StatisticsConfig
    from r2a_core.config import parse
    from r2a_core.models.loading import choose_device, load_tokenizer
    from r2a_core.provenance import code_digest, folder_digest
    from r2a_core.store import open_store, write_text_whole, write_whole

    stage = f"{model}-{dataset}-{setting}"
    config = parse(StatisticsConfig, read_params(f"attention@{stage}")["attention"], "attention")
    set_threads()
    folder = DATA / "models" / model
    reader = ActivationReader(DATA / "activations" / model / dataset / setting)
    traces = jobs.stored_traces(reader, pl.read_parquet(DATA / "generations" / model / dataset / f"{setting}.parquet"))
    tokenizer, target = load_tokenizer(folder).tokenizer, str(choose_device(device()))
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder)}
    shards = jobs.plan_statistics(reader, traces, config, base)
    with open_store(WORK, "attention", stage) as store:
        frames = jobs.joined(
            [
                jobs.statistics_shard(store, shard, reader, tokenizer, config, target)
                for shard in progress(shards, len(shards), stage)
            ]
        )
    out = DATA / "attention" / model / dataset
    write_whole(out / f"{setting}.parquet", frames.attention.write_parquet)
    write_whole(out / f"{setting}-sentences.parquet", frames.sentences.write_parquet)
    write_text_whole(DATA / "metrics" / f"attention-{stage}.json", jobs.medians_text(frames.attention))


if __name__ == "__main__":
    run_stage(attention)
