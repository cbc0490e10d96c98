"""A trace and a random pair as the project's own records, and a cell of the pair by an ordinary forward pass.

Number of tokens -> TraceSegments; model, number of tokens -> Case, for benchmarks that hold the model themselves.
"""

from dataclasses import dataclass
from typing import Any

from benchmarks.cases import VOCABULARY, build_pair, chosen_cells, patched_forward, segment_bounds
from r2a_core.pairs.align import AlignedPair, PaddedSequence, PatchPosition
from r2a_core.patching.runs import CleanRun, capture_clean
from r2a_core.trace import TraceSegments

Cell = tuple[int, int]  # layer, token


@dataclass(frozen=True)
class Case:
    """A pair on a model, with the clean residual streams, and the cells in a fixed shuffled order."""

    model: Any
    pair: AlignedPair
    clean: CleanRun
    cells: list[Cell]


def aligned(n_tokens: int, vocabulary: int = VOCABULARY) -> AlignedPair:
    """The pair of `build_pair`; its answers are the tokens 1 and 2."""
    pair = build_pair(n_tokens, vocabulary)
    sides = [PaddedSequence(tuple(ids), (False,) * n_tokens, False) for ids in (pair.clean, pair.corrupted)]
    positions = tuple(PatchPosition(index, "probe", "", "") for index in pair.positions)
    return AlignedPair("p", "plain", sides[0], sides[1], positions, 1, 2, think_open=2, think_close=pair.close)


def build_case(model: Any, n_tokens: int, n_layers: int) -> Case:
    """The pair on a model, its clean run made."""
    vocabulary = model.config.get_text_config().vocab_size
    pair = aligned(n_tokens, vocabulary)
    cells = chosen_cells(build_pair(n_tokens, vocabulary), n_layers)
    return Case(model, pair, capture_clean(model, pair), cells)


def full_forward(case: Case, cell: Cell) -> float:
    """Logit difference of one cell by a hook on its layer and an ordinary forward pass."""
    layer, token = cell
    vector = case.clean.resid_pre[layer, case.clean.rows_of([token])[0]].to(case.model.device)
    logits = patched_forward(case.model, case.pair.corrupted.ids, layer, token, vector)
    return (logits[case.pair.answer_a] - logits[case.pair.answer_b]).item()


def segments_of(n_tokens: int) -> TraceSegments:
    """The segments of `segment_bounds`."""
    bounds = segment_bounds(n_tokens)
    return TraceSegments(bounds["think_open"].start, bounds["think_close"].start, n_tokens)
