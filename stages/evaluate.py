"""Grades the responses of one model to one dataset and compares both settings (paper section 3).

params evaluate, generate, datasets.<dataset>; data/datasets/<dataset>.parquet,
data/generations/<model>/<dataset>/<setting>.parquet, data/judgements/<model>/<dataset>.parquet
-> data/evaluation/<model>/<dataset>.parquet and .json, data/metrics/evaluate-<model>-<dataset>.json
usage: python -m stages.evaluate MODEL DATASET
"""

from stages._stage import DATA, read_params, run_stage


def evaluate(model: str, dataset: str) -> None:
    """Write data/evaluation/MODEL/DATASET.parquet, its summary as JSON, and the metrics file."""
    from r2a_core import config
    from r2a_core.config import GenerateParams, dataset_params, parse
    from r2a_core.data.items import read_items
    from r2a_core.evaluation import funnel as evaluation
    from r2a_core.evaluation.judge_reply import read_judgements
    from r2a_core.evaluation.paired import summary_text
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame, write_frame, write_text_whole
    from r2a_core.trace import SETTINGS

    params = read_params(f"evaluate@{model}-{dataset}")
    config = parse(config.EvaluateParams, params["evaluate"], "evaluate")
    generated = parse(GenerateParams, params["generate"], "generate")
    imported = dataset_params(params["datasets"][dataset], f"datasets.{dataset}").kind == "traces"
    folder = DATA / "generations" / model / dataset
    result = evaluation.evaluate(
        read_items(DATA / "datasets" / f"{dataset}.parquet"),
        {setting: read_frame(folder / f"{setting}.parquet", GENERATION_SCHEMA, "generate") for setting in SETTINGS},
        1 if imported else generated.runs,
        config,
        model=model,
        dataset=dataset,
        decoding="imported" if imported else generated.decoding,
        judgements=read_judgements(DATA / "judgements" / model / f"{dataset}.parquet"),
    )
    write_frame(DATA / "evaluation" / model / f"{dataset}.parquet", result.frame)
    summary = summary_text(result.summary)
    write_text_whole(DATA / "evaluation" / model / f"{dataset}.json", summary)
    write_text_whole(DATA / "metrics" / f"evaluate-{model}-{dataset}.json", summary)


if __name__ == "__main__":
    run_stage(evaluate)
