"""Filters one model's responses to the pairs and aligns those that are left, with every probing phrase.

params pairs.align, run.pairs; data/models/<model>/, data/datasets/<pairs>.parquet, data/pairs/selected.parquet,
data/generations/<model>/<pairs>/with_reasoning.parquet -> data/pairs/<model>.parquet
usage: python -m stages.pairs MODEL
"""

from stages._stage import DATA, read_params, run_stage


def pairs(model: str) -> None:
    """Write data/pairs/MODEL.parquet: every pair and probe, aligned or with the reason why not."""
    from r2a_core.config import AlignParams, parse
    from r2a_core.data.items import read_items
    from r2a_core.data.pairs import pairs_of
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame, write_frame
    from r2a_core.models.load import load_tokenizer
    from r2a_core.pairs.filter import SELECTION_SCHEMA, grader, pair_rows

    params = read_params(f"pairs@{model}")
    config = parse(AlignParams, params["pairs"]["align"], "pairs.align")
    name = params["run"]["pairs"]
    frame = pair_rows(
        load_tokenizer(DATA / "models" / model),
        pairs_of(read_items(DATA / "datasets" / f"{name}.parquet")),
        read_frame(DATA / "pairs" / "selected.parquet", SELECTION_SCHEMA, "select_pairs"),
        read_frame(DATA / "generations" / model / name / "with_reasoning.parquet", GENERATION_SCHEMA, "generate_pairs"),
        config.probes,
        config,
        grader(config.timeout_seconds),
    )
    write_frame(DATA / "pairs" / f"{model}.parquet", frame)


if __name__ == "__main__":
    run_stage(pairs)
