"""What is kept of a trace, how many bytes it takes, and that no matrix of all tokens is ever built."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from r2a_core.activations.capture import capture_trace, kept_rows, trace_bytes
from r2a_core.attention.masses import TokenGroups, layer_statistics, masses_in_forward
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments
from tests.small_models import kept

ANSWER = kept("answer", "bfloat16")


class LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().nbytes() > 0:
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("answer", range(23, 32)), ("answer_and_reasoning", range(7, 32)), ("all", range(33))],
)
def test_rows_leave_out_the_final_eos(rows, expected):
    assert kept_rows(TraceSegments(6, 22, 33), rows) == expected


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2"])
def test_no_token_by_token_matrix(tiny_model, kind):
    n_tokens = 3000
    segments = TraceSegments(20, 2900, n_tokens)
    ids = torch.randint(1, 64, (n_tokens,), generator=torch.Generator().manual_seed(2)).tolist()
    config = kept("answer_and_reasoning", "bfloat16")
    with LargestTensor() as largest:
        trace = capture_trace(tiny_model(kind), ids, segments, config)
        layer_statistics(trace, 1)
        sentences = [range(start, start + 20) for start in range(21, 2900, 20)][:-1]
        masses_in_forward(tiny_model(kind), "x", ids, TokenGroups(segments, (), sentences))
    assert largest.numel < n_tokens**2 / 2


@pytest.mark.parametrize(
    "config",
    [
        ANSWER,
        kept("answer_and_reasoning", layers=(1,), residual_layers=(0,)),
        kept("all", "bfloat16", (), residual_layers=(0, 1), z_layers=(0, 1), stream_rows="all"),
    ],
)
def test_bytes_are_foretold(tiny_model, config):
    model, segments = tiny_model("qwen2"), TraceSegments(6, 22, 33)
    trace = capture_trace(model, list(range(1, 34)), segments, config)
    tensors = [tensor for kept in (trace.q, trace.k, trace.residual, trace.z) for tensor in kept.values()]
    assert trace_bytes(model.config, segments, config) == sum(tensor.nbytes for tensor in tensors)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors), "no views of the whole"


def test_ids_must_fit_the_segments(tiny_model):
    with pytest.raises(R2AError, match="32 token ids for a trace of 33"):
        capture_trace(tiny_model("llama"), list(range(32)), TraceSegments(6, 22, 33), ANSWER)
