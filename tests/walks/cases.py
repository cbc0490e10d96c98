"""Params, and a table of walks whose numbers can be worked out by hand."""

from typing import Any

import polars as pl

from r2a_core.config import WalksParams, parse
from r2a_core.walks.summary import MEASURES, WALK_SCHEMA
from tests.study import PARAMS


def params(**values: Any) -> WalksParams:
    return parse(WalksParams, PARAMS["walks"] | {"heads": 1, "bootstrap_draws": 200} | values, "walks")


def row(item: str, head: int, **values: Any) -> dict[str, Any]:
    """A head of layer 1; the first one walks best. Its paths end at token 40 of 100."""
    key = {"item_id": item, "view": "answer", "layer": 1, "head": head}
    base = dict.fromkeys(WALK_SCHEMA) | dict.fromkeys(MEASURES, 0.5) | key
    marks = {"ends": [40] if head == 0 else [], "reflection": [10, 41], "parallel": 1 - head, "score": 1.0}
    sizes = {"n_reasoning_tokens": 100, "n_answer_tokens": 20, "walk_rank": 1 if head == 0 else None}
    return base | marks | sizes | values


def viewed(n_traces: int = 4) -> pl.DataFrame:
    """The same, and the reasoning's own rows on the question: head 2 reads it, head 1 evenly, head 0 less."""
    none = dict.fromkeys(("walk", "diagonal", "walk_rank", "parallel", "ends")) | {"view": "question"}
    rows = []
    for number in range(n_traces):
        rows.append(row(f"t{number:02d}", 0, **none, mass=0.1, even_excess=-0.2, excess=-0.1))
        rows.append(row(f"t{number:02d}", 1, **none, mass=0.4, even_excess=0.1, excess=0.1, entropy=0.95))
        rows.append(row(f"t{number:02d}", 2, **none, mass=0.7, excess=0.3 + number / 1000))
    return pl.concat([walked(n_traces), pl.DataFrame(rows, schema=WALK_SCHEMA)])


def walked(n_traces: int = 4) -> pl.DataFrame:
    """Traces of 100, 110, ... tokens. The mass of head 1 is their length; it reads evenly, and the others do not."""
    rows = []
    for number in range(n_traces):
        own = {"n_reasoning_tokens": 100 + 10 * number, "score": float(number % 4 != 3)}
        walks = {"walk": 0.9 - 0.1 * (number % 5), "question_walk": 0.2 + 0.06 * (number % 2)}
        rows.append(row(f"t{number:02d}", 0, **own, mass=0.6, excess=0.3, **walks))
        long = 0.7 + number / 1000
        rows.append(row(f"t{number:02d}", 1, **own, mass=long, even_excess=-0.01, excess=0.4, entropy=0.97))
        rows.append(row(f"t{number:02d}", 2, **own, mass=0.4, excess=0.35, walk=None))
    return pl.DataFrame(rows, schema=WALK_SCHEMA)
