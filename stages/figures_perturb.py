"""Draws what becomes of the answer when the reasoning is cut or changed.

params run.models, run.datasets, perturb; data/perturb/<model>/<dataset>.parquet -> data/figures/perturb/
usage: python -m stages.figures_perturb
"""

from r2a_core.figures.perturb import draw_perturb
from r2a_core.infra.files import read_frame
from r2a_core.perturb.summary import PERTURB_SCHEMA, perturb_record
from stages._study import open_study, run_stage


def figures_perturb() -> None:
    """Write data/figures/perturb/."""
    study = open_study("figures_perturb")
    paths, run, params = study.paths, study.params.run, study.params.perturb
    paths.figures("perturb").mkdir(parents=True, exist_ok=True)  # an output, also when there are no traces
    for dataset in run.datasets:
        frames = {model: read_frame(paths.perturb(model, dataset), PERTURB_SCHEMA, "perturb") for model in run.models}
        records = {model: perturb_record(frame, params) for model, frame in frames.items()}
        records = {model: record for model, record in records.items() if record["curve"]}
        if records:
            draw_perturb(records, dataset, paths.figures("perturb"))


if __name__ == "__main__":
    run_stage(figures_perturb)
