"""The stage instruments: reads what the other stages measured of all models and datasets of the run.

StudyPaths, params -> VALUE_SCHEMA (values.py) of the whole run. No model is loaded.
"""

import polars as pl

from r2a_core.config import Params, RunParams
from r2a_core.infra.files import read_frame
from r2a_core.instruments.values import (
    ATTENTION_COLUMNS,
    attention_values,
    knockout_values,
    patching_values,
    perturb_values,
    sentence_values,
    value_frame,
    walk_values,
)
from r2a_core.knockout.sets import RANKED_COLUMNS
from r2a_core.knockout.summary import KNOCKOUT_SCHEMA
from r2a_core.paths import StudyPaths
from r2a_core.perturb.summary import PERTURB_SCHEMA
from r2a_core.sentences.summary import SUPPRESSION_SCHEMA
from r2a_core.walks.summary import WALK_SCHEMA

PATCHING_COLUMNS = ("pair_id", "probe", "component", "layer", "position", "role", "nld")  # of FRAME_SCHEMA


def perturb_tables(paths: StudyPaths, run: RunParams) -> dict[tuple[str, str], pl.DataFrame]:
    """Read changed reasoning by model and dataset; of the pairs nothing is changed."""
    found = {}
    for model in run.models:
        for dataset in run.datasets:
            found[model, dataset] = read_frame(paths.perturb(model, dataset), PERTURB_SCHEMA, "perturb")
        found[model, run.pairs] = pl.DataFrame(schema=PERTURB_SCHEMA)
    return found


def all_values(paths: StudyPaths, params: Params, perturb: dict[tuple[str, str], pl.DataFrame]) -> pl.DataFrame:
    """Collect what every instrument says of the items of every model and dataset, and of its pairs."""
    run, count, walk = params.run, params.heads.top, params.heads.walk
    found = {}
    for model in run.models:
        heads = read_frame(paths.heads(model), RANKED_COLUMNS, "heads")
        for dataset in run.datasets:
            attention = read_frame(paths.attention(model, dataset), ATTENTION_COLUMNS, "attention")
            walks = read_frame(paths.walks(model, dataset), WALK_SCHEMA, "walks").filter(pl.col("view") == "answer")
            knockout = read_frame(paths.knockout(model, dataset), KNOCKOUT_SCHEMA, "knockout")
            hidden = read_frame(paths.hidden_sentences(model, dataset), SUPPRESSION_SCHEMA, "sentences")
            found[model, dataset] = [
                *attention_values(attention, heads.filter(pl.col("dataset") == dataset), count, walk),
                *walk_values(walks, count, params.walks.heads, params.walks.near_uniform),
                *knockout_values(knockout.filter(pl.col("view") == "answer"), count),
                *sentence_values(hidden),
                *perturb_values(perturb[model, dataset]),
            ]
        patching = read_frame(paths.patching(model), PATCHING_COLUMNS, "patch")
        found[model, run.pairs] = patching_values(patching)
    return value_frame(found)
