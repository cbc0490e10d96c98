"""Draws Figures 7 and 8: what patched activations restore, by token and by layer.

params run.models, patch.crossing, patch.figures; data/patching/<model>.parquet -> data/figures/patching/
usage: python -m stages.figures_patching
"""

from stages._stage import DATA, read_params, run_stage


def figures_patching() -> None:
    """Write data/figures/patching/."""
    from r2a_core.config import CrossingParams, PatchingFigureParams, parse
    from r2a_core.figures.patching import draw_patching

    params = read_params("figures_patching")
    chosen = parse(PatchingFigureParams, params["patch"]["figures"], "patch.figures")
    interval = parse(CrossingParams, params["patch"]["crossing"], "patch.crossing")
    paths = {model: DATA / "patching" / f"{model}.parquet" for model in params["run"]["models"]}
    draw_patching(paths, DATA / "figures" / "patching", chosen, interval)


if __name__ == "__main__":
    run_stage(figures_patching)
