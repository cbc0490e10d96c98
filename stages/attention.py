"""Measures what answer and reasoning tokens attend to, from stored queries and keys, or else from a forward pass.

params attention; data/activations/<model>/<dataset>/<setting>/, data/models/<model>/ (its tokenizer; with
capture.store: false the model itself) -> data/attention/<model>/<dataset>/<setting>.parquet and
<setting>-sentences.parquet, data/metrics/attention-<model>-<dataset>-<setting>.json
usage: python -m stages.attention MODEL DATASET SETTING
"""

from r2a_core.attention.job import AttentionJob
from r2a_core.attention.tables import attention_tables, medians
from r2a_core.infra.files import write_frame, write_json
from r2a_core.trace import Setting
from stages._study import open_study, run_stage


def attention(model: str, dataset: str, setting: Setting) -> None:
    """Write data/attention/MODEL/DATASET/SETTING.parquet, the masses by sentence, and the metrics file."""
    study = open_study("attention", model=model, dataset=dataset, setting=setting)
    paths = study.paths
    phrases = study.params.attention.reflection_phrases
    job = AttentionJob(paths.model(model), study.device, paths.activations(model, dataset, setting), phrases)
    with study.work(model) as work:
        tables = attention_tables(job, work)
        write_frame(paths.attention(model, dataset, setting), tables.attention)
        write_frame(paths.sentences(model, dataset, setting), tables.sentences)
        write_json(paths.metrics("attention", study.item), medians(tables.attention))


if __name__ == "__main__":
    run_stage(attention)
