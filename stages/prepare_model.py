"""Prepares one model: trains a built-in one, or pins one that lies elsewhere in a small pointer file.

params models.<model> -> data/models/<model>/
usage: python -m stages.prepare_model MODEL
"""

import logging

from r2a_core.models.prepare import prepare
from stages._study import open_study, run_stage

LINES = 20  # of the log, in one training


def prepare_model(model: str) -> None:
    """Write data/models/MODEL/."""
    study = open_study("prepare_model", model=model)
    with study.work() as work:
        prepare(study.params.models[model], study.paths.model(model), log_step, work, study.device)


def log_step(step: int, steps: int, loss: float) -> None:
    """Log LINES lines of one training, evenly spread. loss: nats per learned token."""
    if step % max(1, steps // LINES) == 0 or step == steps:
        logging.info("training: step %d of %d, loss %.3f", step, steps, loss)


if __name__ == "__main__":
    run_stage(prepare_model)
