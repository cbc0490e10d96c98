"""Lets a judge model score the open answers of one model (paper section 3, WildBench).

params judge; data/models/<model>/, data/datasets/<dataset>.parquet, data/generations/<model>/<dataset>/<setting>.parquet
-> data/judgements/<model>/<dataset>.parquet, without rows where the dataset has no open items; no judge is needed then
usage: python -m stages.judge MODEL DATASET
"""

from stages._stage import DATA, WORK, read_params, run_stage


def judge(model: str, dataset: str) -> None:
    """Write data/judgements/MODEL/DATASET.parquet."""
    import polars as pl

    from r2a_core.config import parse
    from r2a_core.data.items import read_items
    from r2a_core.grading.comparison import SETTINGS
    from r2a_core.judging.jobs import JudgeParams, connect, judge_all, open_responses
    from r2a_core.judging.judgements import JUDGEMENT_SCHEMA
    from r2a_core.judging.template import read_template
    from r2a_core.models.loading import load_tokenizer
    from r2a_core.store import open_store, write_whole

    config = parse(JudgeParams, read_params(f"judge@{model}-{dataset}")["judge"], "judge")
    items = read_items(DATA / "datasets" / f"{dataset}.parquet")
    frame = pl.DataFrame(schema=JUDGEMENT_SCHEMA)
    if any(item.kind == "open" for item in items):
        folder = DATA / "generations" / model / dataset
        tokenizer = load_tokenizer(DATA / "models" / model).tokenizer
        responses = open_responses(
            items,
            {setting: pl.read_parquet(folder / f"{setting}.parquet") for setting in SETTINGS},
            lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False),
        )
        if responses:
            client, template = connect(config), read_template()
            with open_store(WORK, "judge", f"{model}-{dataset}") as store:
                frame = judge_all(client, store, config, template, responses)
    write_whole(DATA / "judgements" / model / f"{dataset}.parquet", frame.write_parquet)


if __name__ == "__main__":
    run_stage(judge)
