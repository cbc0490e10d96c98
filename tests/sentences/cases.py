"""Params, and tables of hidden sentences and of heads whose numbers can be worked out by hand."""

from typing import Any

import polars as pl

from r2a_core.config import SentencesParams, parse
from r2a_core.sentences.summary import RECEIVER_SCHEMA, SUPPRESSION_SCHEMA
from tests.study import PARAMS


def params(**values: Any) -> SentencesParams:
    return parse(
        SentencesParams, PARAMS["sentences"] | {"bootstrap_draws": 200, "permutations": 400} | values, "sentences"
    )


def hidden() -> pl.DataFrame:
    """Two traces of four sentences: the more the answer attends to one, the more it costs; in b one pair is swapped."""
    rows = []
    for item, order in (("a", (1, 2, 3, 4)), ("b", (1, 2, 4, 3))):
        sizes = {"n_sentences": 4, "n_tokens": 30, "n_answer_tokens": 6, "n_result_tokens": 2, "later_kl": [0.5]}
        base = {"item_id": item, **sizes, "result_log_prob_base": -1.0}
        rows.append(base | {"answer_kl": 0.001, "result_log_prob": -1.0})
        rows += [
            base
            | {"sentence": at, "start": 5 * at, "end": 5 * at + 5, "text": f"Step {at}.", "answer_kl": 0.1 * order[at]}
            | {"result_log_prob": -1 - order[at], "even": 0.1, "mass": 0.05 * (at + 1)}
            for at in range(4)
        ]
    return pl.DataFrame(rows, schema=SUPPRESSION_SCHEMA)


def heads() -> pl.DataFrame:
    """Ten traces, the first too short. Kurtosis is length and a head's number, of ranks the latter alone."""
    rows = []
    for trace in range(10):
        for head in range(3):
            values = {"kurtosis": trace + head, "ranked": head + 0.1 * (trace % 2), "matched": 1.0, "chance": 0.5}
            same = {"item_id": f"t{trace}", "proximity": 2, "layer": 0, "head": head, "n_sentences": 4 + trace}
            rows.append(same | (values if trace else {}))
    return pl.DataFrame(rows, schema=RECEIVER_SCHEMA, strict=False)
