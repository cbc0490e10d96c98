"""Grades the responses of one model to one dataset and compares both settings (paper section 3).

params evaluate, generate.runs and temperature, datasets.<dataset>, run.settings; data/datasets/<dataset>.parquet,
data/generations/<model>/<dataset>/<setting>.parquet, data/judgements/<model>/<dataset>.parquet
-> data/evaluation/<model>/<dataset>.parquet and .json, data/metrics/evaluate-<model>-<dataset>.json
usage: python -m stages.evaluate MODEL DATASET
"""

from r2a_core.data.items import read_items
from r2a_core.evaluation import funnel
from r2a_core.evaluation.judge_reply import JUDGEMENT_SCHEMA
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.trace import GENERATION_SCHEMA
from stages._study import open_study, run_stage


def evaluate(model: str, dataset: str) -> None:
    """Write data/evaluation/MODEL/DATASET.parquet, its summary as JSON, and the metrics file."""
    study = open_study("evaluate", model=model, dataset=dataset)
    paths, generated = study.paths, study.params.generate
    imported = study.params.datasets[dataset].kind == "traces"
    result = funnel.evaluate(
        read_items(paths.items(dataset)),
        {
            setting: read_frame(paths.generations(model, dataset, setting), GENERATION_SCHEMA, "generate")
            for setting in study.params.run.settings
        },
        1 if imported else generated.runs,
        study.params.evaluate,
        model=model,
        dataset=dataset,
        decoding="imported" if imported else generated.decoding,
        judgements=read_frame(paths.judgements(model, dataset), JUDGEMENT_SCHEMA, "judge"),
    )
    write_frame(paths.evaluation(model, dataset), result.frame)
    for path in (paths.summary(model, dataset), paths.metrics("evaluate", study.item)):
        write_json(path, result.summary)


if __name__ == "__main__":
    run_stage(evaluate)
