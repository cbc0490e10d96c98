"""Segment masses computed inside the forward pass, in the model's own precision: nothing is stored.

model, token ids, segments -> LiveMasses. The stored way (activations, then statistics) must agree with it. Each layer's
values gain one column a segment, 1 on its tokens: what comes out in that column is a row's mass on the segment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.attention import Recorder, recording
from r2a_core.activations.capture import forward
from r2a_core.trace import SEGMENTS, TraceSegments

COLUMNS = 8  # of the values, at least one a segment


@dataclass(frozen=True)
class LiveMasses:
    """Mass on each segment, in the order of SEGMENTS; mean over rows. Sums to 1 over segments, to less with sinks."""

    answer: Tensor  # (layer, head, segment), float64
    reasoning: Tensor | None  # (layer, head, segment), float64; None without reasoning tokens


@dataclass
class LiveRecorder(Recorder):
    """Keeps the mean masses of each layer when the layer runs."""

    segments: TraceSegments
    columns: Tensor  # (token, column), 1 where the token is in the segment
    answer: dict[int, Tensor] = field(default_factory=dict)  # layer -> (head, segment)
    reasoning: dict[int, Tensor] = field(default_factory=dict)

    def weighted_sums(self, layer: int, sums: Tensor) -> None:
        self.answer[layer] = mean_over(sums, self.segments.answer)
        if len(self.segments.reasoning):
            self.reasoning[layer] = mean_over(sums, self.segments.reasoning)


def mean_over(sums: Tensor, rows: range) -> Tensor:
    """Mean of sums (token, head, column) over the tokens `rows`, (head, segment)."""
    return sums[rows.start : rows.stop, :, : len(SEGMENTS)].mean(dim=0, dtype=torch.float64).cpu()


@torch.no_grad()
def segment_masses_live(model: Any, token_ids: Sequence[int], segments: TraceSegments) -> LiveMasses:
    """Segment masses of one trace by one forward pass."""
    columns = torch.zeros(segments.n_tokens, COLUMNS, device=model.device)
    for column, tokens in enumerate(segments.ranges().values()):
        columns[tokens.start : tokens.stop, column] = 1
    recorder = LiveRecorder(segments, columns)
    with recording(model, recorder):
        forward(model, token_ids)
    layers = sorted(recorder.answer)
    reasoning = torch.stack([recorder.reasoning[layer] for layer in layers]) if recorder.reasoning else None
    return LiveMasses(torch.stack([recorder.answer[layer] for layer in layers]), reasoning)
