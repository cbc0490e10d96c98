"""Shards on a real two-node cluster: order, the local run's bytes whatever dies, bounded attempts, plain errors."""

import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from r2a_core.activations import capture
from r2a_core.activations.capture import CaptureJob, CaptureShard
from r2a_core.builtin.tokenizer import build_tokenizer
from r2a_core.config import CaptureParams, ResourceParams, Tags
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import TEMPORARY
from r2a_core.infra.ray import (
    ATTEMPTS,
    ONLY_LOOPBACK,
    ShardWorker,
    check_alike,
    check_reachable,
    common,
    finish_on_ray,
)
from r2a_core.infra.shards import WorkStore, finish_shards, open_store
from r2a_core.models.pointer import ModelPointer
from r2a_core.trace import TokenTrace, TraceSegments
from tests.infra.ray_faults import (
    NotingJob,
    always_killed,
    failing,
    killed_once,
    slow_first,
    stuck_on,
    wait_for,
    write_number,
)
from tests.small_models import kept, two_layers

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ[ONLY_LOOPBACK] = "0"  # before Ray is imported, which reads it then

LOCAL = ResourceParams(executor="local", ray_address=None, workers=None, start_seconds=1.0)
NODE = {
    "num_cpus": 1,
    "num_gpus": 0,
    "node_ip_address": "127.0.0.1",
    "object_store_memory": 80 * 2**20,
    "include_dashboard": False,
}


def changed(how: ResourceParams, **values: Any) -> ResourceParams:
    return how.model_copy(update=values)


RAY = changed(LOCAL, executor="ray")


@dataclass(frozen=True)
class PlainJob:
    device: str = "cpu"


def squared(job: PlainJob, store: WorkStore, shard: int) -> int:
    return shard**2


# Without a cluster


def test_local_shards_are_finished_when_asked_for_and_no_cluster_is_started_for_none(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    def noted(job: PlainJob, store: WorkStore, shard: int) -> int:
        seen.append(shard)
        return shard**2

    results = finish_shards(noted, PlainJob(), WorkStore(tmp_path), [3, 1, 2], LOCAL)
    assert seen == []
    assert next(results) == 9
    assert seen == [3]
    assert list(results) == [1, 4]
    nowhere = changed(RAY, ray_address="nowhere")
    assert list(finish_shards(squared, PlainJob(), WorkStore(tmp_path), [], nowhere)) == []


def test_ray_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPrerequisite, match=r"Ray is not installed\nhint: pip install '\.\[ray\]'"):
        list(finish_on_ray(squared, PlainJob(), WorkStore(tmp_path), [1], RAY))


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_by_name_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(R2AError, match=f"R2A_DEVICE={device} names a device"):
        list(finish_on_ray(squared, PlainJob(device), WorkStore(tmp_path), [1], RAY))


def test_a_worker_checks_that_it_would_write_the_same_bytes_in_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    here = common("cpu")
    worker = ShardWorker(squared, PlainJob(), WorkStore(tmp_path), torch.get_num_threads())
    own = worker.check("marker", here)
    assert own == WorkStore(tmp_path).on("cpu").environment
    with pytest.raises(R2AError, match="does not see the work store"):
        worker.check("another marker", here)
    with pytest.raises(R2AError, match="differs from the driver in code, torch"):
        worker.check("marker", here | {"code": "0", "torch": "1.0"})
    with pytest.raises(R2AError, match="differs from the driver in tokenizers, device"):
        worker.check("marker", here | {"tokenizers": "0.1", "device": "cuda"})
    check_alike({own})
    with pytest.raises(R2AError, match=r"workers differ: cpu .* and cuda NVIDIA H100"):
        check_alike({own, own.rpartition(",")[0] + ",cuda_NVIDIA_H100"})


@pytest.fixture
def silent_port() -> Iterator[int]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path, silent_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    for address in (f"127.0.0.1:{free}", f"ray://127.0.0.1:{free}", "nowhere"):
        with pytest.raises(MissingPrerequisite, match=f"no Ray cluster at {address}"):
            list(finish_on_ray(squared, PlainJob(), WorkStore(tmp_path), [1], changed(RAY, ray_address=address)))
    with pytest.raises(MissingPrerequisite, match=f"no Ray cluster at 127.0.0.1:{silent_port}: .* after 2 seconds"):
        check_reachable(f"127.0.0.1:{silent_port}", seconds=2)


