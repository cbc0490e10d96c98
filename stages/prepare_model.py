"""Prepares one model: trains a built-in one, or pins a Hub or local one in a small pointer file.

params models.<model> -> data/models/<model>/
usage: python -m stages.prepare_model MODEL
"""

import logging

from r2a_core.models.prepare import prepare
from stages._study import open_study, run_stage

STEPS_PER_LINE = 100  # training steps between two lines of the log


def prepare_model(model: str) -> None:
    """Write data/models/MODEL/."""
    study = open_study("prepare_model", model=model)
    with study.work():  # for its lock: training has no shards
        prepare(study.params.models[model], study.paths.model(model), log_step)


def log_step(step: int, steps: int, loss: float) -> None:
    """Log a line every STEPS_PER_LINE training steps. loss: nats per learned token."""
    if step % STEPS_PER_LINE == 0 or step == steps:
        logging.info("training: step %d of %d, loss %.3f", step, steps, loss)


if __name__ == "__main__":
    run_stage(prepare_model)
