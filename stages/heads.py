"""Ranks a model's heads by their attention from the answer to the reasoning; scores induction and retrieval heads.

params heads, run.datasets, run.settings; data/models/<model>/, data/attention/<model>/<dataset>/with_reasoning.parquet,
data/generations/<model>/<first dataset>/with_reasoning.parquet
-> data/heads/<model>.parquet, data/metrics/heads-<model>.json
usage: python -m stages.heads MODEL
"""

from r2a_core.attention.heads import model_heads, read_ranked, summary
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.trace import GENERATION_SCHEMA, select_traces
from stages._study import open_study, run_stage


def heads(model: str) -> None:
    """Write data/heads/MODEL.parquet and its metrics file."""
    study = open_study("heads", model=model)
    paths, params, datasets = study.paths, study.params.heads, study.params.run.datasets
    attention = read_ranked({name: paths.attention(model, name) for name in datasets})
    generations = read_frame(paths.generations(model, datasets[0]), GENERATION_SCHEMA, "generate")
    with study.work(model) as work:
        found = model_heads(paths.model(model), study.device, attention, select_traces(generations), params, work)
        write_frame(paths.heads(model), found.heads)
        write_json(paths.metrics("heads", model), summary(found.heads, found.scores, params))


if __name__ == "__main__":
    run_stage(heads)
