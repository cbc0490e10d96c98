"""Tells which pairs all models of the run that have weights can use: both answers are one token for each of them.

params run.models, run.pairs; data/datasets/<pairs>.parquet, data/models/<model>/ -> data/pairs/selected.parquet
usage: python -m stages.select_pairs
"""

from stages._stage import DATA, read_params, run_stage


def select_pairs() -> None:
    """Write data/pairs/selected.parquet."""
    from r2a_core.data.items import read_items
    from r2a_core.data.pairs import pairs_of
    from r2a_core.infra.files import write_frame
    from r2a_core.models.load import load_tokenizer
    from r2a_core.models.pointer import read_pointer
    from r2a_core.pairs import filter as selection

    run = read_params("select_pairs")["run"]
    pairs = pairs_of(read_items(DATA / "datasets" / f"{run['pairs']}.parquet"))
    folders = [DATA / "models" / model for model in run["models"]]
    tokenizers = {folder.name: load_tokenizer(folder) for folder in folders if read_pointer(folder).has_weights}
    frame = selection.select_pairs(pairs, tokenizers)
    write_frame(DATA / "pairs" / "selected.parquet", frame)


if __name__ == "__main__":
    run_stage(select_pairs)
