"""Prepares one model: trains a built-in one, or pins a Hub or local one in a small pointer file.

params models.<model> -> data/models/<model>/
usage: python -m stages.prepare_model MODEL
"""

import logging

from stages._stage import DATA, WORK, read_params, run_stage

STEPS_A_LINE = 100  # training steps between two lines of the log


def prepare_model(model: str) -> None:
    """Write data/models/MODEL/."""
    from r2a_core.config import model_params
    from r2a_core.infra.shards import open_store
    from r2a_core.models.prepare import prepare

    params = model_params(read_params(f"prepare_model@{model}")["models"][model], f"models.{model}")
    with open_store(WORK, "prepare_model", model):  # for its lock: training is one piece of work
        prepare(params, DATA / "models" / model, log_step)


def log_step(step: int, steps: int, loss: float) -> None:
    """A line every so many training steps. loss: nats a learned token."""
    if step % STEPS_A_LINE == 0 or step == steps:
        logging.info("training: step %d of %d, loss %.3f", step, steps, loss)


if __name__ == "__main__":
    run_stage(prepare_model)
