"""The shard format: round trips, equal bytes, and refusal of every kind of damage."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from r2a_core.activations.attention import LayerAttention
from r2a_core.activations.store import (
    ActivationReader,
    TraceActivations,
    plan_shards,
    shard_name,
    write_index,
    write_shard,
)
from r2a_core.infra.errors import R2AError
from r2a_core.trace import TraceSegments


def random_trace(seed: int, n_tokens: int = 12, layers: tuple[int, ...] = (0, 3), dtype=torch.bfloat16, window=None):
    generator = torch.Generator().manual_seed(seed)
    trace = TraceActivations(TraceSegments(3, 6, n_tokens), first_row=4, first_stream_row=7)
    for layer in layers:
        sinks = (0.1, -2.5, 3e-7, 1e9) if layer == 3 else None
        trace.layers[layer] = LayerAttention(layer, 4, 2, 8, 0.1 + seed, 30.0 if layer else None, window, sinks)
        trace.q[layer] = torch.randn(4, n_tokens - 5, 8, generator=generator).to(dtype)
        trace.k[layer] = torch.randn(2, n_tokens, 8, generator=generator).to(dtype)
    trace.residual[layers[0]] = torch.randn(n_tokens - 8, 16, generator=generator).to(dtype)
    return trace


def store(folder: Path, shards: list[list[tuple[str, TraceActivations]]]) -> None:
    paths = [folder / shard_name(number) for number in range(len(shards))]
    for number, (path, traces) in enumerate(zip(paths, shards, strict=True)):
        write_shard(path, traces, f"print-{number}")
    write_index(folder / "index.parquet", paths)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=4, unique=True),
    n_tokens=st.integers(10, 40),
    layers=st.sampled_from([(0,), (0, 3), (2, 3, 11)]),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    cut=st.integers(0, 4),
)
def test_round_trip(tmp_path_factory, ids, n_tokens, layers, dtype, cut):
    folder = tmp_path_factory.mktemp("shards")
    traces = [(item_id, random_trace(n, n_tokens + n, layers, dtype)) for n, item_id in enumerate(ids)]
    store(folder, [part for part in (traces[:cut], traces[cut:]) if part])
    reader = ActivationReader(folder)
    assert reader.item_ids == ids
    for found, (item_id, trace) in zip(reader, traces, strict=True):
        assert (found.item_id, found.segments, found.first_row) == (item_id, trace.segments, 4)
        assert found.first_stream_row == 7
        for layer in layers:
            assert torch.equal(found.queries(layer), trace.q[layer])
            assert found.queries(layer).dtype == dtype
            assert torch.equal(found.keys(layer), trace.k[layer])
        assert torch.equal(found.residual(layers[0]), trace.residual[layers[0]])
        assert found.layers[layers[-1]].sinks == trace.layers[layers[-1]].sinks


def test_equal_input_gives_equal_bytes_with_one_metadata_key(tmp_path):
    for name in ("a", "b"):
        store(tmp_path / name, [[("x", random_trace(1)), ("y", random_trace(2))]])
    files = [(tmp_path / name / file).read_bytes() for name in "ab" for file in (shard_name(0), "index.parquet")]
    assert files[0] == files[2]
    assert files[1] == files[3]
    length = int.from_bytes(files[0][:8], "little")
    header = json.loads(files[0][8 : 8 + length])
    assert list(header["__metadata__"]) == ["r2a"]
    assert header["00001.k.003"]["dtype"] == "BF16"
    assert header["00001.k.003"]["shape"] == [2, 12, 8]
    assert not list(tmp_path.rglob(".tmp-*"))


def test_window_of_a_long_trace_holds_for_the_short_ones_beside_it(tmp_path):
    short, long = random_trace(1, 10, window=None), random_trace(1, 40, window=16)
    for number, traces in enumerate(([("s", short), ("l", long)], [("l", long), ("s", short)])):
        store(tmp_path / str(number), [traces])
        assert {trace.layers[0].window for trace in ActivationReader(tmp_path / str(number))} == {16}


@given(sizes=st.lists(st.integers(1, 100), max_size=30), more=st.lists(st.integers(1, 100), max_size=5))
def test_plan_fills_shards_in_order_and_keeps_them(sizes, more):
    plan, grown = plan_shards(sizes, 100), plan_shards(sizes + more, 100)
    assert [number for shard in plan for number in shard] == list(range(len(sizes)))
    assert all(len(shard) == 1 or sum(sizes[number] for number in shard) <= 100 for shard in plan)
    full = plan[:-1]
    assert grown[: len(full)] == full


def test_plan_by_hand():
    assert plan_shards([40, 60, 1, 250, 50, 50], 100) == [[0, 1], [2], [3], [4, 5]]


def cut_shard(folder: Path) -> None:
    path = folder / shard_name(1)
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(folder: Path) -> None:
    (folder / shard_name(1)).write_bytes((folder / shard_name(1)).read_bytes()[:50])


def empty_shard(folder: Path) -> None:
    (folder / shard_name(1)).write_bytes(b"")


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / shard_name(1)).read_bytes())
    content[-5] ^= 1
    (folder / shard_name(1)).write_bytes(content)


def lose_shard(folder: Path) -> None:
    (folder / shard_name(1)).unlink()


def foreign_shard(folder: Path) -> None:
    write_shard(folder / shard_name(1), [("y", random_trace(2))], "print-of-another-run")


def swapped_shard(folder: Path) -> None:
    write_shard(folder / shard_name(1), [("z", random_trace(2))], "print-1")


def other_shape(folder: Path) -> None:
    write_shard(folder / shard_name(1), [("y", random_trace(2, n_tokens=14))], "print-1")


def other_layers(folder: Path) -> None:
    write_shard(folder / shard_name(1), [("y", random_trace(2, layers=(0,)))], "print-1")


def other_content(folder: Path) -> None:
    write_shard(folder / shard_name(1), [("y", random_trace(3))], "print-1")


def other_kind(folder: Path) -> None:
    save_file({"weight": torch.zeros(3)}, folder / shard_name(1))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut_shard, "damaged or cut off"),
        (cut_header, "damaged or cut off"),
        (empty_shard, "damaged or cut off"),
        (flip_a_byte, "was altered"),
        (lose_shard, "is missing"),
        (foreign_shard, "belongs to another run: its fingerprint is print-of-another-run"),
        (swapped_shard, "holds other traces"),
        (other_shape, r"the tensor 00000.k.000 is \(2, 14, 8\), the index says \(2, 12, 8\)"),
        (other_layers, "the tensor 00000.k.003 is missing"),
        (other_content, "was altered"),
        (other_kind, "is not an activation shard"),
    ],
)
def test_a_damaged_shard_is_named_and_the_others_still_read(tmp_path, damage, says):
    store(tmp_path, [[("x", random_trace(1))], [("y", random_trace(2))]])
    damage(tmp_path)
    reader = ActivationReader(tmp_path)
    assert torch.equal(reader.trace("x").keys(3), random_trace(1).k[3])
    with pytest.raises(R2AError, match=says) as caught:
        reader.trace("y")
    assert shard_name(1) in caught.value.message
    assert "dvc repro capture" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_damaged_index_is_named(tmp_path, content):
    store(tmp_path, [[("x", random_trace(1))]])
    index = tmp_path / "index.parquet"
    index.write_bytes(index.read_bytes()[:-20] if content is None else content)
    with pytest.raises(R2AError, match=r"index\.parquet is damaged or cut off"):
        ActivationReader(tmp_path)


def test_an_index_of_another_schema_or_none_is_named(tmp_path):
    with pytest.raises(R2AError, match=r"index\.parquet does not exist"):
        ActivationReader(tmp_path)
    pl.DataFrame({"item_id": ["x"]}).write_parquet(tmp_path / "index.parquet")
    with pytest.raises(R2AError, match="has no column shard, sha256"):
        ActivationReader(tmp_path)


def test_absent_items_layers_and_repeated_items_are_named(tmp_path):
    store(tmp_path, [[("x", random_trace(1))]])
    reader = ActivationReader(tmp_path)
    with pytest.raises(R2AError, match="has no trace 'q'"):
        reader.trace("q")
    with pytest.raises(R2AError, match="holds no q of layer 1 for 'x'"):
        reader.trace("x").queries(1)
    with pytest.raises(R2AError, match="'x' is in two places"):
        write_index(tmp_path / "index.parquet", [tmp_path / shard_name(0)] * 2)
