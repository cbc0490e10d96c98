"""Writes the questions of one dataset, or of a set of pairs, in the common schema.

params datasets.<dataset>, a file of imports/ -> data/datasets/<dataset>.parquet
usage: python -m stages.prepare_dataset DATASET
"""

import logging

from r2a_core.data.items import items_frame
from r2a_core.data.prepare import load_dataset
from r2a_core.infra.files import write_frame
from stages._study import open_study, run_stage

SHOWN_REJECTIONS = 10


def prepare_dataset(dataset: str) -> None:
    """Write data/datasets/DATASET.parquet."""
    study = open_study("prepare_dataset", dataset=dataset)
    loaded = load_dataset(study.params.datasets[dataset], study.paths.imports, dataset)
    for rejected in loaded.rejected[:SHOWN_REJECTIONS]:
        logging.warning("row %s left out: %s", rejected.row, rejected.reason)
    logging.info("%s: %d questions, %d rows left out", dataset, len(loaded.items), len(loaded.rejected))
    write_frame(study.paths.items(dataset), items_frame(loaded.items))


if __name__ == "__main__":
    run_stage(prepare_dataset)
