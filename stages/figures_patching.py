"""Draws Figures 7 and 8: what patched activations restore, by token and by layer.

params run.models, patch.crossing, patch.figures; data/patching/<model>.parquet -> data/figures/patching/
usage: python -m stages.figures_patching
"""

from r2a_core.figures.patching import draw_patching
from stages._study import open_study, run_stage


def figures_patching() -> None:
    """Write data/figures/patching/."""
    study = open_study("figures_patching")
    paths, params = study.paths, study.params.patch
    tables = {model: paths.patching(model) for model in study.params.run.models}
    draw_patching(tables, paths.figures("patching"), params.figures, params.crossing)


if __name__ == "__main__":
    run_stage(figures_patching)
