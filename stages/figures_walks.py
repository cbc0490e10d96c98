"""Draws which heads read the reasoning beyond its length, and whether a broken walk goes with a wrong answer.

params run.models, run.datasets, walks; data/walks/<model>/<dataset>.parquet -> data/figures/walks/
usage: python -m stages.figures_walks
"""

from r2a_core.figures.reading import draw_reading
from r2a_core.infra.files import read_frame
from r2a_core.walks.summary import WALK_SCHEMA
from stages._study import open_study, run_stage


def figures_walks() -> None:
    """Write data/figures/walks/."""
    study = open_study("figures_walks")
    paths, run = study.paths, study.params.run
    paths.figures("walks").mkdir(parents=True, exist_ok=True)  # an output, also when nothing was measured
    for model in run.models:
        frames = {name: read_frame(paths.walks(model, name), WALK_SCHEMA, "walks") for name in run.datasets}
        measured = {name: frame for name, frame in frames.items() if frame.height}
        if measured:
            draw_reading(measured, model, study.params.walks, paths.figures("walks"))


if __name__ == "__main__":
    run_stage(figures_walks)
