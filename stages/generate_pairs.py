"""Writes one model's greedy responses to the questions of the selected pairs.

params pairs.generate, run.pairs, datasets.<pairs>; data/models/<model>/, data/datasets/<pairs>.parquet,
data/pairs/selected.parquet -> data/generations/<model>/<pairs>/with_reasoning.parquet
usage: python -m stages.generate_pairs MODEL
"""

from r2a_core.data.items import SELECTION_SCHEMA, read_items
from r2a_core.generation.stage import GenerationJob, generate_pair_responses
from r2a_core.infra.files import read_frame, write_frame
from stages._study import open_study, run_stage


def generate_pairs(model: str) -> None:
    """Write data/generations/MODEL/PAIRS/with_reasoning.parquet."""
    study = open_study("generate_pairs", model=model)
    paths, params = study.paths, study.params
    pairs = params.run.pairs
    job = GenerationJob(
        paths.model(model),
        study.device,
        model,
        "with_reasoning",
        params.datasets[pairs],
        params.pairs.generate.sampled(),
        study.resources.memory_mib,
    )
    items = read_items(paths.items(pairs))
    selected = read_frame(paths.selected_pairs, SELECTION_SCHEMA, "select_pairs")
    kept = set(selected.filter("kept")["pair_id"].to_list()[: params.pairs.generate.limit])
    with study.work(model) as work:
        write_frame(paths.generations(model, pairs), generate_pair_responses(job, items, kept, work))


if __name__ == "__main__":
    run_stage(generate_pairs)
