"""Draws Figures 1a and 1b and Tables 2 and 3 of everything that ran.

params run.models, run.datasets; data/evaluation/<model>/<dataset>.json -> data/figures/evaluation/
usage: python -m stages.figures_evaluation
"""

from r2a_core.figures.evaluation import draw_evaluation
from r2a_core.results import read_summary
from stages._study import open_study, run_stage


def figures_evaluation() -> None:
    """Write data/figures/evaluation/."""
    study = open_study("figures_evaluation")
    paths, run = study.paths, study.params.run
    summaries = [read_summary(paths.summary(model, dataset)) for dataset in run.datasets for model in run.models]
    draw_evaluation(summaries, paths.figures("evaluation"))


if __name__ == "__main__":
    run_stage(figures_evaluation)
