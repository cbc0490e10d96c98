"""Runs shards on a Ray cluster: one actor per GPU (or per node without one) holds the job, so its model loads once.

finish(job, store, shard) of every shard -> results in shard order, with the bytes of a local run.

A new actor replaces a dead one, whose shard goes to whichever actor is free, up to ATTEMPTS times. (Ray's own restarts
and retries tie a shard to its actor, which may never find a place again.) An actor that was only cut off may still be
writing the shard; that is harmless: temporary names are unique, and both write the same bytes. The driver keeps the
lock on the store. The workers' environment names the shards (see r2a_core.infra.environment): the driver may have no
GPU. Workers that differ are refused. Only paths and small records travel over the network.
"""

import logging
import os
import platform
import socket
import subprocess
import sys
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from r2a_core.config import ResourceParams
from r2a_core.infra.environment import device_type, parts_of, versions
from r2a_core.infra.errors import MissingPrerequisite, R2AError
from r2a_core.infra.files import TEMPORARY, folder_digest

log = logging.getLogger(__name__)

PACKAGE = Path(__file__).resolve().parent.parent  # r2a_core

ATTEMPTS = 3  # of one shard, or of starting a worker, before the run is given up

STORE_BYTES = 128 * 2**20  # of Ray's own object store on this machine; shards do not pass through it

ONLY_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0 = Ray listens on 127.0.0.1 only: it asks for no password

GUIDE = "docs/scaling.md says how to start one; resources.ray_address: null starts Ray on this machine"


class Store(Protocol):
    """A work store, as far as it is used here; `finish` gets the whole of it."""

    @property
    def folder(self) -> Path: ...

    @property
    def environment(self) -> str: ...

    def on(self, device: str) -> "Store": ...


def common(device: str) -> dict[str, str]:
    """Lists what a worker must share with the driver to write the same bytes: code, versions, the kind of device."""
    return {"code": folder_digest(PACKAGE), **versions(), "device": device}


class ShardWorker:
    """The process that finishes shards, one at a time. Ray gives it one GPU, or none."""

    def __init__(self, finish: Callable[..., Any], job: Any, store: Store, threads: int) -> None:
        """threads: CPU threads of torch."""
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
        for chatty in ("httpx", "transformers"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        self.finish_shard, self.job, self.store = finish, job, store.on(job.device)
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)  # if torch is imported later
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)

    def check(self, marker: str, driver: dict[str, str]) -> str:
        """Returns the environment of this worker's shards. marker: a file in the driver's store.

        Raises R2AError when this worker cannot write the driver's bytes into that store.
        """
        node = platform.node()
        if not (self.store.folder / marker).is_file():
            raise R2AError(
                f"the node {node} does not see the work store {self.store.folder}",
                "put the project on a file system that all nodes share, at the same path",
            )
        own = common(device_type(self.store.environment))
        if unlike := [name for name, value in driver.items() if own[name] != value]:
            raise R2AError(
                f"the worker on {node} differs from the driver in {', '.join(unlike)}",
                "run driver and workers from one environment and one checkout, with a torch that can use the GPUs",
            )
        return self.store.environment

    def finish(self, shard: Any) -> Any:
        """Finishes one shard."""
        return self.finish_shard(self.job, self.store, shard)


def finish_on_ray(
    finish: Callable[..., Any], job: Any, store: Store, shards: Sequence[Any], resources: ResourceParams
) -> Iterator[Any]:
    """Yields `finish(job, store, shard)` of every shard, in shard order. See `finish_shards`.

    Raises what `finish` raises; R2AError when workers keep dying at one shard; MissingPrerequisite when there is no
    Ray, no cluster, no GPU where R2A_DEVICE=cuda wants one, or no worker within resources.start_seconds.
    """
    import torch

    if job.device not in ("auto", "cpu", "cuda"):
        raise R2AError(
            f"R2A_DEVICE={job.device} names a device, but Ray chooses one for each worker",
            "set it to auto, cuda or cpu",
        )
    with ray_cluster(resources) as ray, shared_marker(store) as marker:
        gpus, count = gpus_and_workers(ray, job.device, resources.workers)
        actor = ray.remote(ShardWorker).options(num_cpus=1, num_gpus=gpus, scheduling_strategy="SPREAD")
        unloaded = replace(job)  # without a model that is loaded here
        threads, here = torch.get_num_threads(), common("cuda" if gpus else "cpu")

        def start() -> tuple[Any, Any]:
            worker = actor.remote(finish, unloaded, store, threads)
            return worker, worker.check.remote(marker, here)

        count = min(count, len(shards))
        log.info("Ray: up to %d %s", count, "GPUs, a worker each" if gpus else "workers without a GPU")
        yield from pool_results(ray, start, count, shards, resources.start_seconds)


