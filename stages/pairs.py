"""Filters one model's responses to the pairs and aligns those that are left, with every probing phrase.

params pairs.align, run.pairs; data/models/<model>/, data/datasets/<pairs>.parquet, data/pairs/selected.parquet,
data/generations/<model>/<pairs>/with_reasoning.parquet -> data/pairs/<model>.parquet
usage: python -m stages.pairs MODEL
"""

from r2a_core.data.items import SELECTION_SCHEMA
from r2a_core.data.pairs import read_pairs
from r2a_core.infra.files import read_frame, write_frame
from r2a_core.models.tokenizers import load_tokenizer
from r2a_core.pairs.filter import pair_rows
from r2a_core.trace import GENERATION_SCHEMA
from stages._study import open_study, run_stage


def pairs(model: str) -> None:
    """Write data/pairs/MODEL.parquet: every pair and probe, aligned or with the reason why not."""
    study = open_study("pairs", model=model)
    paths, name = study.paths, study.params.run.pairs
    frame = pair_rows(
        load_tokenizer(paths.model(model)),
        read_pairs(paths.items(name)),
        read_frame(paths.selected_pairs, SELECTION_SCHEMA, "select_pairs"),
        read_frame(paths.generations(model, name), GENERATION_SCHEMA, "generate_pairs"),
        study.params.pairs.align,
    )
    write_frame(paths.pairs(model), frame)


if __name__ == "__main__":
    run_stage(pairs)
