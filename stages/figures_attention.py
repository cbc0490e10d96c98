"""Draws Figures 2 to 5 and 9 to 12, the overview of walking heads and the heads of readers, of everything that ran.

params run.models, run.readers, run.datasets, run.settings, heads.walk; data/attention/, data/heads/, data/maps/
-> data/figures/attention/
usage: python -m stages.figures_attention
"""

import logging
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from r2a_core.figures.attention import draw_dataset
from r2a_core.infra.processes import end_with_parent
from stages._study import open_study, run_stage


def figures_attention() -> None:
    """Write data/figures/attention/."""
    study = open_study("figures_attention")
    run, heads = study.params.run, study.params.heads
    study.paths.figures("attention").mkdir(parents=True, exist_ok=True)  # an output, also when no model has weights
    readers = {reader.model: reader.texts for reader in run.readers}
    draw = partial(draw_dataset, study.paths, run.models, readers, settings=run.settings, thresholds=heads.walk)
    spawn = get_context("spawn")  # polars has threads, which a fork would lose
    with ProcessPoolExecutor(mp_context=spawn, initializer=end_with_parent) as pool:
        drawn = pool.map(draw, run.datasets)
        for dataset, paths in zip(run.datasets, drawn, strict=True):
            if not paths:
                logging.warning("%s: no model has captured traces, so nothing is drawn", dataset)


if __name__ == "__main__":
    run_stage(figures_attention)
