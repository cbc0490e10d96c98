"""What is kept of a trace, in what dtype, and how many bytes it takes."""

from dataclasses import replace

import pytest
import torch

from r2a_core.activations.attention import Recorder, recording
from r2a_core.activations.capture import CaptureJob, capture_trace, forward, kept_rows, trace_bytes
from r2a_core.config import CaptureParams
from r2a_core.infra.errors import R2AError
from r2a_core.models.load import load_model
from r2a_core.models.pointer import read_pointer
from tests.attention.cases import SEGMENTS
from tests.random_models import save_random_model
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


class Keys(Recorder):
    """The keys as the model computes them."""

    def __init__(self):
        self.keys = {}

    def attention(self, layer, query, key, log_sums=None):
        self.keys[layer.layer] = key.clone()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_auto_keeps_what_the_model_computes_in_its_own_dtype_whatever_config_json_says(tmp_path, dtype):
    save_random_model(tmp_path, "qwen2", 0, num_hidden_layers=2)  # config.json says float32
    replace(read_pointer(tmp_path), dtype=dtype).write(tmp_path)
    model, config, seen = load_model(tmp_path, "cpu").model, kept("answer", "auto"), Keys()
    ids = list(range(1, 34))
    with torch.no_grad(), recording(model, seen):
        forward(model, ids)
    trace = capture_trace(model, ids, SEGMENTS, config)
    for layer, key in seen.keys.items():
        assert trace.k[layer].dtype == getattr(torch, dtype)
        assert torch.equal(trace.k[layer], key)
    params = CaptureParams(**config.model_dump() | {"layers": None, "limit": None, "store": True, "shard_mb": 1})
    n_bytes = sum(tensor.nbytes for part in (trace.q, trace.k) for tensor in part.values())
    assert trace_bytes(CaptureJob(tmp_path, "cpu", params).sizes, SEGMENTS, config) == n_bytes
