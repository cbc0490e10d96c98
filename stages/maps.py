"""Builds attention maps of chosen heads and traces, and the attention from chosen spans, from stored queries and keys.

params maps, attention.reflection_phrases, heads.walk; data/activations/, data/attention/
(<model>/<dataset>/with_reasoning), data/heads/<model>.parquet, data/models/<model>/ (tokenizer)
-> data/maps/<model>/<dataset>.parquet, <dataset>-tokens.parquet, <dataset>-spans.parquet, <dataset>-links.parquet,
<dataset>-lines.parquet, all empty with capture.store: false
usage: python -m stages.maps MODEL DATASET
"""

import polars as pl

from r2a_core.attention.heads import HEAD_SCHEMA
from r2a_core.attention.maps import MapJob, trace_maps
from r2a_core.attention.tables import ATTENTION_SCHEMA
from r2a_core.infra.files import read_frame, write_frame
from stages._study import open_study, run_stage


def maps(model: str, dataset: str) -> None:
    """Write data/maps/MODEL/DATASET.parquet and its -tokens, -spans, -links and -lines.parquet."""
    study = open_study("maps", model=model, dataset=dataset)
    paths, params = study.paths, study.params
    job = MapJob(
        paths.model(model),
        study.device,
        model,
        dataset,
        paths.activations(model, dataset),
        params.maps,
        params.heads.walk,
        params.attention.reflection_phrases,
    )
    tables = trace_maps(
        job,
        read_frame(paths.attention(model, dataset), ATTENTION_SCHEMA, "attention"),
        read_frame(paths.heads(model), HEAD_SCHEMA, "heads").filter(pl.col("dataset") == dataset),
    )
    write_frame(paths.maps(model, dataset), tables.maps)
    write_frame(paths.map_tokens(model, dataset), tables.tokens)
    write_frame(paths.map_spans(model, dataset), tables.spans)
    write_frame(paths.map_links(model, dataset), tables.links)
    write_frame(paths.map_lines(model, dataset), tables.lines)


if __name__ == "__main__":
    run_stage(maps)
