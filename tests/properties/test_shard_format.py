"""Activation shards: what is written comes back exactly; a cut or a flipped bit anywhere is refused, never read."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2a_core.activations.attention import LayerAttention
from r2a_core.activations.store import ActivationReader, TraceActivations, shard_name, write_index, write_shard
from r2a_core.infra.errors import R2AError
from r2a_core.infra.files import LABEL
from r2a_core.trace import TraceSegments

REPEATABLE = settings(
    derandomize=True, deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MANY = settings(REPEATABLE, max_examples=150)


@st.composite
def activations(draw: Any, dtype: torch.dtype) -> TraceActivations:
    """Random tensors of random sizes; every bit pattern of a finite number may stand in them."""
    before, inside, after = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(3, 5))
    segments = TraceSegments(before, before + inside, before + inside + after)
    n, heads, dim = segments.n_tokens, draw(st.sampled_from([2, 4])), draw(st.integers(1, 3))
    first = draw(st.integers(0, segments.answer.start))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def tensor(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * 10.0 ** draw(st.integers(-30, 30))).to(dtype)

    trace = TraceActivations(segments, first, segments.answer.start)
    for layer in draw(st.sets(st.integers(0, 40), min_size=1, max_size=3)):
        window = draw(st.none() | st.integers(1, 5))
        sinks = draw(st.none() | st.just(tuple(float(head) for head in range(heads))))
        trace.layers[layer] = LayerAttention(
            layer, heads, heads // 2, dim, draw(st.floats(0.01, 2)), None, window, sinks
        )
        trace.q[layer], trace.k[layer] = tensor(heads, n - first, dim), tensor(heads // 2, n, dim)
        if draw(st.booleans()):
            trace.residual[layer], trace.z[layer] = tensor(len(segments.answer), 4), tensor(len(segments.answer), 4)
    return trace


names = st.text("ab/.\n\0é漢", min_size=1, max_size=5)


def store(folder: Path, traces: list[tuple[str, TraceActivations]]) -> ActivationReader:
    """The traces in two shards where there are several."""
    half = max(1, len(traces) // 2)
    shards = [part for part in (traces[:half], traces[half:]) if part]
    paths = [folder / shard_name(number) for number in range(len(shards))]
    for path, part in zip(paths, shards, strict=True):
        write_shard(path, part, "f")
    write_index(folder / "index.parquet", paths)
    return ActivationReader(folder)


@REPEATABLE
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_is_written_comes_back_bit_by_bit(data: Any, dtype: torch.dtype) -> None:
    ids = data.draw(st.lists(names, min_size=1, max_size=4, unique=True))
    traces = [(item_id, data.draw(activations(dtype))) for item_id in ids]
    with tempfile.TemporaryDirectory() as folder:
        reader = store(Path(folder), traces)
        assert reader.item_ids == ids
        for (item_id, written), read in zip(traces, reader, strict=True):
            assert read.item_id == item_id
            assert read.segments == written.segments
            assert (read.first_row, read.first_stream_row) == (written.first_row, written.first_stream_row)
            for kind, tensors in (("q", written.q), ("k", written.k), ("residual", written.residual), ("z", written.z)):
                for layer, tensor in tensors.items():
                    found = read.tensor(kind, layer)
                    assert found.dtype == dtype
                    assert torch.equal(found.view(torch.uint8), tensor.contiguous().view(torch.uint8))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two traces in two shards."""
    folder = tmp_path_factory.mktemp("stored")
    torch.manual_seed(0)
    traces = []
    for item_id in ("a", "b"):
        trace = TraceActivations(TraceSegments(1, 3, 6), 0, 4)
        trace.layers[0] = LayerAttention(0, 2, 1, 3, 0.5)
        trace.q[0], trace.k[0] = torch.randn(2, 6, 3), torch.randn(1, 6, 3)
        traces.append((item_id, trace))
    store(folder, traces)
    return folder


def read_all(folder: Path) -> list[Any]:
    """All that a reader is told of a folder, as values that can be compared."""
    return [
        (vars(trace) | {"shard": trace.shard.path.name}, trace.queries(0).tolist(), trace.keys(0).tolist())
        for trace in ActivationReader(folder)
    ]


def refusal_of(stored: Path, name: str, content: bytes) -> R2AError | None:
    """What the folder ends in with another content of one of its files; None where it reads the same."""
    with tempfile.TemporaryDirectory() as folder:
        for path in stored.iterdir():
            (Path(folder) / path.name).write_bytes(content if path.name == name else path.read_bytes())
        try:
            found = read_all(Path(folder))
        except R2AError as error:
            return error
    assert found == read_all(stored)
    return None


def check_refused(error: R2AError | None, name: str) -> None:
    """The error names the file and a way out."""
    assert error is not None
    assert name in error.message
    assert "dvc repro" in error.hint


files = st.sampled_from(["shard-00000.safetensors", "shard-00001.safetensors", "index.parquet"])


def test_the_folder_itself_is_read(stored: Path) -> None:
    assert [described["item_id"] for described, *_ in read_all(stored)] == ["a", "b"]


@MANY
@given(name=files, data=st.data())
def test_a_flipped_bit_anywhere_is_refused(stored: Path, name: str, data: Any) -> None:
    whole = (stored / name).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    error = refusal_of(stored, name, whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    label = whole.find(LABEL) if name == "index.parquet" else len(whole)
    if not label <= place < label + len(LABEL):  # without its label the digest is not looked at
        check_refused(error, name)


@MANY
@given(name=files, data=st.data())
def test_a_file_cut_anywhere_is_refused(stored: Path, name: str, data: Any) -> None:
    whole = (stored / name).read_bytes()
    check_refused(refusal_of(stored, name, whole[: data.draw(st.integers(0, len(whole) - 1))]), name)


@REPEATABLE
@given(name=files, tail=st.binary(min_size=1, max_size=20))
def test_a_file_with_a_tail_is_refused(stored: Path, name: str, tail: bytes) -> None:
    check_refused(refusal_of(stored, name, (stored / name).read_bytes() + tail), name)
