"""What holds without a cluster: order, laziness, the params section, and what is said when Ray cannot run."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml

from r2a_core.config import ResourceParams, parse
from r2a_core.infra import ray as workers
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.ray import Environment, Worker, finish_on_ray
from r2a_core.infra.shards import WorkStore, finish_shards
from stages import _shards
from stages._params import check_all_params

ROOT = Path(__file__).resolve().parent.parent.parent
LOCAL = ResourceParams("local", None, workers=None, start_seconds=1.0)
RAY = replace(LOCAL, executor="ray")


@dataclass(frozen=True)
class PlainJob:
    device: str = "cpu"


def squared(job: PlainJob, store: WorkStore, shard: int) -> int:
    return shard**2


def test_local_shards_are_finished_in_order_one_when_asked_for(tmp_path: Path) -> None:
    seen: list[int] = []

    def noted(job: PlainJob, store: WorkStore, shard: int) -> int:
        seen.append(shard)
        return shard**2

    results = finish_shards(noted, PlainJob(), WorkStore(tmp_path), [3, 1, 2], LOCAL)
    assert seen == []
    assert next(results) == 9
    assert seen == [3]
    assert list(results) == [1, 4]


def test_without_shards_no_cluster_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "finish_on_ray", lambda *args: pytest.fail("a cluster was asked for"))
    assert list(finish_shards(squared, PlainJob(), WorkStore(tmp_path), [], RAY)) == []


def test_ray_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPrerequisite, match=r"Ray is not installed\nhint: pip install '\.\[ray\]'"):
        list(finish_on_ray(squared, PlainJob(), WorkStore(tmp_path), [1], RAY))


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_by_name_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(R2AError, match=f"R2A_DEVICE={device} names a device"):
        list(finish_on_ray(squared, PlainJob(device), WorkStore(tmp_path), [1], RAY))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path, silent_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    for address in (f"127.0.0.1:{free}", f"ray://127.0.0.1:{free}", "nowhere"):
        with pytest.raises(MissingPrerequisite, match=f"no Ray cluster at {address}"):
            list(finish_on_ray(squared, PlainJob(), WorkStore(tmp_path), [1], replace(RAY, ray_address=address)))


def test_a_server_that_is_no_cluster_is_not_waited_for(
    tmp_path: Path, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "HEALTH_SECONDS", 2)
    address = f"127.0.0.1:{silent_port}"
    with pytest.raises(MissingPrerequisite, match="timed out after 2 seconds"):
        list(finish_on_ray(squared, PlainJob(), WorkStore(tmp_path), [1], replace(RAY, ray_address=address)))


def test_a_worker_checks_that_it_would_write_the_same_bytes_in_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "mark").touch()
    here = Environment.here()
    worker = Worker(squared, PlainJob(), WorkStore(tmp_path), torch.get_num_threads())
    worker.check("mark", here)
    with pytest.raises(R2AError, match="does not see the work store"):
        worker.check("another mark", here)
    with pytest.raises(R2AError, match="differs from the driver in code, torch"):
        worker.check("mark", replace(here, code="0", torch="1.0"))


def test_the_code_state_is_that_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "__file__", str(tmp_path / "workers.py"))
    (tmp_path / "a.py").write_text("1")
    first = workers.code_state()
    (tmp_path / "note.txt").write_text("not code")
    assert workers.code_state() == first
    (tmp_path / "a.py").write_text("2")
    assert workers.code_state() != first


# The section `resources`


def resources_of_project() -> dict[str, object]:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["resources"]


def test_the_project_runs_locally_unless_told_otherwise() -> None:
    assert parse(ResourceParams, resources_of_project(), "resources").executor == "local"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"executor": "slurm"}, r"resources\.executor: .*found 'slurm'"),
        ({"workers": 0}, r"resources\.workers"),
        ({"start_seconds": 0}, r"resources\.start_seconds"),
        ({"gpus": 2}, "unknown key 'gpus'"),
    ],
)
def test_impossible_resources_are_named_by_every_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], told: str
) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["resources"] |= change
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    monkeypatch.setattr(_shards, "ROOT", tmp_path)
    with pytest.raises(R2AError, match=told):
        _shards.read_resources()
    with pytest.raises(R2AError, match=told):
        check_all_params(path)


def test_a_pipeline_without_the_section_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text("run: {}\n")
    monkeypatch.setattr(_shards, "ROOT", tmp_path)
    with pytest.raises(R2AError, match="resources must be a mapping"):
        _shards.read_resources()


def test_resources_are_a_dependency_of_no_stage() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert [name for name, stage in stages.items() if "resources" in str(stage.get("params"))] == []
    assert "resources" not in (ROOT / "dvc.lock").read_text(encoding="utf-8")


def changed_params(project: Path) -> dict[str, set[str]]:
    """Stage -> params that dvc finds changed."""
    from dvc.repo import Repo

    changed: dict[str, set[str]] = {}
    with Repo(str(project)) as repo:
        for stage in repo.index.stages:
            params = stage.params  # type: ignore[attr-defined]
            found = {key for param in params for keys in param.workspace_status().values() for key in keys}
            if found:
                changed[stage.name.split("@")[0]] = found  # type: ignore[attr-defined]
    return changed


def test_another_executor_reruns_nothing(tmp_path: Path) -> None:
    """What dvc says of the stages of one model and dataset, locked as in dvc.lock."""
    from dvc.repo import Repo

    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("dvc.yaml", "dvc.lock", "params.yaml")}
    pipeline, lock, params = (yaml.load(text, yaml.CSafeLoader) for text in texts.values())
    params["run"] |= {"models": params["run"]["models"][:1], "datasets": params["run"]["datasets"][:1]}
    stages = ("generate", "capture", "attention", "generate_pairs", "capture_pairs", "patch")
    item = f"@{params['run']['models'][0]}"
    pipeline["stages"] = {name: pipeline["stages"][name] for name in stages}
    lock["stages"] = {
        name: value for name, value in lock["stages"].items() if name.split("@")[0] in stages and item in name
    }
    for name, content in (("dvc.yaml", pipeline), ("dvc.lock", lock), ("params.yaml", params)):
        (tmp_path / name).write_text(yaml.safe_dump(content, sort_keys=False))
    Repo.init(str(tmp_path), no_scm=True).close()
    before = changed_params(tmp_path)
    params["resources"] = {"executor": "ray", "ray_address": "auto", "workers": 8, "start_seconds": 5.0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert changed_params(tmp_path) == before
    params["capture"]["limit"] = 17
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert "capture" in changed_params(tmp_path)
