"""Lets a model read the traces that another one wrote, and sets the heads of both side by side.

params attention, capture.limit, heads.top, heads.rule, heads.share, heads.walk; data/models/<model>/,
data/models/<texts>/, data/generations/<texts>/<dataset>/with_reasoning.parquet,
data/attention/<texts>/<dataset>/with_reasoning.parquet
-> data/attention/<model>/<texts>/<dataset>.parquet, data/heads/<model>/<texts>/<dataset>.parquet,
data/metrics/read-<model>-<texts>-<dataset>.json
usage: python -m stages.read MODEL TEXTS DATASET
"""

from r2a_core.activations.capture import first_traces
from r2a_core.attention.heads import RANKED_COLUMNS
from r2a_core.attention.readers import Reading, both_heads, read_traces, summary
from r2a_core.infra.files import read_frame, write_frame, write_json
from r2a_core.trace import GENERATION_SCHEMA
from stages._study import open_study, run_stage


def read(model: str, texts: str, dataset: str) -> None:
    """Write data/attention/MODEL/TEXTS/DATASET.parquet, data/heads/MODEL/TEXTS/DATASET.parquet and the metrics file."""
    study = open_study("read", model=model, texts=texts, dataset=dataset)
    paths, params = study.paths, study.params
    phrases = params.attention.reflection_phrases
    reading = Reading(paths.model(model), paths.model(texts), dataset, phrases, study.device)
    generations = read_frame(paths.generations(texts, dataset), GENERATION_SCHEMA, "generate")
    written = read_frame(paths.attention(texts, dataset), RANKED_COLUMNS, "attention")
    with study.work(model) as work:
        found = read_traces(reading, first_traces(generations, params.capture.limit, study.item), work)
        heads = both_heads(reading, found, written, params.heads)
        write_frame(paths.reading(model, texts, dataset), found)
        write_frame(paths.read_heads(model, texts, dataset), heads)
        write_json(paths.metrics("read", study.item), summary(heads, reading, params.heads))


if __name__ == "__main__":
    run_stage(read)
