"""Builds attention maps of chosen heads and traces, and the attention from chosen spans, from stored queries and keys.

params maps, attention.reflection_phrases, heads.top, heads.walk; data/activations/, data/generations/, data/attention/
(<model>/<dataset>/with_reasoning), data/heads/<model>.parquet, data/models/<model>/ (tokenizer)
-> data/maps/<model>/<dataset>.parquet, <dataset>-tokens.parquet, <dataset>-spans.parquet, <dataset>-links.parquet
usage: python -m stages.maps MODEL DATASET
"""

import logging
from dataclasses import replace

from stages._stage import DATA, device, read_params, run_stage, set_threads

SETTING = "with_reasoning"


def maps(model: str, dataset: str) -> None:
    """Write data/maps/MODEL/DATASET.parquet and its -tokens, -spans and -links.parquet."""
    import polars as pl

    from r2a_core.activations.store import ActivationReader
    from r2a_core.attention.heads import HEAD_SCHEMA
    from r2a_core.attention.map_selection import map_config
    from r2a_core.attention.maps import attention_links, attention_maps
    from r2a_core.attention.tables import ATTENTION_SCHEMA, stored_traces, token_texts
    from r2a_core.config import AttentionParams, MapParams, WalkThresholds, parse
    from r2a_core.generation.rows import GENERATION_SCHEMA
    from r2a_core.infra.files import read_frame, write_frame
    from r2a_core.models.load import choose_device, load_tokenizer

    values = read_params(f"maps@{model}-{dataset}")
    params = parse(MapParams, values["maps"], "maps")
    set_threads()
    reader = ActivationReader(DATA / "activations" / model / dataset / SETTING)
    traces = stored_traces(
        reader, read_frame(DATA / "generations" / model / dataset / f"{SETTING}.parquet", GENERATION_SCHEMA, "generate")
    )
    if not traces:
        logging.warning("%s, %s: no trace was captured, so there are no maps", model, dataset)
    pieces = token_texts(load_tokenizer(DATA / "models" / model).hf, traces)
    attention = read_frame(DATA / "attention" / model / dataset / f"{SETTING}.parquet", ATTENTION_SCHEMA, "attention")
    heads = read_frame(DATA / "heads" / f"{model}.parquet", HEAD_SCHEMA, "heads").filter(pl.col("dataset") == dataset)
    phrases = parse(AttentionParams, values["attention"], "attention").reflection_phrases
    top, walk = values["heads"]["top"], parse(WalkThresholds, values["heads"]["walk"], "heads.walk")
    config = map_config(params, model, dataset, pieces, heads, top, walk, phrases)
    target = str(choose_device(device()))
    frames = attention_maps(reader, pieces, attention, heads, config, target)
    drawn = replace(config, items=tuple(frames.tokens["item_id"]))
    links = attention_links(reader, attention, heads, drawn, params.links, target)
    out = DATA / "maps" / model
    write_frame(out / f"{dataset}.parquet", frames.maps)
    write_frame(out / f"{dataset}-tokens.parquet", frames.tokens)
    write_frame(out / f"{dataset}-spans.parquet", frames.spans)
    write_frame(out / f"{dataset}-links.parquet", links)


if __name__ == "__main__":
    run_stage(maps)
