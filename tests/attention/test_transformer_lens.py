"""Masses and induction scores against TransformerLens, where it is installed (it is not a dependency)."""

import pytest
import torch

from benchmarks.theirs_lens import hooked_transformer
from r2a_core.activations.attention import recording
from r2a_core.activations.capture import forward
from r2a_core.attention.induction import InductionRecorder
from r2a_core.attention.masses import REFLECTION, TokenGroups, masses_in_forward
from r2a_core.trace import TraceSegments

pytest.importorskip("transformer_lens")


@pytest.fixture
def hooked(tiny_model):
    """The tiny Llama as a HookedTransformer, weights unprocessed."""
    return hooked_transformer(tiny_model("llama"), 512)


def patterns(hooked, ids: torch.Tensor) -> torch.Tensor:
    """(layer, head, row, key)."""
    _, cache = hooked.run_with_cache(ids[None])
    return torch.stack([cache["pattern", layer][0] for layer in range(hooked.cfg.n_layers)]).double()


def test_segment_masses(hooked, tiny_model):
    segments = TraceSegments(6, 22, 33)
    ids = torch.randint(1, 64, (33,), generator=torch.Generator().manual_seed(1))
    found = masses_in_forward(tiny_model("llama"), "x", ids.tolist(), TokenGroups(segments, (), ())).masses
    answer = torch.stack([found[layer].answer[:, :REFLECTION] for layer in sorted(found)])
    rows = patterns(hooked, ids)[:, :, 23:32]
    expected = [rows[..., each.start : each.stop].sum(-1).mean(-1) for each in segments.ranges().values()]
    torch.testing.assert_close(answer, torch.stack(expected, dim=-1), atol=1e-5, rtol=0)


def test_induction_match_is_what_detect_head_computes(hooked, tiny_model):
    from transformer_lens import head_detector  # pyright: ignore[reportMissingImports]

    repeat = torch.randperm(60, generator=torch.Generator().manual_seed(2))[:20] + 2
    ids = torch.cat([torch.tensor([1]), repeat, repeat])
    recorder = InductionRecorder(ids, first=21, period=20, offset={}, match={})
    model = tiny_model("llama")
    with torch.no_grad(), recording(model, recorder):
        forward(model, ids.tolist())
    detection = head_detector.get_induction_head_detection_pattern(ids[None])
    how = {"exclude_bos": False, "exclude_current_token": False, "error_measure": "mul"}
    score = head_detector.compute_head_attention_similarity_score
    for layer, attention in enumerate(patterns(hooked, ids)):
        expected = [score(attention[head], detection, **how) for head in range(6)]
        assert recorder.match[layer].tolist() == pytest.approx(expected, abs=1e-5)
