"""Lets a judge model score the open answers of one model (paper section 3, WildBench).

params judge; data/models/<model>/, data/datasets/<dataset>.parquet,
data/generations/<model>/<dataset>/<setting>.parquet -> data/judgements/<model>/<dataset>.parquet
Without open items in the dataset the table has no rows, and no judge is needed.
usage: python -m stages.judge MODEL DATASET
"""

from stages._stage import DATA, WORK, read_params, run_stage


def judge(model: str, dataset: str) -> None:
    """Write data/judgements/MODEL/DATASET.parquet."""
    import polars as pl

    from r2a_core.config import JudgeParams, parse
    from r2a_core.data.items import read_items
    from r2a_core.evaluation.judge import connect, judge_all, open_responses, read_template
    from r2a_core.evaluation.judge_reply import JUDGEMENT_SCHEMA
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame, write_frame
    from r2a_core.infra.shards import open_store
    from r2a_core.models.load import load_tokenizer
    from r2a_core.trace import SETTINGS

    config = parse(JudgeParams, read_params(f"judge@{model}-{dataset}")["judge"], "judge")
    items = read_items(DATA / "datasets" / f"{dataset}.parquet")
    frame, responses = pl.DataFrame(schema=JUDGEMENT_SCHEMA), []
    if any(item.kind == "open" for item in items):
        folder = DATA / "generations" / model / dataset
        tokenizer = load_tokenizer(DATA / "models" / model).hf
        responses = open_responses(
            items,
            {setting: read_frame(folder / f"{setting}.parquet", GENERATION_SCHEMA, "generate") for setting in SETTINGS},
            lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False),
        )
    with open_store(WORK, "judge", f"{model}-{dataset}") as store:
        if responses:
            frame = judge_all(connect(config), store, config, read_template(), responses)
        write_frame(DATA / "judgements" / model / f"{dataset}.parquet", frame)


if __name__ == "__main__":
    run_stage(judge)
