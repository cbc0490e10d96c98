"""Segment masses computed inside the forward pass, in the model's own precision: nothing is stored.

model, token ids, segments -> LiveMasses. The stored way (activations, then statistics) must agree with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from r2a_core.activations.capture import forward
from r2a_core.activations.recording import LayerAttention, recording
from r2a_core.attention.masses import LayerStatistics, masses, row_statistics
from r2a_core.traces.segments import TraceSegments


@dataclass(frozen=True)
class LiveMasses:
    """Mass on each segment, in the order of SEGMENTS; mean over rows. Sums to 1 over segments, to less with sinks."""

    answer: Tensor  # (layer, head, segment)
    reasoning: Tensor | None  # (layer, head, segment); None without reasoning tokens


@dataclass
class LiveRecorder:
    """Computes each layer's statistics when the layer runs."""

    segments: TraceSegments
    layers: dict[int, LayerStatistics] = field(default_factory=dict)

    def attention(self, layer: LayerAttention, query: Tensor, key: Tensor) -> None:
        self.layers[layer.layer] = row_statistics(query, key, 0, layer, self.segments)

    def residual(self, layer: int, stream: Tensor) -> None:
        """Not wanted."""

    def head_outputs(self, layer: int, z: Tensor) -> None:
        """Not wanted."""


@torch.no_grad()
def segment_masses_live(model: Any, token_ids: Sequence[int], segments: TraceSegments) -> LiveMasses:
    """Segment masses of one trace by one forward pass."""
    recorder = LiveRecorder(segments)
    with recording(model, recorder):
        forward(model, token_ids)
    layers = [recorder.layers[number] for number in sorted(recorder.layers)]

    def stacked(means: list[Tensor]) -> Tensor:
        return torch.stack([torch.stack(list(masses(mean, segments.ranges()).values()), dim=-1) for mean in means])

    reasoning = [layer.reasoning for layer in layers if layer.reasoning is not None]
    return LiveMasses(stacked([layer.answer for layer in layers]), stacked(reasoning) if reasoning else None)
