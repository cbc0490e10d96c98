"""Selects the pairs that all models of the run with weights can use: both answers are one token for each of them.

params run.models, run.pairs; data/datasets/<pairs>.parquet, data/models/<model>/ -> data/pairs/selected.parquet
usage: python -m stages.select_pairs
"""

from r2a_core.data.pairs import read_pairs
from r2a_core.infra.files import write_frame
from r2a_core.models.pointer import read_pointer
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.pairs import filter as pair_filter
from stages._study import open_study, run_stage


def select_pairs() -> None:
    """Write data/pairs/selected.parquet."""
    study = open_study("select_pairs")
    run = study.params.run
    pairs = read_pairs(study.paths.items(run.pairs))
    folders = [study.paths.model(model) for model in run.models]
    tokenizers = {folder.name: load_tokenizer(folder) for folder in folders if read_pointer(folder).has_weights}
    write_frame(study.paths.selected_pairs, pair_filter.select_pairs(pairs, tokenizers))


if __name__ == "__main__":
    run_stage(select_pairs)
