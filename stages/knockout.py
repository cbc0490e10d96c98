"""Cuts chosen heads' view of the reasoning while the answer is written, and measures what the answer loses.

params knockout, heads.walk, evaluate.timeout_seconds; data/models/<model>/, data/datasets/<dataset>.parquet,
data/generations/<model>/<dataset>/with_reasoning.parquet, data/heads/<model>.parquet
-> data/knockout/<model>/<dataset>.parquet, data/metrics/knockout-<model>-<dataset>.json
usage: python -m stages.knockout MODEL DATASET
"""

import polars as pl

from r2a_core.activations.capture import first_traces
from r2a_core.data.items import read_items
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.knockout.sets import RANKED_COLUMNS, chosen_sets
from r2a_core.knockout.stage import KnockoutJob, knock_out, with_scores
from r2a_core.knockout.summary import knockout_summary
from r2a_core.trace import GENERATION_SCHEMA
from stages._study import open_study, run_stage


def knockout(model: str, dataset: str) -> None:
    """Write data/knockout/MODEL/DATASET.parquet and the metrics file."""
    study = open_study("knockout", model=model, dataset=dataset)
    paths, params = study.paths, study.params.knockout
    heads = read_frame(paths.heads(model), RANKED_COLUMNS, "heads").filter(pl.col("dataset") == dataset)
    sets = chosen_sets(heads, params, study.params.heads.walk)
    generations = read_frame(paths.generations(model, dataset), GENERATION_SCHEMA, "generate")
    traces = first_traces(generations, params.traces, study.item) if sets else []
    with study.work(model) as work:
        found = knock_out(KnockoutJob(paths.model(model), study.device, params, sets, traces), work)
        found = with_scores(found, read_items(paths.items(dataset)), study.params.evaluate.timeout_seconds)
        write_frame(paths.knockout(model, dataset), found)
        write_json(paths.metrics("knockout", study.item), knockout_summary(found, params))


if __name__ == "__main__":
    run_stage(knockout)
