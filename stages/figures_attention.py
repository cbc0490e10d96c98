"""Draws Figures 2 to 5 and 9 to 12 and the overview of walking heads, of everything that ran.

params run.models, run.datasets, run.settings, heads.top, heads.walk; data/attention/, data/heads/, data/maps/
-> data/figures/attention/
usage: python -m stages.figures_attention
"""

import logging

from stages._stage import DATA, read_params, run_stage


def figures_attention() -> None:
    """Write data/figures/attention/."""
    from r2a_core.attention.heads import WalkThresholds
    from r2a_core.config import parse
    from r2a_core.figures.attention_set import FigureFiles, draw_dataset

    params = read_params("figures_attention")
    run, top = params["run"], params["heads"]["top"]
    thresholds = parse(WalkThresholds, params["heads"]["walk"], "heads.walk")
    files = FigureFiles(DATA / "attention", DATA / "heads", DATA / "maps")
    folder = DATA / "figures" / "attention"
    folder.mkdir(parents=True, exist_ok=True)  # an output, also when no model of the run has weights
    for dataset in run["datasets"]:
        drawn = draw_dataset(files, run["models"], dataset, run["settings"], folder, top, thresholds)
        if not drawn:
            logging.warning("%s: no model has captured traces, so nothing is drawn", dataset)


if __name__ == "__main__":
    run_stage(figures_attention)