def pool_results(
    ray: Any, start: Callable[[], tuple[Any, Any]], count: int, shards: Sequence[Any], start_seconds: float
) -> Iterator[Any]:
    """Yields the results of all shards, in order, from a pool of `count` workers.

    start: makes a worker and the reference to its environment, ready once it has started and passed its check. Only
    then does it get shards, so a worker that finds no place in the cluster holds none back. Raises R2AError when
    environments differ.
    """
    lost = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)
    waiting, idle, deaths = deque(range(len(shards))), list[Any](), Counter[int | None]()
    running: dict[Any, tuple[Any, int | None]] = {}  # reference -> worker, number of its shard (None while it starts)
    done: dict[int, Any] = {}
    environments: set[str] = set()

    def add_worker() -> None:
        worker, ready = start()
        running[ready] = worker, None

    for _ in range(count):
        add_worker()
    for wanted in range(len(shards)):
        while wanted not in done:
            while idle and waiting:
                worker, number = idle.pop(), waiting.popleft()
                running[worker.finish.remote(shards[number])] = (worker, number)
            ready, _ = ray.wait(list(running), num_returns=1, timeout=start_seconds)
            if not ready and all(number is None for _, number in running.values()):
                raise no_worker(ray, start_seconds)
            for reference in ready:
                worker, number = running.pop(reference)
                try:
                    result = ray.get(reference)
                except lost as error:
                    ray.kill(worker)  # it may only be cut off
                    record_death(deaths, number, len(shards), " ".join(str(error).split()))
                    waiting.extendleft([] if number is None else [number])
                    add_worker()
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, R2AError | OSError):
                        raise error.cause from None
                    raise
                else:
                    idle.append(worker)
                    if number is None:
                        environments.add(result)
                        check_alike(environments)
                    else:
                        done[number] = result
        yield done.pop(wanted)


def check_alike(environments: set[str]) -> None:
    """Raises R2AError when workers compute in different environments."""
    if len(environments) > 1:
        first, second = (set(parts_of(name)) for name in sorted(environments)[:2])
        raise R2AError(
            f"workers differ: {', '.join(sorted(first - second))} and {', '.join(sorted(second - first))}",
            "their bytes would differ too: use nodes of one kind of processor and GPU",
        )


def record_death(deaths: Counter[int | None], number: int | None, count: int, cause: str) -> None:
    """Counts the death of a worker, at a shard or while starting. Raises R2AError at the last attempt."""
    deaths[number] += 1
    where = "while starting" if number is None else f"at shard {number + 1} of {count}"
    cause = cause[max(cause.find("The actor is dead because"), 0) :][:300]
    if deaths[number] >= ATTEMPTS:
        raise R2AError(
            f"{ATTEMPTS} workers died {where}; the last: {cause}",
            "a worker killed for memory needs smaller batches or fewer workers a node; finished shards are kept",
        )
    log.warning("a worker died %s (%d of %d attempts): %s", where, deaths[number], ATTEMPTS, cause)


def no_worker(ray: Any, seconds: float) -> MissingPrerequisite:
    """Makes the error of a cluster that has no place for any worker."""
    left = ray.available_resources()
    free = ", ".join(f"{left.get(name, 0):g} {name}" for name in ("GPU", "CPU"))
    return MissingPrerequisite(
        f"no worker started within {seconds:g} s; free in the Ray cluster: {free}",
        "wait for its other jobs to end, lower what they hold, or raise resources.start_seconds",
    )


@contextmanager
def shared_marker(store: Store) -> Iterator[str]:
    """Yields the name of a file in the store, there for as long as the workers are."""
    path = store.folder / f"{TEMPORARY}{uuid.uuid4().hex[:8]}-shared"
    path.touch()
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def ray_cluster(resources: ResourceParams) -> Iterator[Any]:
    """Yields the module ray, connected to the cluster; on leaving, disconnected, which ends the workers."""
    address = resources.ray_address
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    own: dict[str, Any] = {}
    if address is None:
        os.environ.setdefault(ONLY_LOOPBACK, "0")
        cpus = max(os.cpu_count() or 1, resources.workers or 1)
        own = {"num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    try:
        import ray
    except ImportError:
        raise MissingPrerequisite(
            "resources.executor is ray, but Ray is not installed",
            "pip install '.[ray]', or set resources.executor to local",
        ) from None
    if address is not None:
        check_reachable(address)
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, **own)
    except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
        raise no_cluster(address or "this machine", error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def check_reachable(address: str, seconds: float = 60.0) -> None:
    """Raises MissingPrerequisite when no cluster answers at `address`; Ray itself would try for many minutes."""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=min(seconds, 10)).close()
        except (OSError, ValueError) as error:
            raise no_cluster(address, error) from None
    if not address.startswith("ray://"):
        command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
        try:
            answer = subprocess.run(command, timeout=seconds, check=False, capture_output=True)
        except subprocess.TimeoutExpired as error:
            raise no_cluster(address, error) from None
        if answer.returncode != 0:
            raise no_cluster(address, answer.stderr.decode(errors="replace").strip().rpartition("\n")[2])


def no_cluster(address: str, reason: object) -> MissingPrerequisite:
    return MissingPrerequisite(f"no Ray cluster at {address}: {reason}", GUIDE)


def gpus_and_workers(ray: Any, device: str, workers: int | None) -> tuple[int, int]:
    """Chooses the GPUs that a worker takes (0 or 1) and how many workers there are."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if device == "cpu" or (device == "auto" and gpus == 0):
        nodes = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1)
        return 0, workers or max(nodes, 1)
    if gpus == 0 and workers is None:
        raise MissingPrerequisite(
            "R2A_DEVICE=cuda, but the Ray cluster has no GPU",
            "start Ray on nodes with GPUs, or set resources.workers where nodes come on demand",
        )
    return 1, workers or gpus
