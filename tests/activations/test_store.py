"""The shard format: what is written comes back bit by bit, and any damage is refused by name."""

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2a_core.activations import writer
from r2a_core.activations.layer_attention import LayerAttention
from r2a_core.activations.store import TRACES, ActivationReader, shard_name
from r2a_core.activations.writer import Record, TraceActivations
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import LABEL
from r2a_core.trace import TokenTrace, TraceSegments

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
MANY = settings(REPEATABLE, max_examples=150)


def store(folder: Path, shards: list[list[Record]]) -> Path:
    """A folder with these shards, by way of a work folder beside it."""
    work = folder.parent / f"{folder.name}-work"
    paths = [work / str(number) for number in range(len(shards))]
    for number, (path, records) in enumerate(zip(paths, shards, strict=True)):
        writer.write_shard(path, records, f"print-{number}")
    writer.assemble(folder, paths, TRACES)
    return folder


def some_trace(item_id: str, seed: int = 0) -> Record:
    """Two layers of a trace of 12 tokens, one of them with softcap and sinks, and one residual stream."""
    generator = torch.Generator().manual_seed(seed)
    trace = TraceActivations(TraceSegments(3, 6, 12), first_row=4, first_stream_row=7)
    for layer, sinks in ((0, None), (3, (0.1, -2.5, 3e-7, 1e9))):
        trace.layers[layer] = LayerAttention(layer, 4, 2, 8, 0.1 + seed, 30.0 if layer else None, None, sinks)
        trace.q[layer] = torch.randn(4, 7, 8, generator=generator).bfloat16()
        trace.k[layer] = torch.randn(2, 12, 8, generator=generator).bfloat16()
    trace.residual[0] = torch.randn(4, 16, generator=generator).bfloat16()
    return trace.record(item_id, range(seed, seed + 12))


