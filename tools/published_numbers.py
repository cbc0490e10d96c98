"""Extracts the numbers that tests compare with from the data published with the paper (MIT licence; no texts).

FOLDER with segment_attention_math500_<model>_withR.parquet and patching_case24_<model>.parquet -> tests/published/
usage: python tools/published_numbers.py FOLDER
"""

import sys
from pathlib import Path

import polars as pl

TARGET = Path(__file__).resolve().parent.parent / "tests" / "published"
MODELS = {"r1_llama_8b": "r1-llama-8b", "r1_qwen_7b": "r1-qwen-7b"}  # name here: name there
SEGMENTS = ("bos", "query", "think_open", "reasoning", "think_close", "answer")
STEPS = 65535  # a mass from 0 to 1 in whole steps
FIRST = 10  # heads with the mass on BOS


def head_masses(published: pl.DataFrame) -> pl.DataFrame:
    """Mass answer -> reasoning of each head in each trace: layer, head, reasoning (by trace, in steps of 1 / STEPS)."""
    steps = (pl.col("answer_to_reasoning").cast(pl.Float64) * STEPS).round().cast(pl.UInt16)
    ordered = published.sort("unique_id", "layer", "head")
    by_head = ordered.group_by("layer", "head", maintain_order=True).agg(reasoning=steps)
    return by_head.sort("layer", "head")


def trace_segments(published: pl.DataFrame) -> pl.DataFrame:
    """Tags and length of each trace: trace, think_open, think_close, n_tokens."""
    columns = {"think_open": "think_open_index", "think_close": "think_close_index", "n_tokens": "n_tokens"}
    traces = published.unique("unique_id").sort("unique_id").with_row_index("trace")
    return traces.select("trace", **{name: pl.col(theirs).cast(pl.UInt16) for name, theirs in columns.items()})


def focus_heads(published: pl.DataFrame) -> pl.DataFrame:
    """As head_masses, of the FIRST heads by their mean, with the mass on BOS."""
    steps = [
        (pl.col(f"answer_to_{name}").cast(pl.Float64) * STEPS).round().cast(pl.UInt16).alias(name)
        for name in ("reasoning", "bos")
    ]
    ordered = published.sort("unique_id", "layer", "head")
    by_head = ordered.group_by("layer", "head", maintain_order=True).agg(*steps)
    mean = pl.col("reasoning").list.mean()
    return by_head.sort(mean, "layer", "head", descending=[True, False, False]).head(FIRST)


def trace_masses(published: pl.DataFrame) -> pl.DataFrame:
    """Mean over layers and heads of each trace, by source: trace, source, one column per segment."""
    frames = []
    for source, seen in (("answer", SEGMENTS), ("reasoning", SEGMENTS[:4])):
        means = [pl.col(f"{source}_to_{name}").cast(pl.Float64).mean().alias(name) for name in seen]
        unseen = dict.fromkeys((name for name in SEGMENTS if name not in seen), pl.lit(0.0))
        traces = published.sort("unique_id", "layer", "head").group_by("unique_id", maintain_order=True).agg(means)
        numbered = traces.drop("unique_id").with_row_index("trace")
        frames.append(numbered.with_columns(source=pl.lit(source), **unseen).select("trace", "source", *SEGMENTS))
    return pl.concat(frames)


def example_pair(published: pl.DataFrame) -> pl.DataFrame:
    """NLD of the pair of Figure 7: layer, position, role (from the tokens at the position), nld."""
    close = published.filter(pl.col("clean_token") == "</think>")["position"][0]
    role = (
        pl.when(pl.col("clean_token") != pl.col("corrupted_token"))
        .then(pl.lit("flip"))
        .when(pl.col("position") < close)
        .then(pl.lit("probe"))
        .when(pl.col("position") == close)
        .then(pl.lit("think_close"))
        .otherwise(pl.lit("answer_end"))
    )
    nld = pl.col("normalized_logit_difference").alias("nld")
    return published.select("layer", "position", role.alias("role"), nld).sort("layer", "position")


def main(folder: Path) -> None:
    """Write the tables."""
    attention, patching = "segment_attention_math500_{}_withR.parquet", "patching_case24_{}.parquet"
    tables = {
        "head_masses": (head_masses, attention),
        "trace_masses": (trace_masses, attention),
        "trace_segments": (trace_segments, attention),
        "focus_heads": (focus_heads, attention),
        "example_pair": (example_pair, patching),
    }
    for name, (reduce, file) in tables.items():
        frames = [
            reduce(pl.read_parquet(folder / file.format(theirs))).select(pl.lit(ours).alias("model"), pl.all())
            for ours, theirs in MODELS.items()
        ]
        pl.concat(frames).write_parquet(TARGET / f"{name}.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
