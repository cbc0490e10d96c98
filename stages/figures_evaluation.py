"""Draws Figures 1a and 1b and Tables 2 and 3 of everything that ran.

params run.models, run.datasets; data/evaluation/<model>/<dataset>.json -> data/figures/evaluation/
usage: python -m stages.figures_evaluation
"""

from stages._stage import DATA, read_params, run_stage


def figures_evaluation() -> None:
    """Write data/figures/evaluation/."""
    from r2a_core.figures.evaluation import draw_evaluation
    from r2a_core.results import read_summary

    run = read_params("figures_evaluation")["run"]
    paths = [DATA / "evaluation" / model / f"{dataset}.json" for dataset in run["datasets"] for model in run["models"]]
    draw_evaluation([read_summary(path) for path in paths], DATA / "figures" / "evaluation")


if __name__ == "__main__":
    run_stage(figures_evaluation)