@st.composite
def activations(draw: Any, dtype: torch.dtype) -> tuple[TraceActivations, list[int]]:
    """Random tensors of random sizes, of all magnitudes, and token ids."""
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
        scaling = draw(st.floats(0.01, 2))
        trace.layers[layer] = LayerAttention(layer, heads, heads // 2, dim, scaling, None, window, sinks)
        trace.q[layer], trace.k[layer] = tensor(heads, n - first, dim), tensor(heads // 2, n, dim)
        if draw(st.booleans()):
            trace.residual[layer], trace.z[layer] = tensor(len(segments.answer), 4), tensor(len(segments.answer), 4)
    return trace, draw(st.lists(st.integers(0, 2**31 - 1), min_size=n, max_size=n))


@REPEATABLE
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_is_written_comes_back_bit_by_bit(data: Any, dtype: torch.dtype) -> None:
    names = st.text("ab/.\n\0é漢", min_size=1, max_size=5)
    ids = data.draw(st.lists(names, min_size=1, max_size=4, unique=True))
    traces = [(item_id, *data.draw(activations(dtype))) for item_id in ids]
    records, cut = [trace.record(item_id, tokens) for item_id, trace, tokens in traces], len(ids) // 2
    with tempfile.TemporaryDirectory() as folder:
        reader = ActivationReader(store(Path(folder, "x"), [part for part in (records[:cut], records[cut:]) if part]))
        assert reader.item_ids == ids
        assert reader.is_stored
        for (item_id, written, tokens), read in zip(traces, reader, strict=True):
            assert (read.item_id, read.token_ids, read.segments) == (item_id, tuple(tokens), written.segments)
            assert (read.first_row, read.first_stream_row) == (written.first_row, written.first_stream_row)
            assert read.layers == written.layers
            for kind in ("q", "k", "residual", "z"):
                for layer, tensor in getattr(written, kind).items():
                    found = read.tensor(kind, layer)
                    assert found.dtype == dtype
                    assert torch.equal(found.view(torch.uint8), tensor.contiguous().view(torch.uint8))


def test_a_shard_and_its_index_by_hand(tmp_path: Path) -> None:
    folder = store(tmp_path / "a", [[some_trace("x", 1), some_trace("y", 2)]])
    content = (folder / shard_name(0)).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == ["r2a"]
    assert (header["00001.k.003"]["dtype"], header["00001.k.003"]["shape"]) == ("BF16", [2, 12, 8])
    index = pl.read_parquet(folder / "index.parquet").row(1, named=True)
    names = [f"00001.{name}" for name in ("k.000", "k.003", "q.000", "q.003", "residual.000")]
    assert (index["tensors"], index["shapes"][0], index["dtype"]) == (names, [2, 12, 8], "bfloat16")
    assert (index["answer_start"], index["answer_end"], index["token_ids"]) == (7, 11, list(range(2, 14)))


def test_a_folder_loses_a_shard_or_takes_others_or_none(tmp_path: Path) -> None:
    folder = store(tmp_path / "x", [[some_trace("x")], [some_trace("y")]])
    (folder / shard_name(1)).unlink()
    assert torch.equal(ActivationReader(folder).trace("x").keys(3), some_trace("x").tensors["k.003"])
    with pytest.raises(R2AError, match=rf"{shard_name(1)} is missing"):
        ActivationReader(folder).trace("y")
    store(folder, [[some_trace("z")]])
    assert {path.name for path in folder.iterdir()} == {"index.parquet", shard_name(0)}
    traces = [TokenTrace(name, tuple(range(10)), TraceSegments(1, 3, 10)) for name in "ab"]
    writer.write_trace_list(folder, traces)
    reader = ActivationReader(folder)
    assert {path.name for path in folder.iterdir()} == {"index.parquet"}
    assert reader.token_traces() == traces
    assert not reader.is_stored


@given(sizes=st.lists(st.integers(1, 100), max_size=30), more=st.lists(st.integers(1, 100), max_size=5))
def test_plan_fills_shards_in_order_and_keeps_them(sizes: list[int], more: list[int]) -> None:
    plan, grown = writer.plan_shards(sizes, 100), writer.plan_shards(sizes + more, 100)
    assert [number for shard in plan for number in shard] == list(range(len(sizes)))
    assert all(len(shard) == 1 or sum(sizes[number] for number in shard) <= 100 for shard in plan)
    assert grown[: len(plan[:-1])] == plan[:-1]
    assert writer.plan_shards([40, 60, 1, 250, 50, 50], 100) == [[0, 1], [2], [3], [4, 5]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two traces in two shards."""
    return store(tmp_path_factory.mktemp("stored") / "x", [[some_trace("a", 1)], [some_trace("b", 2)]])


def read_all(folder: Path) -> list[Any]:
    """All that a reader is told of a folder, as values that can be compared."""
    return [
        (vars(trace) | {"shard": trace.shard.path.name}, [trace.queries(layer).tolist() for layer in trace.layers])
        for trace in ActivationReader(folder)
    ]


@MANY
@given(
    name=st.sampled_from([shard_name(0), shard_name(1), "index.parquet"]),
    kind=st.sampled_from(["a flipped bit", "a flipped bit", "cut", "a tail"]),
    data=st.data(),
)
def test_damage_anywhere_is_refused(stored: Path, name: str, kind: str, data: Any) -> None:
    whole = (stored / name).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if kind == "a flipped bit":
        content = whole[:place] + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))]) + whole[place + 1 :]
    else:
        content = whole[:place] if kind == "cut" else whole + data.draw(st.binary(min_size=1, max_size=20))
    label = whole.find(LABEL) if name == "index.parquet" else len(whole)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(stored, folder, dirs_exist_ok=True)
        Path(folder, name).write_bytes(content)
        if kind == "a flipped bit" and label <= place < label + len(LABEL):  # without its label no digest is looked at
            with suppress(R2AError):
                assert read_all(Path(folder)) == read_all(stored)
        else:
            with pytest.raises(R2AError, match=name) as caught:
                read_all(Path(folder))
            assert "dvc repro" in caught.value.hint


def test_what_is_not_there_is_named(stored: Path, tmp_path: Path) -> None:
    reader = ActivationReader(stored)
    with pytest.raises(R2AError, match="has no trace 'q'"):
        reader.trace("q")
    with pytest.raises(R2AError, match="holds no q of layer 1 for 'a'"):
        reader.trace("a").queries(1)
    with pytest.raises(MissingPrerequisite, match=r"index\.parquet does not exist"):
        ActivationReader(tmp_path)
    pl.DataFrame({"item_id": ["x"]}).write_parquet(tmp_path / "index.parquet")
    with pytest.raises(R2AError, match="has no column shard, sha256"):
        ActivationReader(tmp_path)
