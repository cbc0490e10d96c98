"""Which pairs a run can use at all: both answers are one token, as they follow the common ending, for every model.

pairs, tokenizers of the run's models -> one row a pair, SELECTION_SCHEMA (data/pairs/selected.parquet). A row names the
first model that drops its pair, so that a model that drops no further pair changes nothing.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from r2a_core.data.comparison import ComparisonPair
from r2a_core.models.loading import LoadedTokenizer
from r2a_core.patching.alignment import ENDING, answer_token
from r2a_core.patching.trimming import NotAlignable

SELECTION_SCHEMA = {"pair_id": pl.String, "kept": pl.Boolean, "reason": pl.String}


def select_pairs(pairs: Sequence[ComparisonPair], tokenizers: Mapping[str, LoadedTokenizer]) -> pl.DataFrame:
    """Rows of SELECTION_SCHEMA in the order of `pairs`; reason is null where the pair is kept."""
    reasons = [first_reason(pair, tokenizers) for pair in pairs]
    return pl.DataFrame(
        {
            "pair_id": [pair.pair_id for pair in pairs],
            "kept": [reason is None for reason in reasons],
            "reason": reasons,
        },
        schema=SELECTION_SCHEMA,
    )


def first_reason(pair: ComparisonPair, tokenizers: Mapping[str, LoadedTokenizer]) -> str | None:
    """Why the pair is dropped, by the first model that does; None when it is kept."""
    for model, text in tokenizers.items():
        for answer in (pair.clean_answer, pair.corrupted_answer):
            try:
                answer_token(text, ENDING.format(pair.comparator), answer)
            except NotAlignable as reason:
                return f"{model}: {reason}"
    return None