# On two nodes


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """ray.cluster_utils.Cluster: a head and a second node, one CPU each, real processes that listen on 127.0.0.1."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    made.add_node(**NODE)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def on_cluster(cluster: Any) -> ResourceParams:
    return ResourceParams(executor="ray", ray_address=cluster.address, workers=2, start_seconds=300.0)


def run(root: Path, name: str, finish: Any, job: Any, shards: Sequence[Any], how: ResourceParams) -> dict[str, bytes]:
    """What a stage does with its shards. Files of the work store, by name."""
    with open_store(root / name, "stage", "item") as store:
        list(finish_shards(finish, job, store, shards, how))
    with open_store(root / name, "stage", "item") as store:  # opening removes what dead workers left
        return {path.name: path.read_bytes() for path in store.folder.rglob("*.*") if path.is_file()}


def test_results_come_in_order_from_one_model_per_worker(tmp_path: Path, on_cluster: ResourceParams) -> None:
    import ray

    with open_store(tmp_path, "stage", "item") as store:
        results = list(finish_shards(slow_first, NotingJob(tmp_path), store, range(6), on_cluster))
    assert [shard for shard, _ in results] == list(range(6))
    assert len({node for _, node in results}) == 2
    assert len(list(tmp_path.glob("loaded-*"))) == 2
    assert not ray.is_initialized()


def capture_case(folder: Path) -> tuple[CaptureJob, list[CaptureShard]]:
    """Four shards of the capture stage, of one trace each, under a random model of two layers."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = build_tokenizer()
    two_layers(Qwen2ForCausalLM, Qwen2Config, len(tokenizer)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    ModelPointer("train", "float32", Tags()).write(folder)
    streams = kept("all", "bfloat16", residual_layers=(0, 1), z_layers=(1,)).model_dump()
    params = CaptureParams(limit=None, store=True, shard_mb=1, **streams)
    shards = []
    for number in range(4):
        ids = tuple(range(5 + number, 45 + number))
        trace = TokenTrace(f"q{number}", ids, TraceSegments(6, 25, len(ids)))
        shards.append(CaptureShard((trace,), 0, f"{number:032x}"))
    return CaptureJob(folder, "cpu", params), shards


def test_a_killed_worker_changes_no_byte(
    tmp_path: Path, on_cluster: ResourceParams, caplog: pytest.LogCaptureFixture
) -> None:
    job, shards = capture_case(tmp_path / "model")
    undisturbed = run(tmp_path, "local", capture.finish_capture, job, shards, LOCAL)
    assert len(undisturbed) == 8  # shards and digests
    assert "loaded" in job.__dict__  # and does not travel
    finish = partial(killed_once, tmp_path, shards[1].fingerprint)
    assert run(tmp_path, "ray", finish, job, shards, on_cluster) == undisturbed
    assert (tmp_path / "killed").exists()
    assert "a worker died at shard 2 of 4 (1 of 3 attempts)" in caplog.text


def test_a_shard_that_kills_every_worker_is_given_up(tmp_path: Path, on_cluster: ResourceParams) -> None:
    given_up = r"3 workers died at shard 2 of 3; the last: .*\nhint: .*finished shards are kept"
    with pytest.raises(R2AError, match=given_up):
        run(tmp_path, "ray", partial(always_killed, tmp_path), PlainJob(), range(3), on_cluster)
    assert (tmp_path / "deaths").read_text() == "x" * ATTEMPTS
    with open_store(tmp_path / "ray", "stage", "item") as store:  # the lock is free
        assert store.on("cpu").has(f"{0:032x}", ".txt")


@pytest.mark.slow
def test_a_lost_node_changes_no_byte(
    tmp_path: Path, cluster: Any, on_cluster: ResourceParams, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed = run(tmp_path, "local", write_number, PlainJob(), range(6), LOCAL)
    lost = cluster.add_node(**NODE)

    def remove() -> None:
        wait_for(tmp_path / "stuck")
        cluster.remove_node(lost, allow_graceful=False)

    removal = threading.Thread(target=remove, daemon=True)
    removal.start()
    finish = partial(stuck_on, tmp_path, lost.node_id)
    assert run(tmp_path, "ray", finish, PlainJob(), range(6), changed(on_cluster, workers=3)) == undisturbed
    removal.join()
    assert caplog.text.count("a worker died at shard") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MissingPrerequisite("no model", "fetch it"), "^no model\nhint: fetch it$"),
        pytest.param(OSError(28, "No space left", "x"), r"\[Errno 28\] No space left", marks=pytest.mark.slow),
        pytest.param(ZeroDivisionError(), "in failing", marks=pytest.mark.slow),
    ],
    ids=["a mistake is raised as itself", "a full disk keeps its number", "a bug keeps its traceback"],
)
def test_errors_keep_what_they_say(tmp_path: Path, on_cluster: ResourceParams, error: Exception, said: str) -> None:
    with pytest.raises(type(error), match=said):
        run(tmp_path, "ray", partial(failing, error), PlainJob(), range(3), on_cluster)


def test_a_cluster_without_a_gpu_is_named_where_one_is_wanted(tmp_path: Path, on_cluster: ResourceParams) -> None:
    with pytest.raises(MissingPrerequisite, match="the Ray cluster has no GPU"):
        run(tmp_path, "ray", squared, PlainJob("cuda"), range(3), changed(on_cluster, workers=None))
    no_place = "no worker started within 2 s; free in the Ray cluster: 0 GPU, 2 CPU"
    with pytest.raises(MissingPrerequisite, match=no_place):
        run(tmp_path, "ray", squared, PlainJob("cuda"), range(3), changed(on_cluster, start_seconds=2.0))


# Ray started by the stage itself


def listening(process: Any) -> set[str]:
    import psutil

    try:
        return {each.laddr.ip for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return set()


@pytest.mark.slow
def test_an_own_cluster_listens_on_loopback_only(tmp_path: Path, cluster: Any) -> None:
    import psutil

    before = set(psutil.Process().children(recursive=True))
    with open_store(tmp_path, "stage", "item") as store:
        how = changed(RAY, workers=1, start_seconds=300.0)
        results = finish_shards(squared, PlainJob(), store, [1, 2], how)
        assert next(results) == 1
        own = set(psutil.Process().children(recursive=True)) - before
        assert set().union(*map(listening, own)) == {"127.0.0.1", "::ffff:127.0.0.1"}
        assert list(results) == [4]
    _, left = psutil.wait_procs(own, timeout=60)
    assert left == []
    assert not list(store.folder.glob(f"{TEMPORARY}*"))
