"""Filters one model's responses to the pairs and aligns those that are left, with every probing phrase.

params pairs.align, run.pairs; data/models/<model>/, data/datasets/<pairs>.parquet, data/pairs/selected.parquet,
data/generations/<model>/<pairs>/with_reasoning.parquet -> data/pairs/<model>.parquet
usage: python -m stages.pairs MODEL
"""

from stages._stage import DATA, read_params, run_stage


def pairs(model: str) -> None:
    """Write data/pairs/MODEL.parquet: every pair and probe, aligned or with the reason why not."""
    from r2a_core.config import parse
    from r2a_core.data.comparison import pairs_of
    from r2a_core.data.items import read_items
    from r2a_core.frames import read_frame, write_frame
    from r2a_core.models.loading import load_tokenizer
    from r2a_core.patching.candidates import grader, pair_rows
    from r2a_core.patching.params import AlignParams
    from r2a_core.patching.selection import SELECTION_SCHEMA
    from r2a_core.traces.rows import GENERATION_SCHEMA

    params = read_params(f"pairs@{model}")
    config = parse(AlignParams, params["pairs"]["align"], "pairs.align")
    name = params["run"]["pairs"]
    frame = pair_rows(
        load_tokenizer(DATA / "models" / model),
        pairs_of(read_items(DATA / "datasets" / f"{name}.parquet")),
        read_frame(DATA / "pairs" / "selected.parquet", SELECTION_SCHEMA, "select_pairs"),
        read_frame(DATA / "generations" / model / name / "with_reasoning.parquet", GENERATION_SCHEMA, "generate_pairs"),
        config.probes,
        config.alignment,
        grader(config.timeout_seconds),
    )
    write_frame(DATA / "pairs" / f"{model}.parquet", frame)


if __name__ == "__main__":
    run_stage(pairs)
