"""Measures what answer and reasoning tokens attend to, from stored queries and keys; the model is not loaded.

params attention; data/activations/<model>/<dataset>/<setting>/, data/generations/<model>/<dataset>/<setting>.parquet,
data/models/<model>/ (tokenizer) -> data/attention/<model>/<dataset>/<setting>.parquet and <setting>-sentences.parquet,
data/metrics/attention-<model>-<dataset>-<setting>.json
usage: python -m stages.attention MODEL DATASET SETTING
"""

from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads


def attention(model: str, dataset: str, setting: str) -> None:
    """Write data/attention/MODEL/DATASET/SETTING.parquet, the masses by sentence, and the metrics file."""
    from r2a_core.attention import tables as jobs
    from r2a_core.config import AttentionParams, parse
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame, write_frame, write_text_whole
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from stages._shards import finished

    stage = f"{model}-{dataset}-{setting}"
    config = parse(AttentionParams, read_params(f"attention@{stage}")["attention"], "attention")
    set_threads()
    folder = DATA / "models" / model
    job = jobs.StatisticsJob(DATA / "activations" / model / dataset / setting, folder, config, device())
    traces = jobs.stored_traces(
        job.reader,
        read_frame(DATA / "generations" / model / dataset / f"{setting}.parquet", GENERATION_SCHEMA, "generate"),
    )
    base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder)}
    shards = jobs.plan_statistics(job, traces, base)
    with open_store(WORK, "attention", stage) as store:
        frames = jobs.concat_statistics(finished(jobs.finish_statistics, job, store, shards, stage))
        out = DATA / "attention" / model / dataset
        write_frame(out / f"{setting}.parquet", frames.attention)
        write_frame(out / f"{setting}-sentences.parquet", frames.sentences)
        write_text_whole(DATA / "metrics" / f"attention-{stage}.json", jobs.medians_text(frames.attention))


if __name__ == "__main__":
    run_stage(attention)
