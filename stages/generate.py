"""Writes one response per question and run of a model, with or without reasoning; imported texts are read instead.

params generate, datasets.<dataset>; data/models/<model>/, data/datasets/<dataset>.parquet
-> data/generations/<model>/<dataset>/<setting>.parquet, data/metrics/generate-<model>-<dataset>-<setting>.json
usage: python -m stages.generate MODEL DATASET SETTING
"""

from dataclasses import asdict

from r2a_core.data.items import read_items
from r2a_core.generation.stage import GenerationJob, generate_responses
from r2a_core.infra.files import write_frame, write_json
from r2a_core.trace import Setting
from stages._study import open_study, run_stage


def generate(model: str, dataset: str, setting: Setting) -> None:
    """Write data/generations/MODEL/DATASET/SETTING.parquet and its metrics file."""
    study = open_study("generate", model=model, dataset=dataset, setting=setting)
    paths, params = study.paths, study.params
    job = GenerationJob(
        paths.model(model),
        study.device,
        model,
        setting,
        params.datasets[dataset],
        params.generate,
        study.resources.memory_mib,
    )
    items = read_items(paths.items(dataset))[: params.generate.limit]
    with study.work(model) as work:
        responses = generate_responses(job, items, work)
        write_frame(paths.generations(model, dataset, setting), responses.frame)
        write_json(paths.metrics("generate", study.item), asdict(responses.usage))


if __name__ == "__main__":
    run_stage(generate)
