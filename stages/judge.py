"""Has a judge model score the open answers of one model (paper section 3, WildBench).

params judge, run.settings; data/models/<model>/, data/datasets/<dataset>.parquet,
data/generations/<model>/<dataset>/<setting>.parquet -> data/judgements/<model>/<dataset>.parquet
Without open items in the dataset the table has no rows, and no judge is needed.
usage: python -m stages.judge MODEL DATASET
"""

from r2a_core.data.items import read_items
from r2a_core.evaluation.judge import judge_dataset
from r2a_core.infra.files import read_frame, write_frame
from r2a_core.trace import GENERATION_SCHEMA
from stages._study import open_study, run_stage


def judge(model: str, dataset: str) -> None:
    """Write data/judgements/MODEL/DATASET.parquet."""
    study = open_study("judge", model=model, dataset=dataset)
    paths = study.paths
    generations = {
        setting: read_frame(paths.generations(model, dataset, setting), GENERATION_SCHEMA, "generate")
        for setting in study.params.run.settings
    }
    with study.work() as work:
        frame = judge_dataset(
            study.params.judge, read_items(paths.items(dataset)), generations, paths.model(model), work.store
        )
        write_frame(paths.judgements(model, dataset), frame)


if __name__ == "__main__":
    run_stage(judge)
