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

    from r2a_core.activations.reading import ActivationReader
    from r2a_core.attention.jobs import stored_traces, texts
    from r2a_core.attention.links import attention_links
    from r2a_core.attention.map_params import HeadMarkParams, MapParams
    from r2a_core.attention.maps import attention_maps
    from r2a_core.config import parse
    from r2a_core.models.loading import choose_device, load_tokenizer
    from r2a_core.store import write_whole

    values = read_params(f"maps@{model}-{dataset}")
    params = parse(MapParams, values["maps"], "maps")
    set_threads()
    reader = ActivationReader(DATA / "activations" / model / dataset / SETTING)
    traces = stored_traces(reader, pl.read_parquet(DATA / "generations" / model / dataset / f"{SETTING}.parquet"))
    if not traces:
        logging.warning("%s, %s: no trace was captured, so there are no maps", model, dataset)
    pieces = texts(load_tokenizer(DATA / "models" / model).tokenizer, traces)
    attention = pl.read_parquet(DATA / "attention" / model / dataset / f"{SETTING}.parquet")
    heads = pl.read_parquet(DATA / "heads" / f"{model}.parquet").filter(pl.col("dataset") == dataset)
    phrases = values["attention"]["reflection_phrases"]
    config = params.of(model, dataset, pieces, heads, parse(HeadMarkParams, values["heads"], "heads"), phrases)
    target = str(choose_device(device()))
    frames = attention_maps(reader, pieces, attention, heads, config, target)
    drawn = replace(config, items=tuple(frames.tokens["item_id"]))
    links = attention_links(reader, attention, heads, drawn, params.links, target)
    out = DATA / "maps" / model
    write_whole(out / f"{dataset}.parquet", frames.maps.write_parquet)
    write_whole(out / f"{dataset}-tokens.parquet", frames.tokens.write_parquet)
    write_whole(out / f"{dataset}-spans.parquet", frames.spans.write_parquet)
    write_whole(out / f"{dataset}-links.parquet", links.write_parquet)


if __name__ == "__main__":
    run_stage(maps)
