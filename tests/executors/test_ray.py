"""Shards on a real two-node cluster: order, the local run's bytes whatever dies, bounded attempts, errors."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from r2a_core.activations import capture as capture_jobs
from r2a_core.activations.capture import CaptureJob, CaptureShard
from r2a_core.config import BuiltinDataset, CaptureParams, ResourceParams
from r2a_core.data.items import Item
from r2a_core.generation.stage import GenerationJob, finish_shard, plan_shards
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import TEMPORARY
from r2a_core.infra.ray import ATTEMPTS
from r2a_core.infra.shards import finish_shards, open_store
from r2a_core.trace import TokenTrace, TraceSegments
from tests.executors.faults import (
    NotingJob,
    always_killed,
    failing,
    killed_once,
    plus_one,
    slow_first,
    stuck_on,
    wait_for,
)
from tests.small_models import GREEDY as BASE_PARAMS

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

LOCAL = ResourceParams("local", None, workers=None, start_seconds=1.0)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(root: Path, name: str, finish: Any, job: Any, shards: Sequence[Any], how: ResourceParams) -> dict[str, bytes]:
    """What a stage does with its shards. Files of the work store, by name."""
    with open_store(root / name, "stage", "item") as store:
        list(finish_shards(finish, job, store, shards, how))
    with open_store(root / name, "stage", "item") as store:  # opening removes what dead workers left
        return files(store.folder)


def test_results_come_in_order_from_one_model_a_worker(tmp_path: Path, on_cluster: ResourceParams) -> None:
    job = NotingJob(tmp_path)
    with open_store(tmp_path, "stage", "item") as store:
        results = list(finish_shards(slow_first, job, store, range(6), on_cluster))
    assert [shard for shard, _ in results] == list(range(6))
    assert len({node for _, node in results}) == 2
    assert len(list(tmp_path.glob("loaded-*"))) == 2
    assert not ray.is_initialized()


# A worker is killed


def capture_case(model_folder: Path) -> tuple[CaptureJob, list[CaptureShard]]:
    params = CaptureParams(None, "all", "bfloat16", None, (0, 1), (1,), "answer", 1)
    shards = []
    for number in range(4):
        ids = tuple(range(5 + number, 45 + number))
        trace = TokenTrace(f"q{number}", ids, TraceSegments(6, 25, len(ids)))
        shards.append(CaptureShard((trace,), 0, f"{number:032x}"))
    return CaptureJob(model_folder, params, "cpu"), shards


def test_a_killed_worker_changes_no_byte(
    tmp_path: Path, model_folder: Path, on_cluster: ResourceParams, caplog: pytest.LogCaptureFixture
) -> None:
    job, shards = capture_case(model_folder)
    undisturbed = run(tmp_path, "local", capture_jobs.finish_capture, job, shards, LOCAL)
    assert len(undisturbed) == 8  # shards and digests
    assert "loaded" in job.__dict__  # and does not travel
    finish = partial(killed_once, tmp_path, shards[1].fingerprint)
    assert run(tmp_path, "ray", finish, job, shards, on_cluster) == undisturbed
    assert (tmp_path / "killed").exists()
    assert "a worker died at shard 2 of 4 (1 of 3 attempts)" in caplog.text


def test_a_shard_that_kills_every_worker_is_given_up(tmp_path: Path, on_cluster: ResourceParams) -> None:
    with pytest.raises(
        R2AError, match=r"3 workers died at shard 2 of 3; the last: .*\nhint: .*finished shards are kept"
    ):
        run(tmp_path, "ray", partial(always_killed, tmp_path), NotingJob(tmp_path), range(3), on_cluster)
    assert (tmp_path / "deaths").read_text() == "x" * ATTEMPTS
    with open_store(tmp_path / "ray", "stage", "item") as store:  # the lock is free
        assert store.has(f"{0:032x}", ".txt")


# A node is lost


def generation_case(model_folder: Path) -> tuple[GenerationJob, list[Any]]:
    items = [Item(f"q{number}", f"Which is {number}?", None, "open") for number in range(6)]
    params = replace(BASE_PARAMS, temperature=0.8, max_new_tokens=8, retry=True, shard_items=1)
    job = GenerationJob("random", model_folder, "with_reasoning", BuiltinDataset("arithmetic", "", 6, 0), params, "cpu")
    return job, plan_shards(job, items, {"code": "c"})


@pytest.mark.slow
def test_a_lost_node_changes_no_byte(
    tmp_path: Path,
    model_folder: Path,
    cluster: Any,
    on_cluster: ResourceParams,
    node: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    job, shards = generation_case(model_folder)
    undisturbed = run(tmp_path, "local", finish_shard, job, shards, LOCAL)
    lost = cluster.add_node(**node)

    def remove() -> None:
        wait_for(tmp_path / "stuck")
        cluster.remove_node(lost, allow_graceful=False)

    removal = threading.Thread(target=remove, daemon=True)
    removal.start()
    finish = partial(stuck_on, tmp_path, lost.node_id)
    assert run(tmp_path, "ray", finish, job, shards, replace(on_cluster, workers=3)) == undisturbed
    removal.join()
    assert caplog.text.count("a worker died at shard") == 1


# What a worker says


def test_a_mistake_is_raised_as_itself(tmp_path: Path, on_cluster: ResourceParams) -> None:
    error = MissingPrerequisite("no model", "fetch it")
    with pytest.raises(MissingPrerequisite) as raised:
        run(tmp_path, "ray", partial(failing, error), NotingJob(tmp_path), range(3), on_cluster)
    assert type(raised.value) is MissingPrerequisite
    assert (raised.value.message, raised.value.hint) == ("no model", "fetch it")


@pytest.mark.slow
def test_a_full_disk_keeps_its_number(tmp_path: Path, on_cluster: ResourceParams) -> None:
    error = OSError(28, "No space left", "x")
    with pytest.raises(OSError, match="No space left") as raised:
        run(tmp_path, "ray", partial(failing, error), NotingJob(tmp_path), range(3), on_cluster)
    assert raised.value.errno == 28


@pytest.mark.slow
def test_a_bug_keeps_its_traceback(tmp_path: Path, on_cluster: ResourceParams) -> None:
    with pytest.raises(ZeroDivisionError, match="in failing"):
        run(tmp_path, "ray", partial(failing, ZeroDivisionError()), NotingJob(tmp_path), range(3), on_cluster)


# What is missing


def test_a_cluster_without_a_gpu_is_named_where_one_is_wanted(tmp_path: Path, on_cluster: ResourceParams) -> None:
    how = replace(on_cluster, workers=None)
    with pytest.raises(MissingPrerequisite, match="the Ray cluster has no GPU"):
        run(tmp_path, "ray", slow_first, NotingJob(tmp_path, "cuda"), range(3), how)


def test_a_worker_that_cannot_start_is_not_waited_for(tmp_path: Path, on_cluster: ResourceParams) -> None:
    how = replace(on_cluster, start_seconds=2.0)
    with pytest.raises(
        MissingPrerequisite, match="no worker started within 2 s; free in the Ray cluster: 0 GPU, 2 CPU"
    ):
        run(tmp_path, "ray", slow_first, NotingJob(tmp_path, "cuda"), range(3), how)


# Ray started by the stage itself


def listening(process: Any) -> set[str]:
    """Addresses on which a process listens."""
    import psutil

    try:
        return {each.laddr.ip for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return set()


@pytest.mark.slow
def test_an_own_cluster_listens_on_loopback_only(tmp_path: Path, cluster: Any) -> None:
    import psutil

    before = set(psutil.Process().children(recursive=True))
    how = ResourceParams("ray", None, workers=1, start_seconds=300.0)
    with open_store(tmp_path, "stage", "item") as store:
        results = finish_shards(plus_one, NotingJob(tmp_path), store, [1, 2], how)
        assert next(results) == 2
        own = set(psutil.Process().children(recursive=True)) - before
        assert set().union(*map(listening, own)) == {"127.0.0.1", "::ffff:127.0.0.1"}
        assert list(results) == [3]
    _, left = psutil.wait_procs(own, timeout=60)
    assert left == []
    assert not list(store.folder.glob(f"{TEMPORARY}*"))
