"""Measures what heads make of the reasoning beyond its length, and how they walk along it.

params walks, attention.reflection_phrases, heads.walk; data/activations/<model>/<dataset>/with_reasoning/,
data/models/<model>/ (tokenizer), data/heads/<model>.parquet, data/evaluation/<model>/<dataset>.parquet
-> data/walks/<model>/<dataset>.parquet (empty with capture.store: false), data/metrics/walks-<model>-<dataset>.json
usage: python -m stages.walks MODEL DATASET
"""

import polars as pl

from r2a_core.attention.heads import HEAD_SCHEMA
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.walks.stage import SCORE_COLUMNS, WalkJob, walk_table, with_ranks_and_scores
from r2a_core.walks.summary import walk_record
from stages._study import open_study, run_stage


def walks(model: str, dataset: str) -> None:
    """Write data/walks/MODEL/DATASET.parquet and the metrics file."""
    study = open_study("walks", model=model, dataset=dataset)
    paths, params = study.paths, study.params
    folder, phrases = paths.activations(model, dataset), params.attention.reflection_phrases
    job = WalkJob(paths.model(model), study.device, folder, phrases, params.walks.peak, params.walks.views)
    heads = read_frame(paths.heads(model), HEAD_SCHEMA, "heads").filter(pl.col("dataset") == dataset)
    evaluation = read_frame(paths.evaluation(model, dataset), SCORE_COLUMNS, "evaluate")
    with study.work(model) as work:
        measured = walk_table(job, work)
        frame = with_ranks_and_scores(measured, heads, evaluation, params.heads.walk)
        write_frame(paths.walks(model, dataset), frame)
        write_json(paths.metrics("walks", study.item), walk_record(frame, params.walks))


if __name__ == "__main__":
    run_stage(walks)
