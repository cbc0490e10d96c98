"""Draws what each set of heads costs the answer when it no longer sees the reasoning, beside random sets.

params run.models, run.datasets, knockout; data/knockout/<model>/<dataset>.parquet -> data/figures/knockout/
usage: python -m stages.figures_knockout
"""

from r2a_core.figures.knockout import draw_knockout
from r2a_core.infra.files import read_frame
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA, knockout_records
from r2a_core.results import VIEWS, by_view
from stages._study import open_study, run_stage


def figures_knockout() -> None:
    """Write data/figures/knockout/."""
    study = open_study("figures_knockout")
    paths, run, params = study.paths, study.params.run, study.params.knockout
    paths.figures("knockout").mkdir(parents=True, exist_ok=True)  # an output, also when no head was cut
    for dataset in run.datasets:
        frames = {
            model: by_view(read_frame(paths.knockout(model, dataset), KNOCKOUT_SCHEMA, "knockout"))
            for model in run.models
        }
        for view in VIEWS:
            records = {model: knockout_records(own[view], params) for model, own in frames.items() if view in own}
            if records:
                draw_knockout(records, dataset, paths.figures("knockout"), view)


if __name__ == "__main__":
    run_stage(figures_knockout)
