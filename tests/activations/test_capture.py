"""What is kept of a trace, and how many bytes it takes."""

import pytest

from r2a_core.activations.capture import capture_trace, kept_rows, trace_bytes
from r2a_core.infra.errors import R2AError
from tests.attention.cases import SEGMENTS
from tests.small_models import kept

ANSWER = kept("answer", "bfloat16")


def test_rows_leave_out_the_final_eos_and_ids_must_fit_the_segments(tiny_model):
    expected = {"answer": range(23, 32), "answer_and_reasoning": range(7, 32), "all": range(33)}
    assert {rows: kept_rows(SEGMENTS, rows) for rows in ("answer", "answer_and_reasoning", "all")} == expected
    with pytest.raises(R2AError, match="32 token ids for a trace of 33"):
        capture_trace(tiny_model("llama"), list(range(32)), SEGMENTS, ANSWER)


@pytest.mark.parametrize(
    "config",
    [
        ANSWER,
        kept("answer_and_reasoning", layers=(1,), residual_layers=(0,)),
        kept("all", "bfloat16", (), residual_layers=(0, 1), z_layers=(0, 1), stream_rows="all"),
    ],
)
def test_bytes_are_foretold(tiny_model, config):
    model, segments = tiny_model("qwen2"), SEGMENTS
    trace = capture_trace(model, list(range(1, 34)), segments, config)
    tensors = [tensor for kept in (trace.q, trace.k, trace.residual, trace.z) for tensor in kept.values()]
    assert trace_bytes(model.config, segments, config) == sum(tensor.nbytes for tensor in tensors)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors), "no views of the whole"
