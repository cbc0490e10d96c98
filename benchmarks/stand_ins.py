"""Inputs of the right sizes and without content, for functions of the core that state what an input takes.

Sizes -> a table of ranked heads, an unchanged run, a trace with a change of it.
"""

import polars as pl
import torch

from benchmarks.passes import StudyOf
from r2a_core.knockout.prefix import PrefixRun, View
from r2a_core.perturb.arms import Arm
from r2a_core.perturb.reading import Reading
from r2a_core.results import KINDS
from r2a_core.trace import TokenTrace, TraceSegments

STEM, RESULT = 11, 3  # tokens that force an answer, about: </think> and the words up to the box; what is in it


def any_heads(study: StudyOf) -> pl.DataFrame:
    """Heads as a study might rank them: in any order, those of the middle half of the layers first.

    There lie the heads that look at the reasoning (paper, Figure 3).
    """
    n_layers, width = study.shape.n_layers, study.shape.n_heads
    count, order = n_layers * width, pl.int_range(pl.len())
    frame = pl.DataFrame({"layer": [number // width for number in range(count)]})
    middle = pl.col("layer").is_between(n_layers / 4, n_layers * 3 / 4, closed="left").cast(pl.Int64)
    scores = ("answer_to_reasoning", "focus", "walk_correlation_weighted", "induction", "retrieval")
    ranks = {name: (order.shuffle(seed) - middle * count).rank("ordinal") for seed, name in enumerate(scores)}
    mass, kinds = ranks["answer_to_reasoning"], ("answer_to_reasoning", "induction", "retrieval")
    return frame.with_columns(
        order.mod(width).alias("head"),
        pl.lit(0.0).alias("walk_null_95"),
        *(mass.alias(name) for name in ("rank", "count_rank")),
        *((2 - rank / count).alias(name) for name, rank in ranks.items()),
        *((ranks[name] <= study.params.heads.top).alias(kind) for name, kind in zip(kinds, KINDS, strict=True)),
    )


def unchanged(trace: TraceSegments, view: str, rows: int) -> PrefixRun:
    """A run of the right sizes, without content."""
    tokens, nothing = TokenTrace("any", tuple(range(trace.n_tokens)), trace), torch.empty(0)
    return PrefixRun(tokens, View.of(view, trace), nothing, {}, {}, {}, torch.empty(rows))


def changed_trace(trace: TraceSegments, new: int) -> tuple[Reading, Arm]:
    """A trace and a change of it that computes so many tokens of the reasoning anew."""
    ids, shared = tuple(range(trace.n_tokens)), trace.think_close - new
    reading = Reading(TokenTrace("any", ids, trace), [], [], trace.reasoning, (0,) * STEM, (0,) * RESULT, "")
    return reading, Arm("filler", "", 1, (*ids[:shared], *(-1,) * new), 0)
