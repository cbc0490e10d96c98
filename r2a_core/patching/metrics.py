"""How far a run leans to the clean answer A or the corrupted answer B (paper section 5), and the patching table.

logits at the last position, token ids of both answers -> AnswerMetrics (logit difference and the like); the metrics of
a Sweep -> NLD, and the frame of data/patching/<model>.parquet, one row per pair, probe, component, layer, head and
position.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2a_core.infra.checks import HINT, check_columns, check_finite
from r2a_core.infra.errors import R2AError

FRAME_SCHEMA: Any = {
    "pair_id": pl.String,
    "probe": pl.String,
    "component": pl.String,
    "layer": pl.Int16,
    "head": pl.Int16,
    "position": pl.Int32,
    "role": pl.String,
    "clean_token": pl.String,
    "corrupted_token": pl.String,
    "logit_diff": pl.Float64,
    "nld": pl.Float64,
    "log_prob_diff": pl.Float64,
    "prob_diff": pl.Float64,
    "rank_diff": pl.Int32,
    "ld_clean": pl.Float64,
    "ld_corrupted": pl.Float64,
}

ROWS_AT_ONCE = 64  # rows of float32 logits held at a time

NUMBERS = [name for name, kind in FRAME_SCHEMA.items() if kind == pl.Float64]

SORT_KEYS = ["pair_id", "probe", "component", "layer", "head", "position"]


@dataclass(frozen=True)
class AnswerMetrics:
    """Differences A - B of one or more runs; all fields share one shape, the logits' without the vocabulary.

    logit_diff: logits. log_prob_diff: natural log of the probability ratio (equal to logit_diff up to rounding).
    prob_diff: probabilities, in [-1, 1]. rank_diff: ranks, where a token's rank is the number of tokens with a larger
    logit (0 = the most likely one), so that a negative difference favours A.
    """

    logit_diff: NDArray[np.float64]
    log_prob_diff: NDArray[np.float64]
    prob_diff: NDArray[np.float64]
    rank_diff: NDArray[np.int64]


def answer_metrics(logits: Tensor, answer_a: int, answer_b: int) -> AnswerMetrics:
    """Compute the metrics of `logits` (..., vocab), of any float dtype; computed in float32, a few rows at a time.

    Raises R2AError when a difference is not finite, naming the run.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    values: list[Tensor] = []
    ranks: list[Tensor] = []
    for some in rows.split(ROWS_AT_ONCE):
        wide = some.float()
        a, b = wide[:, [answer_a]], wide[:, [answer_b]]
        log_probs = wide.log_softmax(-1)[:, [answer_a, answer_b]]
        probs = log_probs.exp()
        values.append(torch.stack([(a - b)[:, 0], log_probs[:, 0] - log_probs[:, 1], probs[:, 0] - probs[:, 1]]).cpu())
        ranks.append(((wide > a).sum(-1) - (wide > b).sum(-1)).cpu())
    shape = logits.shape[:-1]
    together = torch.cat(values, 1)
    for name, difference in zip(("logit", "log-probability", "probability"), together, strict=True):
        check_finite(difference, f"the answers' {name} difference", ("run",))
    logit, log_prob, prob = (value.reshape(shape).double().numpy() for value in together)
    return AnswerMetrics(logit, log_prob, prob, torch.cat(ranks).reshape(shape).numpy())


def normalised_logit_diff(logit_diff: NDArray[np.float64], ld_clean: float, ld_corrupted: float) -> NDArray[np.float64]:
    """Return NLD: 0 where a cell stays at the corrupted run, 1 where it reaches the clean run; may leave [0, 1].

    Raises R2AError when clean and corrupted runs do not differ.
    """
    span = ld_clean - ld_corrupted
    if not abs(span) >= 1e-9:  # a NaN too
        raise R2AError(
            f"clean and corrupted runs have the same logit difference {ld_clean:.6g}: NLD has no scale",
            "drop the pair: capture_pairs does when patch.capture.logit_diff_threshold is above 0",
        )
    return (logit_diff - ld_corrupted) / span


@dataclass(frozen=True)
class Sweep:
    """All cells of one pair and component."""

    pair_id: str
    probe: str
    component: str
    positions: tuple[int, ...]
    roles: tuple[str, ...]
    clean_tokens: tuple[str, ...]
    corrupted_tokens: tuple[str, ...]
    metrics: AnswerMetrics  # (layer, position) for resid_pre, (layer, head, position) for z
    ld_clean: float
    ld_corrupted: float

    @property
    def nld(self) -> NDArray[np.float64]:
        """Normalised logit difference, of the metrics' shape."""
        return normalised_logit_diff(self.metrics.logit_diff, self.ld_clean, self.ld_corrupted)


def sweep_frame(sweep: Sweep) -> pl.DataFrame:
    """Return the cells of one sweep as rows of the patching table. head is null for resid_pre.

    Raises R2AError at a number that is not finite, naming the cell.
    """
    shape = sweep.metrics.logit_diff.shape
    index = np.indices(shape).reshape(len(shape), -1)
    at = index[-1]
    per_position = {
        "position": sweep.positions,
        "role": sweep.roles,
        "clean_token": sweep.clean_tokens,
        "corrupted_token": sweep.corrupted_tokens,
    }
    columns = {
        "layer": index[0],
        "head": index[1] if len(shape) == 3 else pl.Series([None] * len(at), dtype=pl.Int16),
        **{name: [values[i] for i in at] for name, values in per_position.items()},
        "logit_diff": sweep.metrics.logit_diff.ravel(),
        "nld": sweep.nld.ravel(),
        "log_prob_diff": sweep.metrics.log_prob_diff.ravel(),
        "prob_diff": sweep.metrics.prob_diff.ravel(),
        "rank_diff": sweep.metrics.rank_diff.ravel(),
    }
    same = {
        name: pl.lit(getattr(sweep, name)) for name in ("pair_id", "probe", "component", "ld_clean", "ld_corrupted")
    }
    frame = pl.DataFrame(columns).with_columns(**same).select(*FRAME_SCHEMA).cast(FRAME_SCHEMA)
    cell = ("pair_id", "probe", "component", "layer", "head", "position")
    check_columns(frame, NUMBERS, cell, "patching", HINT)
    return frame


def patching_frame(sweeps: Sequence[Sweep]) -> pl.DataFrame:
    """Return the patching table of some sweeps, sorted; empty with the right columns when there are none."""
    return concat_sweeps([sweep_frame(sweep) for sweep in sweeps])


def concat_sweeps(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return patching tables as one, sorted by pair, probe, component, layer, head and position."""
    return pl.concat([pl.DataFrame(schema=FRAME_SCHEMA), *frames]).sort(SORT_KEYS, maintain_order=True)
