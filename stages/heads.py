"""Ranks a model's heads by how much answers look at the reasoning, and scores them as induction and retrieval heads.

params heads, run.datasets; data/models/<model>/, data/attention/<model>/<dataset>/with_reasoning.parquet,
data/generations/<model>/<first dataset>/with_reasoning.parquet
-> data/heads/<model>.parquet, data/metrics/heads-<model>.json
usage: python -m stages.heads MODEL
"""

import logging
from pathlib import Path

from stages._stage import DATA, ROOT, WORK, device, read_params, run_stage, set_threads

SETTING = "with_reasoning"


def heads(model: str) -> None:
    """Write data/heads/MODEL.parquet and its metrics file."""
    import polars as pl

    from r2a_core import config
    from r2a_core.attention import heads as scoring
    from r2a_core.config import parse
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame, write_frame, write_text_whole
    from r2a_core.infra.shards import code_digest, folder_digest, open_store
    from r2a_core.models.load import load_model
    from r2a_core.trace import select_traces

    values = read_params(f"heads@{model}")
    params, datasets = parse(config.HeadsParams, values["heads"], "heads"), values["run"]["datasets"]
    set_threads()
    folder = DATA / "models" / model
    for stale in sorted({path.name for path in (DATA / "attention" / model).glob("*")} - set(datasets)):
        logging.warning("%s: the attention of %s is left out, as run.datasets does not name it", model, stale)
    attention = scoring.read_ranked(
        {name: DATA / "attention" / model / name / f"{SETTING}.parquet" for name in datasets}
    )
    scores = pl.DataFrame(schema=scoring.SCORE_SCHEMA)
    with open_store(WORK, "heads", model) as store:
        if not attention:
            logging.warning("%s: no trace was captured, so no head is ranked", model)
        else:
            generations = read_frame(
                DATA / "generations" / model / datasets[0] / f"{SETTING}.parquet", GENERATION_SCHEMA, "generate"
            )
            job = scoring.ScoreJob(params.induction, params.retrieval.of(model), select_traces(generations))
            base = {"code": code_digest(Path(__file__), ROOT), "model": folder_digest(folder)}
            scores = scoring.stored_scores(store, job, base, lambda: load_model(folder, device()))
        frame = scoring.ranked(attention, scores, params.top)
        write_frame(DATA / "heads" / f"{model}.parquet", frame)
        summary = scoring.summary(frame, scores, params)
        write_text_whole(DATA / "metrics" / f"heads-{model}.json", scoring.summary_text(summary))


if __name__ == "__main__":
    run_stage(heads)
