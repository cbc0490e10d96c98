"""Writes the questions of one dataset in the common schema.

params datasets.<dataset>, files of imports/ -> data/datasets/<dataset>.parquet
usage: python -m stages.prepare_dataset DATASET
"""

import logging

from stages._stage import DATA, ROOT, read_params, run_stage

SHOWN_REJECTIONS = 10


def prepare_dataset(dataset: str) -> None:
    """Write data/datasets/DATASET.parquet."""
    from r2a_core.config import dataset_params
    from r2a_core.data.items import items_frame
    from r2a_core.data.prepare import load_dataset
    from r2a_core.infra.files import write_frame

    params = read_params(f"prepare_dataset@{dataset}")["datasets"][dataset]
    loaded = load_dataset(dataset_params(params, f"datasets.{dataset}"), ROOT / "imports")
    for rejected in loaded.rejected[:SHOWN_REJECTIONS]:
        logging.warning("row %s left out: %s", rejected.row, rejected.reason)
    logging.info("%s: %d questions, %d rows left out", dataset, len(loaded.items), len(loaded.rejected))
    frame = items_frame(loaded.items)
    write_frame(DATA / "datasets" / f"{dataset}.parquet", frame)


if __name__ == "__main__":
    run_stage(prepare_dataset)
